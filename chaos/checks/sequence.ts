/** One gapless sequence a session, and every client saw exactly it. */
import { digestEvent, type History, type Violation, violate } from '../history.ts';

export function checkSequences(history: History): readonly Violation[] {
  return [...checkJournals(history), ...checkClients(history)];
}

function checkJournals({ journals }: History): Violation[] {
  return [...journals].flatMap(([session, journal]) => {
    const at = journal.findIndex((event, index) => event.seq !== index + 1);
    const gap = journal[at];
    if (gap !== undefined) {
      const message = `the journal has event ${gap.seq} in place ${at + 1}`;
      return [violate('sequence', message, { session, events: [gap] })];
    }
    const risen = journal.find((event) => event.epoch !== journal[0]?.epoch);
    if (risen === undefined) return [];
    // The epoch says that synced power failed; no death of a process may do that.
    const message = `the journal's epoch rose to ${risen.epoch} without a power loss`;
    return [violate('sequence', message, { session, events: [risen] })];
  });
}

function checkClients({ journals, clients }: History): Violation[] {
  const digests = new Map(
    [...journals].map(([session, journal]) => [session, journal.map(digestEvent)]),
  );
  return clients.flatMap(({ session, client, digests: seen, problems }) => {
    const found = problems.map((problem) =>
      violate('sequence', `client ${client}: ${problem}`, { session }),
    );
    const journal = digests.get(session) ?? [];
    const at = seen.findIndex((digest, index) => digest !== journal[index]);
    const event = journals.get(session)?.[at];
    if (at >= 0) {
      const message = `client ${client} saw another event ${at + 1} than the journal has`;
      found.push(violate('sequence', message, { session, events: event ? [event] : [] }));
    } else if (seen.length !== journal.length) {
      const message = `client ${client} saw ${seen.length} of ${journal.length} events`;
      found.push(violate('sequence', message, { session }));
    }
    return found;
  });
}
