/** What becomes of processes nobody speaks to: the verdict as a table, the door and its asker
 *  linked in memory, and the registry over a table of processes that do not exist. */
import { duplexPair } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import type { ProcessIdentity } from '../../../base/process.ts';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import { parseEffectId } from '../../../protocol/ids.ts';
import {
  type OrphanFace,
  openOrphanDoor,
  type RunningSpan,
} from '../../../protocol/orphan-door.ts';
import { createStreamTransport } from '../../../protocol/transport.ts';
import type { ProcessRecord, Store } from '../../../store/contract.ts';
import {
  CANCEL_MS_MAX,
  decideOrphan,
  IDLE_MS_MAX,
  type OrphanFacts,
  OVERDUE_MS_MAX,
  SILENT_MS_MAX,
} from '../../../supervisor/children/orphan-verdict.ts';
import { createOrphans, type Orphans } from '../../../supervisor/children/orphans.ts';
import { createRegistry, type Ownership } from '../../../supervisor/children/registry.ts';

const session = 's_0123456789abcdef' as SessionId;
const other = 's_fedcba9876543210' as SessionId;
const [first, second] = ['1.1', '1.2'] as EffectId[] as [EffectId, EffectId];
const gateway: ProcessRecord = {
  ...{
    pid: 4711,
    startTicks: 7,
    bootId: 'b',
    kind: 'gateway',
    session: undefined,
    started_at: 't',
  },
};

const busy: OrphanFacts = {
  isKnown: true,
  runningCount: 1,
  idleForMs: 0,
  overdueMs: -1000,
  cancelledForMs: 0,
  silentForMs: 0,
  isWanted: true,
  foundForMs: 1000,
  limitMs: 60_000,
};
const unknown = { ...busy, isKnown: false, runningCount: 0, silentForMs: SILENT_MS_MAX + 1 };

describe('the verdict', () => {
  test.each<[string, OrphanFacts, ReturnType<typeof decideOrphan>]>([
    ['works within its deadline', busy, undefined],
    ['works, and is silent meanwhile', { ...busy, silentForMs: 60_000 }, undefined],
    ['is at its bound', { ...busy, overdueMs: OVERDUE_MS_MAX }, undefined],
    ['is past its bound', { ...busy, overdueMs: OVERDUE_MS_MAX + 1 }, 'overdue'],
    ['ends a cancel in time', { ...busy, cancelledForMs: CANCEL_MS_MAX }, undefined],
    ['does not end a cancel', { ...busy, cancelledForMs: CANCEL_MS_MAX + 1 }, 'cancelled'],
    ['is about to exit', { ...busy, runningCount: 0, idleForMs: IDLE_MS_MAX }, undefined],
    ['has nothing left', { ...busy, runningCount: 0, idleForMs: IDLE_MS_MAX + 1 }, 'idle'],
    ['has not answered yet', { ...unknown, silentForMs: SILENT_MS_MAX }, undefined],
    ['never answers, and is needed', unknown, undefined],
    ['never answers, and is not needed', { ...unknown, isWanted: false }, 'silent'],
    ['never answers, for too long', { ...unknown, foundForMs: 60_001 }, 'silent'],
  ])('on one that %s', (_name, facts, verdict) => {
    expect(decideOrphan(facts)).toBe(verdict);
  });
});

interface Rig {
  readonly orphans: Orphans;
  readonly killed: number[];
  readonly running: Map<EffectId, RunningSpan>;
  orphaned: boolean;
}

