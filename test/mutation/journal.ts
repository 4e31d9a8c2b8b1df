/** Invariants 1 to 3: what is durable, in which order it is seen, and what is accepted once. */
import { bySimulation, byTest, type Mutation } from './mutation.ts';

export const journalMutations: readonly Mutation[] = [
  {
    id: '1.answer-waits-for-the-sync',
    line: 'the answer to a power-durable append waits for its sync',
    file: 'store/append-queue.ts',
    original: 'if (isPower) mark.whenSafe(outcome.id).then(() => resolve(result), reject);',
    replacement: 'if (!isPower) mark.whenSafe(outcome.id).then(() => resolve(result), reject);',
    finder: byTest(
      'store/durability',
      'a conversation waits for the sync of what it shows, not of what it leaves out',
    ),
  },
  {
    id: '1.the-sync-itself',
    line: 'the write-ahead log is synced',
    file: 'store/wal-sync.ts',
    original: '      await promisify(fdatasync)(this.#fd);\n      this.#syncedId',
    replacement: '      this.#syncedId',
    finder: byTest(
      'store/real-faults',
      'sync: EIO is for good: nothing more is acknowledged, a new start reads what is there (FAULTS 56)',
    ),
  },
  {
    id: '1.only-what-was-committed-before',
    line: 'a sync makes safe what was committed before it began, not what came during it',
    file: 'store/wal-sync.ts',
    original: 'this.#syncedId = id;',
    replacement: 'this.#syncedId = this.#committedId();',
    finder: byTest(
      'store/durability',
      'a sync makes safe what was committed before it began, and nothing that came during it',
    ),
  },
  {
    id: '1.failed-sync-stands',
    line: 'after a failed sync nothing is written any more',
    file: 'store/wal-sync.ts',
    original: '    if (this.#failure !== undefined) throw this.#failure;',
    replacement: '',
    finder: byTest(
      'store/durability',
      'a sync that was asked for before another one failed fails as well (FAULTS 56)',
    ),
  },
  {
    id: '1.written-back',
    line: 'what nobody waits for is written back a moment later',
    file: 'store/wal-sync.ts',
    original: 'this.#writingBack = this.#writeBack();',
    replacement: 'this.#writingBack = undefined;',
    finder: byTest(
      'store/wal-sync',
      'what was committed is written back though nobody asks, and a failure of that is for good',
    ),
  },
  {
    id: '1.reader-waits-for-the-sync',
    line: 'what a reader shows is held back until it is synced',
    file: 'store/store.ts',
    original: '    await mark.whenSafe(powerId);\n',
    replacement: '',
    finder: byTest(
      'store/durability',
      'a failed sync is for good: what is synced is read, the rest refused (FAULTS 56)',
    ),
  },
  {
    id: '1.duplicate-waits-for-the-sync',
    line: 'a duplicate is answered when the first claim is synced',
    file: 'store/append-queue.ts',
    original: `mark.whenSafe(outcome.id).then(() => resolve(result), reject);
      return;`,
    replacement: `resolve(result);
      return;`,
    finder: byTest('store/durability', 'a duplicate waits for the sync of the first claim'),
  },
  {
    id: '1.published-before-answered',
    line: 'an append of a session is answered when it is published',
    file: 'supervisor/sessions/journal.ts',
    original: '      if (last !== undefined) await bus.reached(session, last.seq);\n',
    replacement: '',
    finder: byTest(
      'supervisor/sessions/journal',
      'an append is answered when it is published, not when it is stored',
    ),
  },
  {
    id: '1.epoch-rises',
    line: 'a reboot after an unclean end begins a new epoch',
    file: 'store/journal-file.ts',
    original: 'last > 0 && (wasClean || isSameBoot)',
    replacement: 'last > 0',
    finder: byTest('store/crash', 'its number %s'),
  },
  {
    id: '1.unclean-until-stopped',
    line: 'a journal that is open is not marked as cleanly stopped',
    file: 'store/journal-file.ts',
    original: "    writeMeta(db, 'clean', '0');\n",
    replacement: '',
    finder: byTest(
      'store/crash',
      'all that is visible is written anew before anything else, so a lost page harms nobody (FAULTS 56)',
    ),
  },
  {
    id: '2.nothing-lost-between-page-and-queue',
    line: 'a reader listens before it reads the journal',
    file: 'supervisor/sessions/bus.ts',
    original: `        reader.lagging = false;
        for (;;) {
          const events = await readShared(channel, source, last);
          if (events.length === 0 || signal.aborted || reader.ended) break;`,
    replacement: `        for (;;) {
          const events = await readShared(channel, source, last);
          reader.lagging = events.length > 0;
          if (events.length === 0 || signal.aborted || reader.ended) break;`,
    finder: byTest(
      'supervisor/sessions/bus',
      'shows every reader since+1 … last, each once, whatever the order of commits (FAULTS 63)',
    ),
  },
  {
    id: '2.in-order-of-sequence',
    line: 'an event waits for those before it',
    file: 'supervisor/sessions/bus.ts',
    original: 'const next = channel.waiting.get(channel.published + 1);',
    replacement: 'const next = [...channel.waiting.values()][0];',
    finder: byTest(
      'supervisor/sessions/bus',
      'shows every reader since+1 … last, each once, whatever the order of commits (FAULTS 63)',
    ),
  },
  {
    id: '2.each-once',
    line: 'what was read from the journal is not given again from the queue',
    file: 'supervisor/sessions/bus.ts',
    original: '        if (event.seq <= last) continue;\n        assert(event.seq === last + 1',
    replacement: '        assert(event.seq <= last + 1',
    finder: byTest(
      'supervisor/sessions/bus',
      'shows every reader since+1 … last, each once, whatever the order of commits (FAULTS 63)',
    ),
  },
  {
    id: '2.page-says-where-it-ends',
    line: 'a page that was cut by its bytes goes on at its last event',
    file: 'store/reader.ts',
    original: 'rows.length < limit && countBytes(rows) <= PAGE_BYTES_MAX',
    replacement: 'rows.length < limit',
    finder: byTest('store/cursor', 'ends at 1000 events and at about 4 MiB'),
  },
  {
    id: '2.chain-is-checked',
    line: 'each row continues the chain of the one before',
    file: 'store/reader.ts',
    original: '    checkRow(row, link);\n',
    replacement: '    checkRow(row);\n',
    finder: byTest('store/damage', 'whose checksum was forged with it breaks the chain'),
  },
  {
    id: '2.cursor-of-lost-epoch',
    line: 'a cursor that stands on an event of a later epoch is refused',
    file: 'store/reader.ts',
    original: '(stands === undefined || stands.epoch <= epoch)',
    replacement: '(stands === undefined || stands.epoch <= epoch + 1)',
    finder: byTest(
      'store/cursor',
      'a cursor that stands on a lost event is refused, whoever has its number now',
    ),
  },
  {
    id: '2.removed-is-named',
    line: 'a cursor before what retention left is refused, to the number',
    file: 'store/reader.ts',
    original: 'since >= removed.seq) return;',
    replacement: 'since >= removed.seq - 1) return;',
    finder: byTest('store/trim', 'refuses older cursors by name: 410 with the first that is left'),
  },
  {
    id: '2.never-behind-a-gap',
    line: 'live output that could not be written closes the feed',
    file: 'supervisor/effects/live-feed.ts',
    original: '        isWhole = false;\n',
    replacement: '',
    finder: byTest(
      'supervisor/effects/live-feed',
      'takes nothing more once a piece could not be written',
    ),
  },
  {
    id: '2.rest-from-the-spool',
    line: 'what a closed feed left out is read from the spool before the end',
    file: 'supervisor/effects/model-call.ts',
    original: '  return (await readEnd(call, attempt)) ?? outcome;\n',
    replacement: '  return outcome;\n',
    finder: byTest(
      'supervisor/effects/live-feed',
      'a model: the text is whole and in order, and paid for once',
    ),
  },
  {
    id: '2.client-goes-on-behind-the-last',
    line: 'a client that lost its stream goes on behind what it has seen',
    file: 'api/client.ts',
    original: 'since = event.seq;',
    replacement: 'since = event.seq - 1;',
    finder: byTest(
      'api/client',
      'goes on behind what it has seen when the server comes back (FAULTS 38, 63, 66)',
    ),
  },
  {
    id: '3.claim-is-looked-up',
    line: 'the writer looks an idempotency key up in the transaction that claims it',
    file: 'store/writer.ts',
    original: 'request.unique === null ? undefined : this.#findClaim(request.unique);',
    replacement: 'undefined;',
    finder: byTest('store/append', 'append once, whoever comes second, also within one tick'),
  },
  {
    id: '3.key-means-one-content',
    line: 'a key that comes with another content is a conflict',
    file: 'supervisor/sessions/session.ts',
    original: 'if (!sameDigest) {',
    replacement: 'if (!sameDigest && key === "") {',
    finder: byTest('supervisor/sessions/inputs', 'with another content is a conflict'),
  },
  {
    id: '3.known-key-first',
    line: 'a known key is answered before anything is refused',
    file: 'supervisor/sessions/session.ts',
    original: `    if (claimed !== undefined)
      return toDuplicate(claimed.event, claimed.digest === digest, key ?? '');
`,
    replacement: '',
    finder: bySimulation(300),
  },
  {
    id: '3.key-outlives-retention',
    line: 'retention keeps the event of a claimed key',
    file: 'store/trim.ts',
    original:
      "db.run('UPDATE uniques SET event = ? WHERE scope = ? AND key = ?', event, scope, key);",
    replacement: '',
    finder: byTest('store/trim', 'keeps an idempotency key for as long as the session lives'),
  },
  {
    id: '3.steered-again',
    line: 'an input that was given to a step is given to it again after a death',
    file: 'supervisor/effects/gate.ts',
    original: 'const inputs = [...known, ...fresh];',
    replacement: 'const inputs = fresh;',
    finder: bySimulation(300),
  },
  {
    id: '3.no-steering-into-the-past',
    line: 'a step that has begun takes no later input',
    file: 'supervisor/effects/gate.ts',
    original: 'known.length > 0 || hasBegun ? []',
    replacement: 'known.length > 0 ? []',
    finder: byTest(
      'supervisor/sessions/inputs',
      'steer: does not go to a step that failed for good, though its worker died meanwhile',
    ),
  },
  {
    id: '3.accepted-is-durable',
    line: 'input.accepted is of the class that is synced',
    file: 'protocol/events.ts',
    original: "  'input.accepted': [\n    'power',",
    replacement: "  'input.accepted': [\n    'process',",
    finder: byTest('protocol/vocabulary', 'that a client acts on survive a power loss'),
  },
];
