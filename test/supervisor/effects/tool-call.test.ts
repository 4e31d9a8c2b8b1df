/** Tool calls: at most once. One whose end nobody knows is indeterminate, and its effect class
 *  decides; what its spool tells is adopted. */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAppendLog } from '../../../base/append-log.ts';
import { realClock } from '../../../base/clock.ts';
import { PrxError } from '../../../base/errors.ts';
import { createConnection, type Transport } from '../../../protocol/connection.ts';
import type { ToolOutcome } from '../../../protocol/content.ts';
import { effectIdSchema, type SessionId } from '../../../protocol/ids.ts';
import type { NetworkRequest } from '../../../protocol/network.ts';
import {
  askNotifications,
  askRequests,
  workerNotifications,
  workerRequests,
} from '../../../protocol/worker-methods.ts';
import type { FakeProcess } from '../fake-process.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { overStore } from '../over-store.ts';
import {
  answers,
  call,
  callTool,
  createLatch,
  dataOf,
  result,
  runsEverything,
  say,
} from '../script.ts';
import type { RunHandle, RunRequest } from '../scripted-host.ts';

afterEach(demolish);

const calls = {
  shell: call('a', 'touch x'),
  read_file: callTool('a', 'read_file', { path: 'x' }),
  write_file: callTool('a', 'write_file', { path: 'x', content: 'y' }),
};

const requested: NetworkRequest = {
  ...{ call_id: effectIdSchema.parse('1.1.1'), via: 'proxy', method: 'GET', host: 'example.org' },
  ...{ port: 80, decision: 'allow', rule: 'allowed_domains: example.org', status: 200 },
  ...{ bytes_sent: 1, bytes_received: 2, duration_ms: 3 },
};

function writeSpool({ spoolPath }: RunRequest, outcome?: ToolOutcome): number {
  mkdirSync(dirname(spoolPath), { recursive: true });
  const log = openAppendLog(spoolPath);
  const offset = log.append({ kind: 'output', stream: 'stdout', text: 'one ' });
  log.append({ kind: 'network', request: requested });
  log.append({ kind: 'output', stream: 'stdout', text: 'two' });
  if (outcome !== undefined) log.append({ kind: 'end', outcome });
  log.close();
  return offset;
}

const neverEnds = (): Promise<never> => new Promise(() => undefined);

