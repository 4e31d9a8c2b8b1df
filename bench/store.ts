/** What the journal costs, each figure beside the bare operation it is made of, measured in turns
 *  on the same machine: the ratio is what can be compared between machines.
 *  Run: node bench/store.ts [state dir on the disk to measure] */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { realClock } from '../base/clock.ts';
import { silentLogger } from '../base/logger.ts';
import { effectIdSchema, sessionIdSchema } from '../protocol/ids.ts';
import type { NewEvent, Store } from '../store/contract.ts';
import { openStore, type StoreOptions } from '../store/index.ts';

const ROUNDS = 600;
const PRODUCERS = 100;
const REPLAY_EVENTS = 50_000;

const session = sessionIdSchema.parse('s_00000000000000b1');
const effect = effectIdSchema.parse('1.1');
const text = 'The quick brown fox jumps over the lazy dog. '.repeat(8);

const delta: NewEvent = {
  session,
  type: 'model.delta',
  turn: 1,
  effect,
  data: { step: 1, attempt: 1, kind: 'text', text, offset: 1 },
};
const renamed: NewEvent = { session, type: 'session.renamed', data: { name: text.slice(0, 60) } };
const created: NewEvent = {
  session,
  type: 'session.created',
  data: {
    agent: 'bench',
    workspace: '/w',
    private_workspace: false,
    labels: {},
    approve: 'ask',
    source: 'bench',
  },
};

const base = process.argv[2] ?? tmpdir();

function openAt(stateDir: string, options: Partial<StoreOptions> = {}): Promise<Store> {
  const ports = { clock: realClock, logger: silentLogger };
  return openStore({ stateDir, ...ports, verifyInBackground: false, ...options });
}

async function withStore(
  run: (store: Store, path: string) => Promise<void>,
  options: Partial<StoreOptions> = {},
): Promise<void> {
  const path = mkdtempSync(join(base, 'prx-bench-'));
  const store = await openAt(path, options);
  await store.append({ events: [created] });
  await run(store, path);
  await store.close();
  rmSync(path, { recursive: true });
}

async function timeMs(run: () => unknown): Promise<number> {
  const startedMs = realClock.nowMs();
  await run();
  return realClock.nowMs() - startedMs;
}