/** One gateway of an earlier supervisor behind its real door. */
function createRig(effects: readonly EffectId[]): Rig {
  const nowMs = realClock.nowMs();
  const span = { session, attempt: 1, startedMs: nowMs, deadlineMs: nowMs + 60_000 };
  const running = new Map(effects.map((effect) => [effect, { ...span, effect }]));
  const face: OrphanFace = {
    isOrphaned: () => rig.orphaned,
    running: () => [...running.values()],
    cancel: (_session, effect) => void running.delete(effect),
  };
  let serve: (stream: ReturnType<typeof duplexPair>[0]) => void = () => undefined;
  openOrphanDoor({
    ...{ runDir: '/run', kind: 'gateway', pid: gateway.pid, face },
    ...{ clock: realClock, logger: silentLogger },
    async listen({ onConnection }) {
      serve = onConnection;
      return { close: () => undefined };
    },
  });
  let alive = true;
  const killed: number[] = [];
  const orphans = createOrphans({
    ...{ clock: realClock, logger: silentLogger, runDir: '/run', limitMs: () => 60_000 },
    registry: {
      orphans: () => (alive ? [gateway] : []),
      kill({ pid }) {
        alive = false;
        killed.push(pid);
        return true;
      },
    },
    processes: {
      isAlive: () => alive,
      findIdentity: () => undefined,
      signalIdentity: () => false,
      listDescendants: () => [],
    },
    async connect(path) {
      expect(path).toBe('/run/gateway-4711.sock');
      const [ours, theirs] = duplexPair();
      serve(theirs);
      return createStreamTransport(ours, ours);
    },
    listUnfinished: async () => [],
  });
  const rig: Rig = { orphans, killed, running, orphaned: true };
  return rig;
}

async function eventually(holds: () => boolean): Promise<void> {
  const untilMs = realClock.nowMs() + 30_000;
  while (!holds() && realClock.nowMs() < untilMs) await realClock.sleep(5);
  expect(holds()).toBe(true);
}

describe('the asker', () => {
  test('knows which effects still run, and takes the rest for ended', async () => {
    const rig = createRig([first]);
    const { orphans } = rig;
    expect(orphans.mayWrite(session, second)).toBe(true);
    orphans.watch();
    await eventually(() => !orphans.mayWrite(session, second));
    expect(orphans.mayWrite(session, first)).toBe(true);
    expect(orphans.mayWrite(other, first)).toBe(false);
    expect(orphans.mayWrite(session, '1.1.1' as EffectId)).toBe(false);
    rig.running.delete(first);
    await eventually(() => !orphans.mayWrite(session, first));
    orphans.stop();
  });

  test('is careful while the other may still hear of more', async () => {
    const rig = createRig([]);
    rig.orphaned = false;
    rig.orphans.watch();
    await realClock.sleep(150);
    expect(rig.orphans.mayWrite(session, first)).toBe(true);
    rig.orphaned = true;
    await eventually(() => !rig.orphans.mayWrite(session, first));
    rig.orphans.stop();
  });

  test('cancels what runs, also when it was told so before the first answer', async () => {
    const { orphans, running } = createRig([first, second]);
    orphans.watch();
    orphans.cancel(session, first);
    await eventually(() => !running.has(first));
    expect(running.has(second)).toBe(true);
    orphans.cancel(session, second);
    await eventually(() => running.size === 0);
    expect(parseEffectId(second).call).toBeUndefined();
    orphans.stop();
  });
});