/** A turn whose one call does `first` the first time it runs. */
async function calling(
  tool: keyof typeof calls,
  first: (request: RunRequest, handle: RunHandle) => Promise<ToolOutcome>,
  spec: HouseSpec = {},
): Promise<{ house: House; id: SessionId; host: ReturnType<typeof runsEverything> }> {
  let count = 0;
  const host = runsEverything({
    '1.1.1': (request, handle) => {
      count += 1;
      return count === 1 ? first(request, handle) : result('second run');
    },
  });
  const gateway = answers({ '1.1': say('', [calls[tool]]) });
  const house = await createHouse({ ...spec, script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  return { house, id, host };
}

const outcomes = async (house: House, id: SessionId) => {
  const events = await house.events(id);
  return {
    started: dataOf<{ attempt: number }>(events, 'tool.started').map(({ attempt }) => attempt),
    resolved: dataOf<{ how: string }>(events, 'effect.resolved').map(({ how }) => how),
    adopted: dataOf<{ how: string }>(events, 'effect.adopted').map(({ how }) => how),
    completed: dataOf<ToolOutcome>(events, 'tool.completed').map(({ status }) => status),
    output: dataOf<{ text: string }>(events, 'tool.output').map(({ text }) => text),
  };
};

/** What becomes of a call whose end is unknown, by the effect class of its tool. */
const unknown = [
  ['shell', { started: [1], resolved: ['reported (write)'], completed: ['indeterminate'] }],
  ['read_file', { started: [1, 2], resolved: ['re-run (read)'], completed: ['ok'] }],
  ['write_file', { started: [1, 2], resolved: ['re-run (idempotent)'], completed: ['ok'] }],
] as const;

describe('[promise:sandbox-dies] a host that dies under a call', () => {
  test.each(unknown)('of %s: %j (FAULTS 61)', async (tool, expected) => {
    const { house, id, host } = await calling(tool, (_, handle) => {
      setImmediate(() => handle.process.die());
      return neverEnds();
    });
    await house.turnDone(id);
    const { output: _, adopted: __, ...seen } = await outcomes(house, id);
    expect(seen).toEqual(expected);
    expect(host.runs).toHaveLength(expected.started.length);
  });

  test('behind its last record: the spool has the end, and the rest of the output', async () => {
    const { house, id, host } = await calling('shell', (request, handle) => {
      handle.output('one ', writeSpool(request, result('one two')));
      setImmediate(() => handle.process.die());
      return neverEnds();
    });
    await house.turnDone(id);
    expect(await outcomes(house, id)).toMatchObject({
      completed: ['ok'],
      output: ['one ', 'two'],
    });
    expect(host.runs).toEqual(['1.1.1']);
  });
});

describe('[promise:tool-at-most-once] [event:effect.resolved] a supervisor that dies under a call', () => {
  async function crashed(tool: keyof typeof calls, outcome?: ToolOutcome) {
    const { house, id } = await calling(tool, (request, handle) => {
      handle.output('one ', writeSpool(request, outcome));
      return neverEnds();
    });
    await house.until(id, 'tool.output');
    const host = runsEverything();
    const next = await house.again({ script: { gateway: answers({}), host } });
    await next.turnDone(id);
    return { next, id, host };
  }

  test('[event:network.request] finds there what its network was asked meanwhile, once', async () => {
    const { next, id } = await crashed('shell', result('one two'));
    const events = await next.events(id);
    const found = events.filter(({ type }) => type === 'network.request');
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ turn: 1, data: { ...requested, attempt: 1 } });
    const types = events.map(({ type }) => type);
    expect(types.indexOf('network.request')).toBeLessThan(types.indexOf('tool.completed'));
  });

  test('behind a power loss finds no spool: that does not mean that nothing ran', async () => {
    const { house, id } = await calling('shell', (request, handle) => {
      handle.output('one ', writeSpool(request));
      return neverEnds();
    });
    await house.until(id, 'tool.output');
    await house.crash();
    rmSync(join(house.stateDir, 'spool'), { recursive: true });
    const host = runsEverything();
    const next = await house.again({
      script: { gateway: answers({}), host },
      wrapStore: (store) => overStore(store, { epoch: store.epoch + 1 }),
    });
    await next.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(await outcomes(next, id)).toMatchObject({
      resolved: ['reported (write)'],
      completed: ['indeterminate'],
    });
  });

  test('finds the end in the spool: adopted, not run again', async () => {
    const { next, id, host } = await crashed('shell', result('one two'));
    expect(host.runs).toEqual([]);
    expect(await outcomes(next, id)).toEqual({
      started: [1],
      resolved: [],
      adopted: ['spool'],
      completed: ['ok'],
      output: ['one ', 'two'],
    });
  });

  test.each(unknown)('finds none, of %s: %j (FAULTS 61)', async (tool, expected) => {
    const { next, id, host } = await crashed(tool);
    const { output: _, adopted: __, ...seen } = await outcomes(next, id);
    expect(seen).toEqual(expected);
    expect(host.runs).toHaveLength(expected.started.length - 1);
  });
});

