import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import type { Store } from '../../store/contract.ts';
import { makeFolder, open, withStore } from './setup.ts';
import {
  accepted,
  created,
  delta,
  effectId,
  event,
  inputId,
  renamed,
  sessionId,
} from './setup-events.ts';

const one = sessionId(1);
const two = sessionId(2);

const startTurn = (turn: number) =>
  event('turn.started', { turn, input_id: inputId(`in_${turn}`), attempt: 1 }, { turn });

const answer = (turn: number, toolCalls: number) =>
  event(
    'model.completed',
    {
      step: 1,
      attempt: 1,
      message: {
        text: `answer ${turn}`,
        tool_calls: Array.from({ length: toolCalls }, (_, i) => ({
          id: `c${i}`,
          name: 'shell',
          arguments: '{}',
        })),
      },
      usage: { input_tokens: 1, output_tokens: 1 },
      cost_usd: 0.5,
      finish_reason: 'stop',
      latency_ms: 1,
    },
    { turn, effect: effectId(`${turn}.1`) },
  );

const endTurn = (turn: number) =>
  event(
    'turn.completed',
    {
      turn,
      input_id: inputId(`in_${turn}`),
      outcome: 'completed',
      usage: { input_tokens: 1, output_tokens: 1 },
      cost_usd: 0.5,
      steps: 1,
    },
    { turn },
  );

const turnOf = (turn: number) => [
  accepted(`in_${turn}`),
  startTurn(turn),
  answer(turn, 0),
  endTurn(turn),
];

const ids = (records: readonly { readonly id: string }[]) => records.map(({ id }) => id);

describe('sessions', () => {
  it('are listed newest first, by state, label, workspace and name, and counted by state', () =>
    withStore(async (store) => {
      await store.append({ events: [created(1, { labels: { team: 'a', x: 'y' } })] });
      await store.append({ events: [created(2, { labels: { team: 'b' } })] });
      const stopped = { from: 'created', to: 'stopped', reason: 'test' } as const;
      await store.append({ events: [event('session.state', stopped, { session: two })] });
      expect(ids(await store.listSessions())).toEqual([two, one]);
      expect(ids(await store.listSessions({ states: ['stopped', 'failed'] }))).toEqual([two]);
      expect(ids(await store.listSessions({ labels: { team: 'a', x: 'y' } }))).toEqual([one]);
      expect(ids(await store.listSessions({ labels: { team: 'a', x: 'z' } }))).toEqual([]);
      const named = created(3, { workspace: '/other', name: 'web' });
      await store.append({ events: [named] });
      expect(ids(await store.listSessions({ workspace: '/other' }))).toEqual([named.session]);
      expect(ids(await store.listSessions({ name: 'web', workspace: '/other' }))).toHaveLength(1);
      expect(ids(await store.listSessions({ name: 'we' }))).toEqual([]);
      expect(await store.countSessions()).toEqual({ created: 2, stopped: 1 });
    }));

  it('are found by id, name, a part of the id, and @last', () =>
    withStore(async (store) => {
      await store.append({ events: [created(0x1abc, { name: 'alpha' }), created(0x2abc)] });
      const [first, second] = [sessionId(0x1abc), sessionId(0x2abc)];
      const resolve = async (ref: string) => (await store.resolveSession(ref)).id;
      expect(await resolve(first)).toBe(first);
      expect(await resolve('alpha')).toBe(first);
      expect(await resolve('2abc')).toBe(second);
      expect(await resolve('@last')).toBe(second);
      expect(await resolve('2')).toBe(second);
      for (const ref of ['zzz', '', 'alph', '%']) {
        await expect(resolve(ref)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
      }
      const ambiguous = { code: 'SESSION_AMBIGUOUS' };
      await expect(resolve('abc')).rejects.toMatchObject({
        ...ambiguous,
        data: {
          candidates: [
            { id: second, state: 'created' },
            { id: first, name: 'alpha', state: 'created' },
          ],
        },
      });
      for (const ref of ['ab', 's_', '0']) {
        await expect(resolve(ref)).rejects.toMatchObject(ambiguous);
      }
      await store.append({ events: [renamed('alpha', 0x2abc)] });
      await expect(resolve('alpha')).rejects.toMatchObject(ambiguous);
      const many = Array.from({ length: 8 }, (_, index) => created(0x3abc + index * 0x10000));
      await store.append({ events: many });
      await expect(resolve('abc')).rejects.toThrow(/_[0-9a-f]+; give a whole id$/);
      await store.append({ events: [created(0x4abc)] });
      await expect(resolve('abc')).rejects.toThrow(/_[0-9a-f]+ and others; give a whole id$/);
    }));

  it('that have something to go on with are listed, unchanged, at the next start (FAULTS 62)', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await before.append({ events: [created(1), ...turnOf(1), created(2), created(3)] });
    await before.append({ events: [accepted('in_9', 'x', 2)] });
    const record = await before.getSession(two);
    await before.close();
    const after = await open(folder.path);
    expect(await after.listUnfinished()).toEqual([record]);
    await after.close();
    folder.remove();
  });
});