describe('[promise:nothing-outlives] the registry', () => {
  const identity = (pid: number): ProcessIdentity => ({ pid, startTicks: 5, bootId: 'b' });

  function createBook(
    marks: Readonly<Record<number, string>>,
    parents: Record<number, number[]>,
    stored?: Promise<void>,
  ) {
    const signalled: number[] = [];
    const records: ProcessRecord[] = [];
    const removed: number[] = [];
    const ownership: Ownership = {
      owner: 'me',
      marks: {
        find: () =>
          Object.entries(marks).map(([pid, mark]) => ({ identity: identity(Number(pid)), mark })),
        read: (pid) => marks[pid],
        listAncestors: (pid) => parents[pid] ?? [],
        pidMax: () => 1000,
        kill: ({ pid }) => signalled.push(pid) > 0,
      },
    };
    const store = {
      async putProcess(record: ProcessRecord) {
        await stored;
        records.push(record);
      },
      removeProcess: async ({ pid }: { pid: number }) => void removed.push(pid),
      listProcesses: async () => records,
    } as unknown as Store; // only these three are asked for
    const processes = {
      isAlive: ({ pid }: ProcessIdentity) => pid in marks,
      findIdentity: () => undefined,
      signalIdentity: () => false,
      listDescendants: () => [],
    };
    const ports = { store, clock: realClock, logger: silentLogger, processes, ownership };
    const list = (pid: number, kind: ProcessRecord['kind']): void =>
      void records.push({ ...identity(pid), kind, session, started_at: 't' });
    return { registry: createRegistry(ports), signalled, removed, list };
  }

  test('signals what is marked, nobody of ours, and nobody below or above us', async () => {
    const me = process.pid;
    const marks = { 10: 'me', 11: 'me', 12: 'other', 13: 'me', 14: 'me', 15: 'me', 16: 'me' };
    const parents = { [me]: [16, 1], 13: [me], 14: [20], 15: [1] };
    const { registry, signalled, list } = createBook({ ...marks, 20: 'me' }, parents);
    await registry.add({ kind: 'gateway', session: undefined, identity: identity(10) });
    list(20, 'sandbox');
    const { killed } = await registry.sweep();
    // 10 is held, 12 another's, 13 our child, 14 below an orphan host, 16 our ancestor.
    expect(signalled).toEqual([11, 15]);
    expect(killed.map(({ kind }) => kind)).toEqual(['unregistered', 'unregistered']);
    expect(registry.orphans().map(({ pid }) => pid)).toEqual([20]);
    expect(registry.hasHost(session)).toBe(true);
  });

  test('spares a command of a host that lives, not of one that is gone', async () => {
    const marks = { 20: 'me', 30: 'me.20.5', 31: 'me.21.5' };
    const { registry, signalled, list } = createBook(marks, {});
    list(20, 'sandbox');
    await registry.sweep();
    expect(signalled).toEqual([31]);
  });

  test('kills workers of the list, forgets what is gone, foreign or impossible', async () => {
    const marks = { 40: 'me', 41: 'other', 42: 'me' };
    const { registry, signalled, removed, list } = createBook(marks, { 42: [process.pid] });
    for (const pid of [40, 41, 43, 0, -1, 1, process.pid, 5000]) list(pid, 'worker');
    await registry.add({ kind: 'worker', session: undefined, identity: identity(42) });
    const { forgotten, killed } = await registry.sweep();
    expect(signalled.filter((pid) => pid !== 40)).toEqual([]);
    expect(killed).toContainEqual({ kind: 'worker', pid: 40 });
    expect(forgotten).toBe(7);
    expect(removed.sort()).toEqual([40, 41, 43, 0, -1, 1, process.pid, 5000].sort());
  });

  test('kills nobody who is not marked as ours, whatever its entry says', () => {
    const { registry, signalled } = createBook({ 60: 'other', 61: 'me' }, {});
    const entry = (pid: number): ProcessRecord => ({
      ...identity(pid),
      ...{ kind: 'sandbox', session, started_at: 't' },
    });
    expect([60, 61, 62].map((pid) => registry.kill(entry(pid)))).toEqual([false, true, false]);
    expect(signalled).toEqual([61]);
  });

  test('an entry counts when the store has it, and not before', async () => {
    const stored = Promise.withResolvers<void>();
    const { registry } = createBook({ 70: 'me' }, {}, stored.promise);
    let isAdded = false;
    const added = registry
      .add({ kind: 'worker', session: undefined, identity: identity(70) })
      .then(() => {
        isAdded = true;
      });
    await new Promise(setImmediate);
    expect(isAdded).toBe(false);
    stored.resolve();
    await added;
  });

  test('one that we let go is an orphan until it exits', async () => {
    const { registry } = createBook({ 50: 'me' }, { 50: [process.pid] });
    await registry.add({ kind: 'sandbox', session, identity: identity(50) });
    expect(registry.orphans()).toEqual([]);
    registry.disown(identity(50));
    expect(registry.orphans().map(({ pid }) => pid)).toEqual([50]);
    registry.remove({ ...identity(50), startTicks: 6 });
    expect(registry.isKept(50)).toBe(true);
    registry.remove(identity(50));
    expect(registry.isKept(50)).toBe(false);
  });
});
