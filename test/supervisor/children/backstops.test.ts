/** Gateway and host that are told something before they are up, that do not end what they are to
 *  end themselves, and that die in between. */
import { describe, expect, test } from '@jest/globals';
import { silentLogger } from '../../../base/logger.ts';
import { noFingerprints } from '../../../protocol/fingerprints.ts';
import type { ProviderSettings } from '../../../protocol/gateway-methods.ts';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import type { ProcessStart } from '../../../protocol/processes.ts';
import type { SessionRecord } from '../../../store/contract.ts';
import { createGateway } from '../../../supervisor/children/gateway.ts';
import { createHost, type ProcessBook } from '../../../supervisor/children/hosts.ts';
import { loadConfig } from '../../../supervisor/config.ts';
import { toSandboxPolicy } from '../../../supervisor/settings.ts';
import { createMachine, type MachineScript } from '../machine.ts';
import { answers, createLatch, runsEverything } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';
import { emptyRegistry, specOf } from './parts.ts';

const session = 's_0123456789abcdef' as SessionId;
const { config } = loadConfig({}, { HOME: '/nonexistent' });
const policy = toSandboxPolicy(config, { workspace: '/w' } as SessionRecord, {
  level: 'bubblewrap',
  installation: '/i',
  env: {},
});
/** What each of the two adds to the time that its child has. */
const MARGIN_MS = 30_000;

const emptyBook: ProcessBook = {
  register: async () => undefined,
  settle: async () => undefined,
  count: () => 0,
  settled: async () => undefined,
};

function createBench(script: Partial<MachineScript>, book: ProcessBook = emptyBook) {
  const machine = createMachine({ gateway: answers({}), host: runsEverything(), ...script });
  const clock = createSteppedClock();
  const random = { next: () => 0.5 };
  const parts = {
    clock,
    logger: silentLogger,
    processes: machine,
    random,
    registry: emptyRegistry,
  };
  return {
    machine,
    clock,
    gateway: createGateway({ ...parts, spec: specOf('gateway') }, config.provider),
    host: createHost({
      ...{ ...parts, session, book, spec: specOf('sandbox'), artifactDir: '/a' },
      policy: () => policy,
      onNetwork: async () => undefined,
      fingerprints: () => noFingerprints,
      readSecret: async ({ name }) => ({ kind: 'refused', reason: `no ${name}` }),
    }),
  };
}

const attempt = {
  ...{ session, effect: '1.1' as EffectId, attempt: 1, spoolPath: '/s', model: 'm' },
  ...{ messages: [], tools: [], parallelToolCalls: true },
};
const run = { effect: '1.1.1' as EffectId, tool: 'shell', arguments: {}, spoolPath: '/s' };
const ignore = async (): Promise<void> => undefined;
const silent = { onOutput: ignore, onRequest: ignore };
const never = (): Promise<never> => new Promise(() => undefined);

describe('behind its deadline and some', () => {
  test('a gateway that has not ended an attempt is killed, and the attempt lost', async () => {
    const { gateway, machine, clock } = createBench({ gateway: answers({ '1.1': never }) });
    const lost = expect(gateway.generate(attempt, ignore)).rejects.toMatchObject({
      code: 'GATEWAY_LOST',
    });
    await clock.armed(config.provider.totalTimeoutMs + MARGIN_MS);
    clock.advance(config.provider.totalTimeoutMs + MARGIN_MS);
    await lost;
    expect(machine.live('gateway')).toEqual([]);
  });

  test('a host that has not ended a call is killed, and the call lost', async () => {
    const host = runsEverything({ '1.1.1': never });
    const { host: own, machine, clock } = createBench({ host });
    const lost = expect(own.run(run, silent)).rejects.toMatchObject({ code: 'HOST_LOST' });
    await clock.armed(policy.timeoutMs + MARGIN_MS);
    clock.advance(policy.timeoutMs + MARGIN_MS);
    await lost;
    expect(machine.live('sandbox')).toEqual([]);
  });
});

test('a gateway that is configured while it starts works with the settings of then (regression)', async () => {
  const heard: unknown[] = [];
  const script = {
    ...answers({}),
    onInitialize({ baseUrl }: ProviderSettings) {
      heard.push(baseUrl);
      // As a reload does: the one that starts is not known to be there yet.
      if (heard.length === 1) void gateway.configure({ ...config.provider, baseUrl: 'new' });
    },
  };
  const { gateway } = createBench({ gateway: script });
  await gateway.start();
  expect(heard).toEqual([config.provider.baseUrl, 'new']);
});

test('a host that is not up yet when its call is cancelled runs nothing of it', async () => {
  const script = runsEverything();
  const { host } = createBench({ host: script });
  const running = host.run(run, silent);
  host.cancel(run.effect);
  expect(await running).toMatchObject({ status: 'cancelled' });
  expect(script.runs).toEqual([]);
});

test('a background process whose host died while its start was journaled is given an end', async () => {
  const [asked, written, settled] = [createLatch(), createLatch(), createLatch()];
  const start: ProcessStart = {
    ...{ call_id: run.effect, command: 'sleep 9', level: 'bubblewrap' },
    ...{ started_at: '2026-01-01T00:00:00.000Z', deadline_at: '2026-01-01T01:00:00.000Z' },
  };
  let isStarted = false;
  const book: ProcessBook = {
    ...emptyBook,
    async register() {
      asked.open();
      await written.opened;
      isStarted = true;
    },
    async settle() {
      // What has no start has no end either.
      if (isStarted) settled.open();
    },
  };
  const host = runsEverything({
    '1.1.1': (_, { register }) => {
      register(start).catch(() => undefined);
      return never();
    },
  });
  const { host: own, machine, clock } = createBench({ host }, book);
  const lost = expect(own.run(run, silent)).rejects.toMatchObject({ code: 'HOST_LOST' });
  await asked.opened;
  const child = own.child();
  machine.live('sandbox')[0]?.die();
  await clock.armed(100);
  clock.advance(100);
  await child?.exited;
  await lost;
  written.open();
  await settled.opened;
});
