/** A reload beside a call that gets, or shares, its host: what runs was decided by the policy under
 *  which it runs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import type { SandboxPolicy } from '../../../protocol/sandbox-methods.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, callTool, createLatch, dataOf, result, runsEverything, say } from '../script.ts';
import { behind } from './reserved.ts';

afterEach(demolish);

const none = '[agent.worker]\nwarm_pool = 0\n';
const supervised = `${none}[security.tool_policy]\ndefault = "supervised"\n`;
const [first, second] = ['1.1.1', '1.1.2'] as EffectId[];

async function reload(house: House, toml: string): Promise<void> {
  writeFileSync(join(house.stateDir, 'test-config.toml'), toml);
  await house.supervisor.reload();
}

const approve = (house: House, id: SessionId, call = first): Promise<void> =>
  house.supervisor.resolveApproval(id, call as EffectId, { decision: 'approve' }, 'someone');

interface Reading {
  readonly toml: string;
  readonly calls: number;
  /** Of the n-th host, before it is ready. */
  readonly onStart?: (house: House, started: number) => Promise<void>;
  readonly run?: () => Promise<void>;
}

/** A turn of calls that only read, each in the policy that its host was started with. */
async function reading({ toml, calls, onStart, run }: Reading) {
  const policies: SandboxPolicy[] = [];
  const ran: [string, number][] = [];
  const host = {
    async initialize(policy: SandboxPolicy) {
      policies.push(policy);
      await onStart?.(house, policies.length);
      return { level: policy.backend, uid: 1, workspaceAccess: 'write' as const };
    },
    async run({ effect }: { effect: string }) {
      ran.push([effect, policies.at(-1)?.maxPids ?? 0]);
      if (effect === first) await run?.();
      return result('read');
    },
  };
  const asked = Array.from({ length: calls }, (_, n) =>
    callTool(`c${n}`, 'read_file', { path: `f${n}` }),
  );
  const gateway = answers({ '1.1': say('', asked) });
  const house: House = await createHouse({ toml, script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  const outcomes = async () => dataOf(await house.events(id), 'tool.completed');
  return { house, id, ran, policies, outcomes };
}

describe('a policy that changes while a call gets its host', () => {
  test('and forbids it by then: it does not run (regression)', async () => {
    const denied = `${none}[security.tool_policy.tools]\nread_file = "deny"`;
    const { house, id, ran, outcomes } = await reading({
      ...{ toml: none, calls: 1 },
      onStart: (own) => reload(own, denied),
    });
    await house.turnDone(id);
    expect([ran, await outcomes()]).toMatchObject([[], [{ status: 'denied' }]]);
  });

  test('is not the one under which it was approved: it does not run (regression)', async () => {
    const { house, id, ran, outcomes } = await reading({
      ...{ toml: supervised, calls: 1 },
      onStart: (own) => reload(own, `${supervised}[security.sandbox]\nnetwork = "full"`),
    });
    await house.until(id, 'approval.requested');
    await approve(house, id);
    await house.turnDone(id);
    expect(ran).toEqual([]);
    expect(await outcomes()).toMatchObject([{ output: expect.stringMatching(/^APPROVAL_STALE/) }]);
  });

  test('is that of the host in which it runs, also where others wait for it (regression)', async () => {
    const { house, id, ran } = await reading({
      ...{ toml: none, calls: 2 },
      onStart: async (own, started) => {
        if (started === 1) await reload(own, `${none}[security.sandbox]\nmax_pids = 7`);
      },
    });
    await house.turnDone(id);
    expect(ran.sort()).toEqual([
      [first, 7],
      [second, 7],
    ]);
  });
});

test('a call that begins beside another waits for it where the policy changed (regression)', async () => {
  const [runs, ends] = [createLatch(), createLatch()];
  const { house, id, ran } = await reading({
    ...{ toml: supervised, calls: 2 },
    async run() {
      runs.open();
      await ends.opened;
    },
  });
  await house.until(id, 'approval.requested', 2);
  await approve(house, id);
  await runs.opened;
  await reload(house, `${supervised}[security.sandbox]\nmax_pids = 7`);
  await approve(house, id, second);
  await house.until(id, 'approval.resolved', 2);
  for (let turns = 0; turns < 500; turns += 1) await new Promise(setImmediate);
  expect(ran).toEqual([[first, 256]]);
  ends.open();
  await house.turnDone(id);
  expect(ran).toEqual([
    [first, 256],
    [second, 7],
  ]);
  const policies = dataOf(await house.events(id), 'tool.started').map(({ policy }) => policy);
  expect(new Set(policies).size).toBe(2);
});

test('what was approved and reserved, and never sent, is asked for anew under another policy (regression)', async () => {
  const [isReserved, isDead] = [createLatch(), createLatch()];
  const host = runsEverything();
  const calls = say('', [callTool('a', 'read_file', { path: 'x' })]);
  const gateway = answers({ '1.1': calls });
  const house = await createHouse({
    ...{ toml: supervised, script: { gateway } },
    wrapStore: behind('tool.started', () => {
      isReserved.open();
      return isDead.opened;
    }),
  });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'approval.requested');
  await approve(house, id);
  await isReserved.opened;
  const crashed = house.crash();
  isDead.open();
  await crashed;
  const toml = `${supervised}[security.sandbox]\nnetwork = "full"`;
  const script = { gateway, host };
  const next = await house.again({ toml, script, wrapStore: (store) => store });
  await next.turnDone(id);
  expect(host.runs).toEqual([]);
  expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([
    { output: expect.stringMatching(/^APPROVAL_STALE/) },
  ]);
});