describe('what is refused before it runs', () => {
  test.each([
    ['an unknown tool', callTool('a', 'rm_rf', {}), 'error', /there is no tool 'rm_rf'/],
    ['bad JSON', { id: 'a', name: 'shell', arguments: '{' }, 'error', /not valid JSON/],
    ['a wrong shape', callTool('a', 'shell', { cmd: 'x' }), 'error', /do not fit shell/],
  ] as const)('%s: an error result', async (_, ask, status, text) => {
    const host = runsEverything();
    const gateway = answers({ '1.1': say('', [ask]) });
    const house = await createHouse({ script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(host.runs).toEqual([]);
    const completed = dataOf<ToolOutcome>(await house.events(id), 'tool.completed');
    expect(completed).toMatchObject([{ status, output: expect.stringMatching(text) }]);
  });

  test('[promise:deny-by-default] any call where there is no sandbox, with the mend', async () => {
    const probe = { level: 'none', reason: 'bwrap is missing', mend: 'apt install bubblewrap' };
    const { house, id, host } = await calling('shell', neverEnds, { probe });
    await house.turnDone(id);
    expect(host.runs).toEqual([]);
    const completed = dataOf<ToolOutcome>(await house.events(id), 'tool.completed');
    expect(completed).toMatchObject([
      { status: 'denied', output: expect.stringContaining('apt install bubblewrap') },
    ]);
  });

  test('a call whose host cannot start: an error result, nothing ran', async () => {
    const gateway = answers({ '1.1': say('', [calls.shell]) });
    const onStart = (room: string): void => {
      if (room === 'sandbox') throw new Error('EMFILE');
    };
    const house = await createHouse({ script: { gateway, onStart } });
    const id = await house.create();
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    const completed = dataOf<ToolOutcome>(await house.events(id), 'tool.completed');
    expect(completed).toMatchObject([{ output: expect.stringContaining('EMFILE') }]);
    expect(completed[0]?.status).not.toBe('indeterminate');
  });
});

describe('a sandbox that is killed as it starts', () => {
  /** Starts that fail, from the first on. */
  async function failing(count: number, code: 'SANDBOX_UNAVAILABLE' | 'WORKSPACE_REFUSED') {
    let starts = 0;
    const host = {
      ...runsEverything(),
      initialize() {
        starts += 1;
        if (starts <= count) throw new PrxError(code, 'the cell has died');
        return { level: 'bubblewrap', uid: 1, workspaceAccess: 'write' as const };
      },
    };
    const gateway = answers({ '1.1': say('', [calls.shell]) });
    const house = await createHouse({ script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const { started, completed } = await outcomes(house, id);
    return { started, completed, runs: host.runs, starts };
  }

  test.each([
    ['once: another one runs the call', 1, 'SANDBOX_UNAVAILABLE', ['ok'], 2],
    ['twice: an error, and nothing ran', 2, 'SANDBOX_UNAVAILABLE', ['error'], 2],
    ['no: what a second start would meet again is not tried', 1, 'WORKSPACE_REFUSED', ['error'], 1],
  ] as const)('%s (regression)', async (_, count, code, completed, starts) => {
    const isRun = completed[0] === 'ok';
    const [started, runs] = isRun ? [[1], ['1.1.1']] : [[], []];
    expect(await failing(count, code)).toEqual({ started, completed, runs, starts });
  });
});

test('[config:agent.loop.parallel_tool_calls] false: one call after the other', async () => {
  const gateway = answers({ '1.1': say('', [call('a', 'x'), call('b', 'y')]) });
  const house = await createHouse({
    toml: '[agent.loop]\nparallel_tool_calls = false',
    script: { gateway },
  });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.turnDone(id);
  const order = (await house.events(id)).filter(({ type }) => /^tool\.(started|comp)/.test(type));
  expect(order.map(({ type }) => type)).toEqual([
    'tool.started',
    'tool.completed',
    'tool.started',
    'tool.completed',
  ]);
  expect(gateway.seen[0]?.parallelToolCalls).toBe(false);
});

test('a call that was cancelled before its host was ready does not run (regression)', async () => {
  const ready = createLatch();
  const asked = createLatch();
  const host = {
    ...runsEverything(),
    async initialize() {
      asked.open();
      await ready.opened;
      return { level: 'bubblewrap', uid: 1, workspaceAccess: 'write' as const };
    },
  };
  const gateway = answers({ '1.1': say('', [calls.shell]) });
  const house = await createHouse({ script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  await asked.opened;
  await house.supervisor.interrupt(id, 'test');
  ready.open();
  expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
  expect(host.runs).toEqual([]);
});

/** A worker that says at once that its turn is done, and can be made to ask all the same. */
function createHastyWorker() {
  const serve = (transport: Transport) =>
    createConnection({
      transport,
      clock: realClock,
      peer: 'supervisor',
      local: { requests: workerRequests, notifications: workerNotifications },
      remote: { requests: askRequests, notifications: askNotifications },
      requests: {
        'worker/initialize': async () => ({}),
        'worker/collect': async () => ({ rssBytes: 1 }),
        'worker/ping': async () => ({ loopLagMs: 0, rssBytes: 1 }),
        'turn/run': async () => ({ outcome: 'completed', steps: 1 }) as const,
      },
      notifications: { 'turn/interrupt': () => undefined, 'worker/warm': () => undefined },
    });
  const connections: ReturnType<typeof serve>[] = [];
  return {
    ask: () => {
      const ask = { turn: 1, step: 1, call: 1, name: 'shell', arguments: '{"command":"ls"}' };
      return connections.at(-1)?.request('tool/call', ask, { timeoutMs: 10_000 });
    },
    runWorker({ pid }: FakeProcess, transport: Transport): void {
      const connection = serve(transport);
      connections.push(connection);
      void connection.notify('worker/ready', { pid, confinement: [] });
    },
  };
}

test('a call behind the end of its turn is refused, though its worker lives; nothing runs', async () => {
  const { ask, runWorker } = createHastyWorker();
  const host = runsEverything();
  const toml = '[agent.worker]\nwarm_pool = 0\n';
  const house = await createHouse({ toml, script: { gateway: answers({}), host, runWorker } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.turnDone(id);
  await expect(ask()).rejects.toMatchObject({ code: 'STALE_GENERATION' });
  expect(host.runs).toEqual([]);
});
