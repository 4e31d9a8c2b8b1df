/** Where a proof runs: a supervisor of its own in a scratch folder, perhaps as an unprivileged
 *  user, and what watches it from outside. */
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, createBench, OTHER_UID, type Running } from '../test/integration/harness.ts';
import { createEnclosure, type Enclosure } from './census.ts';
import { createProcessorGroup } from './processor-group.ts';
import type { ProofOptions } from './proof.ts';

export interface Stand {
  readonly bench: Bench;
  readonly client: Bench['client'];
  /** The one that lives, or the last one. */
  supervisor(): Running;
  /** Starts one, enclosed. */
  start(): Promise<Running>;
  /** @param file  one that is there from the beginning, empty */
  createWorkspace(name: string, file?: string): string;
  /** Undefined where this machine has no control groups for it. */
  readonly enclosure: Enclosure | undefined;
  readonly notes: readonly string[];
  close(): Promise<void>;
}

/** The scripted model, no compaction (it would ask the model something that is in no script), and
 *  room for the zoo. `extra` may begin with keys of [security.sandbox]. */
export const toConfig = (providerUrl: string, extra = ''): string => `
[agent]
model = "scripted"
[agent.loop]
compaction_threshold_tokens = 10000000
compaction_strategy = "truncate"
[provider]
base_url = "${providerUrl}"
[log]
level = "warn"
[security.sandbox]
max_pids = 256
${extra}
`;

/** @param prepare  changes the installation before its supervisor starts */
export async function openStand(
  config: string,
  options: ProofOptions,
  prepare?: (dir: string) => void,
): Promise<Stand> {
  const isRoot = process.getuid?.() === 0;
  if (options.asUser && !isRoot) {
    throw new RangeError('--as-user needs root: without it every run is as an unprivileged user');
  }
  const uid = options.asUser ? OTHER_UID : undefined;
  const processors = createProcessorGroup(uid);
  const around = processors === undefined ? [] : processors.around;
  const bench = createBench(config, uid, around);
  prepare?.(bench.dir);
  const enclosure = createEnclosure();
  let running: Running | undefined;
  const clear = (): void => {
    // Twice: what was started while the first ones were killed.
    for (let round = 0; round < 2; round += 1) {
      for (const pid of enclosure?.strangers([]) ?? []) killQuietly(pid);
    }
    void bench.close(); // It is over when it returns: nothing in it waits.
    enclosure?.close();
    processors?.close();
  };
  // Also when this program fails in the middle.
  process.once('exit', clear);
  const stand: Stand = {
    bench,
    client: bench.client,
    enclosure,
    notes: [
      ...(enclosure === undefined
        ? ['no control group: survivors are looked for without one']
        : []),
      processors === undefined
        ? 'the supervisor may not divide its processors here: a tool and a token wait as equals'
        : 'the supervisor has a control group of the processor, as its unit gives it one',
    ],
    supervisor() {
      if (running === undefined) throw new Error('no supervisor was started');
      return running;
    },
    async start() {
      running = await bench.start();
      enclosure?.enclose(running.pid);
      return running;
    },
    createWorkspace(name, file) {
      const path = join(bench.dir, name);
      mkdirSync(path);
      const paths = file === undefined ? [path] : [path, join(path, file)];
      if (file !== undefined) writeFileSync(join(path, file), '');
      if (uid !== undefined) for (const each of paths) chownSync(each, uid, uid);
      return path;
    },
    async close() {
      // Before the folder goes: the running supervisor would write into it.
      if (running !== undefined) {
        running.kill('SIGKILL');
        await running.exited;
      }
      process.off('exit', clear);
      clear();
    },
  };
  await stand.start();
  return stand;
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