describe('one effect', () => {
  it('is read without its stream; its spool offset is that of the attempt', () =>
    withStore(async (store) => {
      const at = { turn: 1, effect: effectId('1.1') };
      const chunk = (attempt: number, offset: number) =>
        event('model.delta', { step: 1, attempt, kind: 'text', text: 'x', offset }, at);
      const start = event(
        'model.started',
        { step: 1, attempt: 1, model: 'm', request_digest: 'd' },
        at,
      );
      await store.append({
        events: [created(), start, chunk(1, 10), chunk(1, 20), chunk(2, 7), answer(1, 0)],
      });
      const types = (await store.readEffect(one, effectId('1.1'))).map(({ type }) => type);
      expect(types).toEqual(['model.started', 'model.completed']);
      const offset = (attempt: number) => store.readSpoolOffset(one, effectId('1.1'), attempt);
      expect(await Promise.all([offset(1), offset(2), offset(3)])).toEqual([20, 7, 0]);
    }));

  it('and an input are found by their ids only', () =>
    withStore(async (store) => {
      await store.append({ events: [created(), ...turnOf(1)] });
      expect((await store.readInput(one, inputId('in_1'))).type).toBe('input.accepted');
      await expect(store.readInput(one, inputId('in_2'))).rejects.toMatchObject({
        code: 'NOT_FOUND',
      });
    }));
});

describe('one turn', () => {
  const types = ['turn.started', 'model.completed', 'approval.resolved', 'turn.completed'];
  const resolved = event(
    'approval.resolved',
    { call_id: effectId('2.1.1'), decision: 'approve', by: 'ann', arguments: { a: 'secret' } },
    { effect: effectId('2.1.1') },
  );
  const withOthers = (read: (store: Store) => Promise<void>) =>
    withStore(async (store) => {
      await store.append({ events: [created(), ...turnOf(1), ...turnOf(2)] });
      await store.append({ events: [resolved, ...turnOf(3)] });
      await read(store);
    });

  it('is read by itself and without its content: no message, no arguments', () =>
    withOthers(async (store) => {
      const range = { turn: 2, since: 0, until: 1000, limit: 100, types };
      const events = await store.readTurn(one, range);
      expect(events.map(({ type }) => type)).toEqual([
        'turn.started',
        'model.completed',
        'turn.completed',
        'approval.resolved',
      ]);
      expect(events.every(({ turn = 2 }) => turn === 2)).toBe(true);
      expect(JSON.stringify(events)).not.toMatch(/answer 2|secret/);
    }));

  it('is read in pages, up to the event that is named', () =>
    withOthers(async (store) => {
      const page = (since: number, until: number, limit: number) =>
        store.readTurn(one, { turn: 2, since, until, limit, types });
      const [first] = await page(0, 1000, 1);
      const rest = await page(first?.seq ?? 0, 1000, 100);
      expect([first?.type, ...rest.map(({ type }) => type)]).toEqual([
        'turn.started',
        'model.completed',
        'turn.completed',
        'approval.resolved',
      ]);
      const last = rest[1]?.seq ?? 0;
      expect((await page(0, last, 100)).at(-1)?.type).toBe('turn.completed');
      expect(await store.readTurn(two, { turn: 2, since: 0, until: 9, limit: 9, types })).toEqual(
        [],
      );
    }));
});

