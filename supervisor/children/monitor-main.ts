/** The monitor's process: samples the resident memory of the pids it is asked about, one array a
 *  question, on a thread pool that nobody else makes busy. A line in, a line out. It holds nothing
 *  and ends with its pipe. pidusage keeps a file of each process open, and a pid that was given to
 *  another process reads as gone for ever: so it is asked only about processes that live, and when
 *  a pid it knows has another start time the monitor ends, to be started anew. */
import { createInterface } from 'node:readline';
import { findIdentity } from '../../base/process.ts';
import { readRealRss } from './memory.ts';
import { type MonitorAnswer, monitorQuestionSchema } from './monitor.ts';

/** Start times by pid. Not forgotten with the process: pidusage does not forget its file either. */
const known = new Map<number, number>();
/** So many pids were seen: a new life costs less than remembering more. */
const KNOWN_MAX = 10_000;

async function answer(line: string): Promise<void> {
  const { id, pids } = monitorQuestionSchema.parse(JSON.parse(line));
  const live = pids.flatMap((pid) => findIdentity(pid) ?? []);
  for (const { pid, startTicks } of live) {
    if ((known.get(pid) ?? startTicks) !== startTicks) process.exit(0);
  }
  if (known.size > KNOWN_MAX) process.exit(0);
  for (const { pid, startTicks } of live) known.set(pid, startTicks);
  const rss = await readRealRss(live.map(({ pid }) => pid));
  const reply: MonitorAnswer = { id, rss: [...rss] };
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  answer(line).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  });
});
lines.on('close', () => process.exit(0));
process.stdout.on('error', () => process.exit(0));