function quantile(times: readonly number[], q: number): number {
  const sorted = times.toSorted((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

function report(name: string, times: readonly number[], bare?: readonly number[]): void {
  const show = (q: number): string => quantile(times, q).toFixed(3);
  console.log(`${name.padEnd(48)} ms p50 ${show(0.5)} p99 ${show(0.99)} max ${show(1)}`);
  if (bare === undefined) return;
  const floor = quantile(bare, 0.5);
  const ratio = quantile(times, 0.5) / floor;
  console.log(`${''.padEnd(48)}    bare p50 ${floor.toFixed(3)}, ratio ${ratio.toFixed(1)}`);
}

/** An append and a sync of a plain file: the floor of a power-durable append. */
function bareSync(path: string): { readonly write: () => void; readonly stop: () => void } {
  const fd = openSync(path, 'a');
  const line = `${JSON.stringify(renamed)}\n`;
  const write = (): void => {
    writeSync(fd, line);
    fdatasyncSync(fd);
  };
  return { write, stop: () => closeSync(fd) };
}

/** A message to a thread and back: the floor of a process-durable append. */
function bareThread(): { readonly ask: () => Promise<void>; readonly stop: () => Promise<number> } {
  const source = `const { parentPort } = require('node:worker_threads');
    parentPort.on('message', (m) => parentPort.postMessage(m));`;
  const thread = new Worker(source, { eval: true });
  const message = JSON.stringify(delta);
  const ask = () =>
    new Promise<void>((resolve) => {
      thread.once('message', () => resolve());
      thread.postMessage(message);
    });
  return { ask, stop: () => thread.terminate() };
}

async function measureAppends(): Promise<void> {
  await withStore(async (store, path) => {
    const sync = bareSync(join(path, 'bare'));
    const thread = bareThread();
    const times: Record<'power' | 'process' | 'sync' | 'thread', number[]> = {
      power: [],
      process: [],
      sync: [],
      thread: [],
    };
    await thread.ask();
    for (let i = 0; i < ROUNDS; i += 1) {
      times.process.push(await timeMs(() => store.append({ events: [delta] })));
      times.thread.push(await timeMs(thread.ask));
      times.power.push(await timeMs(() => store.append({ events: [renamed] })));
      times.sync.push(await timeMs(sync.write));
    }
    report('append, process-durable (bare: thread)', times.process, times.thread);
    report('append, power-durable (bare: write + fdatasync)', times.power, times.sync);
    sync.stop();
    await thread.stop();
  });
}

async function measureGroups(): Promise<void> {
  await withStore(async (store) => {
    const produce = async (): Promise<void> => {
      for (let i = 0; i < 20; i += 1) await store.append({ events: [renamed] });
    };
    const tookMs = await timeMs(() => Promise.all(Array.from({ length: PRODUCERS }, produce)));
    const rate = Math.round((PRODUCERS * 20) / (tookMs / 1000));
    console.log(`${'power-durable appends, 100 producers'.padEnd(48)} ${rate}/s`);
  });
}

/** How long a delta takes while power-durable appends wait for a sync of `syncDelayMs`. */
async function measureSlowSync(syncDelayMs: number): Promise<void> {
  const measure = async (store: Store): Promise<number[]> => {
    let isOver = false;
    const power = (async () => {
      while (!isOver) await store.append({ events: [renamed] });
    })();
    const times: number[] = [];
    for (let i = 0; i < ROUNDS; i += 1) {
      times.push(await timeMs(() => store.append({ events: [delta] })));
      await realClock.sleep(1);
    }
    isOver = true;
    await power;
    return times;
  };
  let quick: readonly number[] = [];
  await withStore(async (store) => {
    quick = await measure(store);
  });
  await withStore(
    async (store) => {
      report(
        `delta behind syncs of ${syncDelayMs} ms (bare: no delay)`,
        await measure(store),
        quick,
      );
    },
    { faults: { syncDelayMs } },
  );
}

async function measureReplay(): Promise<void> {
  await withStore(async (store, path) => {
    const batch = Array.from({ length: 500 }, () => delta);
    for (let i = 0; i < REPLAY_EVENTS; i += batch.length) await store.append({ events: batch });
    const rate = (tookMs: number): number => Math.round(REPLAY_EVENTS / (tookMs / 1000));
    const replay = await timeMs(async () => {
      for (let since = 0; ; ) {
        const page = await store.readEvents(session, { since, limit: 1000 });
        since = page.next;
        if (since === page.last_seq) return;
      }
    });
    const bare = await timeMs(() => {
      const db = new DatabaseSync(join(path, 'journal.db'), { readOnly: true });
      for (const row of db.prepare('SELECT * FROM events ORDER BY id').iterate()) {
        JSON.parse(String(row['data']));
      }
      db.close();
    });
    console.log(
      `${'replay, verified (bare: SELECT + JSON.parse)'.padEnd(48)} ${rate(replay)} events/s  ` +
        `bare ${rate(bare)}/s  ratio ${(replay / bare).toFixed(1)}`,
    );
    const verify = await timeMs(() => store.verify());
    console.log(`${'full verification'.padEnd(48)} ${rate(verify)} events/s`);
    const history = Array.from({ length: 20 }, () => timeMs(() => store.readHistory(session)));
    report('history of that session', await Promise.all(history));
  });
}

async function measureOpen(): Promise<void> {
  const path = mkdtempSync(join(base, 'prx-bench-'));
  const opens: number[] = [];
  const threads: number[] = [];
  for (let i = 0; i < 10; i += 1) {
    threads.push(
      await timeMs(async () => {
        const thread = bareThread();
        await thread.ask();
        await thread.stop();
      }),
    );
    let store: Store | undefined;
    opens.push(
      await timeMs(async () => {
        store = await openAt(path);
      }),
    );
    await store?.close();
  }
  rmSync(path, { recursive: true });
  report('open, from TypeScript (bare: one thread)', opens, threads);
}

await measureAppends();
await measureGroups();
await measureSlowSync(500);
await measureReplay();
await measureOpen();