describe('the history', () => {
  it('is that of closed turns, from the boundary of the last compaction on', () =>
    withStore(async (store) => {
      await store.append({ events: [created(), accepted('in_3', 'early'), ...turnOf(1)] });
      await store.append({ events: turnOf(2) });
      const compacted = event(
        'context.compacted',
        {
          step: 1,
          strategy: 'truncate',
          summary: '',
          from_turn: 2,
          from_step: 1,
          before_tokens: 2,
          after_tokens: 1,
        },
        { turn: 3 },
      );
      await store.append({ events: [startTurn(3), compacted] });
      const turns = async () => (await store.readHistory(one)).turns.map(({ turn }) => turn);
      expect(await turns()).toEqual([1, 2]);
      await store.append({ events: [endTurn(3)] });
      expect(await turns()).toEqual([2, 3]);
      const { turns: kept } = await store.readHistory(one);
      expect(kept[1]?.input.content).toEqual([{ type: 'text', text: 'early' }]);
      await expect(store.readHistory(two)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
    }));
});

describe('a removed session', () => {
  it('leaves nothing, whatever its size, and its claims are free', () =>
    withStore(async (store) => {
      const unique = { scope: 's', key: 'k', digest: 'd' };
      await store.append({ events: [created(1)], unique });
      await store.append({ events: Array.from({ length: 1000 }, () => delta('x')) });
      await store.append({ events: [created(2)] });
      const late = store.append({ events: [delta('before the removal')] });
      const removal = store.deleteSession(one);
      const tooLate = store.append({ events: [delta('behind it')] });
      await late;
      await expect(tooLate).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
      await removal;
      expect(await store.getSession(one)).toBeUndefined();
      expect((await store.readAll(undefined, 1000)).events).toHaveLength(1);
      expect(await store.findClaim('s', 'k')).toBeUndefined();
      await store.deleteSession(one);
      expect(await store.verify()).toMatchObject({ sessions: 1, events: 1, problems: [] });
    }));
});

describe('what sessions have cost', () => {
  it('stays when they are removed, once, and is not that of a copy (regression)', async () => {
    const folder = makeFolder();
    const usage = { input_tokens: 5, output_tokens: 7 };
    const data = { turn: 1, input_id: inputId('a'), outcome: 'completed', steps: 1 } as const;
    const store = await open(folder.path);
    const spend = (n: number) => {
      const at = { session: sessionId(n), turn: 1 };
      const end = event('turn.completed', { ...data, usage, cost_usd: 0.5 }, at);
      return store.append({ events: [created(n), end] });
    };
    await spend(1);
    await spend(2);
    await store.forkSession(one, 2, sessionId(3));
    await store.append({ events: Array.from({ length: 1000 }, () => delta('x')) });
    await store.deleteSession(one);
    await store.deleteSession(one);
    await store.deleteSession(sessionId(3));
    const { sessions, removed } = await store.readCensus();
    expect(sessions.map(({ cost_usd: cost }) => cost)).toEqual([0.5]);
    expect(removed).toEqual({ ...usage, cost_usd: 0.5 });
    await store.close();
    const next = await open(folder.path);
    expect((await next.readCensus()).removed).toEqual(removed);
    await next.close();
    folder.remove();
  });
});

describe('a removal or a copy that a death cut short', () => {
  it('is brought to its end at the next start', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await before.append({ events: [created(1), delta('a'), created(2)] });
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    db.exec(`DELETE FROM sessions WHERE id = '${one}'; INSERT INTO unlisted VALUES ('${one}')`);
    db.close();
    const after = await open(folder.path);
    expect(await after.readAll(undefined, 10)).toMatchObject({ events: [{ session: two }] });
    await after.append({ events: [created(1)] });
    expect(await after.verify()).toMatchObject({ sessions: 2, events: 2, problems: [] });
    await after.close();
    folder.remove();
  });
});

describe('a fork', () => {
  const filled = async (store: Store): Promise<void> => {
    await store.append({
      events: [created(1, { name: 'original', private_workspace: true, labels: { a: 'b' } })],
    });
    await store.append({ events: turnOf(1) });
    await store.append({ events: Array.from({ length: 700 }, () => delta('x')) });
    await store.append({ events: [accepted('in_2'), startTurn(2), answer(2, 1)] });
  };

  it('has the conversation up to the event, and a life of its own', () =>
    withStore(async (store) => {
      await filled(store);
      const record = await store.forkSession(one, 708, two, { name: 'copy' });
      expect(record).toEqual({
        ...(await store.getSession(two)),
      });
      expect(record).toMatchObject({
        id: two,
        name: 'copy',
        state: 'created',
        state_reason: 'forked',
        labels: { a: 'b' },
        private_workspace: false,
        turn: 2,
        last_seq: 709,
        cost_usd: 0,
        queued: [],
      });
      expect(record.open_turn).toBeUndefined();
      const history = await store.readHistory(two);
      expect(history.turns).toMatchObject([
        { turn: 1, outcome: 'completed' },
        { turn: 2, outcome: 'interrupted', steps: [{ results: [{ status: 'cancelled' }] }] },
      ]);
      const { events } = await store.readEvents(two, { since: 708, limit: 10 });
      expect(events[0]?.data).toMatchObject({ forked_from: { session: one, seq: 708 } });
      await store.append({ events: [delta('mine', 2)] });
      await store.deleteSession(one);
      expect(await store.verify()).toMatchObject({ sessions: 1, events: 710, problems: [] });
    }));

  it('is refused beyond the newest event, of nobody, and onto somebody', () =>
    withStore(async (store) => {
      await store.append({ events: [created(1), created(2)] });
      const fork = (from: number, seq: number, to: number) =>
        store.forkSession(sessionId(from), seq, sessionId(to));
      await expect(fork(1, 2, 3)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
      await expect(fork(1, 0, 3)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
      await expect(fork(9, 1, 3)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
      await expect(fork(1, 1, 2)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
      expect(await store.getSession(sessionId(3))).toBeUndefined();
      expect(ids(await store.listSessions())).toEqual([two, one]);
    }));
});

describe('the registry of processes', () => {
  it('keeps who was put until it is removed, over restarts', async () => {
    const folder = makeFolder();
    const host = {
      pid: 10,
      startTicks: 5,
      bootId: 'b',
      kind: 'sandbox',
      session: one,
      started_at: '2026-01-01T00:00:00.000Z',
    } as const;
    const gateway = { ...host, pid: 11, kind: 'gateway', session: undefined } as const;
    const before = await open(folder.path);
    await Promise.all([
      before.putProcess(host),
      before.putProcess(gateway),
      before.putProcess(host),
    ]);
    await before.close();
    const after = await open(folder.path);
    expect(await after.listProcesses()).toEqual([host, gateway]);
    await after.removeProcess({ pid: 10, startTicks: 6 });
    await after.removeProcess(host);
    expect(await after.listProcesses()).toEqual([gateway]);
    await after.close();
    folder.remove();
  });
});
