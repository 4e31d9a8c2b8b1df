/** What was approved is what runs: an approval is bound to the call as it was shown, and to the
 *  rules under which it was shown. */

import { createHash } from 'node:crypto';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import {
  type ApprovalSubject,
  digestApproval,
  isApproved,
} from '../../../supervisor/effects/approval-digest.ts';
import { hasArguments } from '../../../supervisor/effects/arguments.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, call, dataOf, runsEverything, say } from '../script.ts';

afterEach(demolish);

const toml = `[security.tool_policy]\ndefault = "supervised"\n[agent.worker]\nwarm_pool = 0`;
const first = '1.1.1' as EffectId;

async function asking(spec: HouseSpec = {}) {
  const gateway = answers({ '1.1': say('', [call('a', 'rm x')]), '1.2': say('so be it') });
  const host = runsEverything();
  const house = await createHouse({ toml, ...spec, script: { gateway, host, ...spec.script } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'approval.requested');
  return { house, id, host, gateway };
}

const approve = (house: House, id: SessionId) =>
  house.supervisor.resolveApproval(id, first, { decision: 'approve' }, 'someone');

describe('the digest of an approval', () => {
  const subject: ApprovalSubject = {
    tool: 'shell',
    arguments: { command: 'rm x' },
    workspace: '/w',
    policy: { default: 'supervised', tools: {} },
    level: 'bubblewrap',
  };

  test.each<Partial<ApprovalSubject>>([
    { tool: 'write_file' },
    { arguments: { command: 'rm y' } },
    { workspace: '/v' },
    { policy: { default: 'supervised', tools: { shell: 'deny' } } },
    { level: 'none' },
  ])('holds tool, arguments, workspace, policy and sandbox level: each of them (%j)', (other) => {
    const digest = digestApproval(subject);
    expect(isApproved(digest, { ...subject })).toBe(true);
    expect(isApproved(digest, { ...subject, ...other })).toBe(false);
  });

  test('of the version before, which left the policy out, is still understood', () => {
    const json = JSON.stringify(['shell', { command: 'rm x' }, '/w']);
    const digest = createHash('sha256').update(json).digest('hex').slice(0, 32);
    expect(isApproved(digest, subject)).toBe(true);
    expect(isApproved(digest, { ...subject, policy: {} })).toBe(true);
    expect(isApproved(digest, { ...subject, arguments: {} })).toBe(false);
    expect(isApproved('', subject)).toBe(false);
  });
});

describe('arguments', () => {
  test.each([
    ['{"a":1,"b":[2]}', { a: 1, b: [2] }, true],
    [' { "a" : 1 } ', { a: 1 }, true],
    ['', {}, true],
    ['{"a":1', '{"a":1', true],
    ['{"a":1e400}', { a: null }, true],
    ['{"a":2}', { a: 1 }, false],
    ['{}', undefined, false],
  ])('%s of %j: %p', (text, value, expected) => {
    expect(hasArguments(text, value)).toBe(expected);
  });
});

describe('an approval', () => {
  test('under another policy is no permission any more, and nothing runs', async () => {
    const { house, id, host } = await asking();
    const other = `${toml}\n[security.tool_policy.tools]\nlist_files = "deny"`;
    const gateway = answers({ '1.2': say('then not') });
    const next = await house.again({ toml: other, script: { gateway, host } });
    await approve(next, id);
    await next.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([
      { status: 'denied', output: expect.stringMatching(/^APPROVAL_STALE: .*nothing ran/) },
    ]);
  });

  test('[config:security.sandbox.network] for a tool without a network is none for one with it', async () => {
    const { house, id, host } = await asking();
    const gateway = answers({ '1.2': say('then not') });
    const other = `${toml}\n[security.sandbox]\nnetwork = "full"`;
    const next = await house.again({ toml: other, script: { gateway, host } });
    await approve(next, id);
    await next.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([
      { status: 'denied', output: expect.stringMatching(/^APPROVAL_STALE/) },
    ]);
  });

  test('[config:security.sandbox.network] with the full network is asked for by the default', async () => {
    const written = '[security.sandbox]\nnetwork = "full"\n[agent.worker]\nwarm_pool = 0';
    const { house, id } = await asking({ toml: written });
    expect(dataOf(await house.events(id), 'tool.decided')).toMatchObject([
      { decision: 'ask', rule: 'built-in default with network = "full"' },
    ]);
    expect(await house.supervisor.explainPolicy({ tool: 'shell' })).toMatchObject({
      ...{ decision: 'ask', rule: 'built-in default with network = "full"' },
    });
  });

  test('that was asked for by the version before is answered as it was', async () => {
    const { house, id, host } = await asking({
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            const { workspace = '' } = (await store.listSessions())[0] ?? {};
            const events = request.events.map((event) => {
              if (event.type !== 'approval.requested') return event;
              const json = JSON.stringify(['shell', { command: 'rm x' }, workspace]);
              const digest = createHash('sha256').update(json).digest('hex').slice(0, 32);
              return { ...event, data: { ...(event.data as object), digest } };
            });
            return store.append({ ...request, events });
          },
        }),
    });
    const next = await house.again();
    await approve(next, id);
    await next.turnDone(id);
    expect(host.runs).toEqual([first]);
  });
});

describe('a call that is asked for again with other arguments', () => {
  /** Every worker but the first wants to remove something else. */
  const forger = () => {
    const workers = new Set<unknown>();
    return (message: unknown, worker: unknown): undefined => {
      workers.add(worker);
      const { method, params } = message as { method?: string; params?: { arguments: string } };
      if (method !== 'tool/call' || params === undefined || workers.size < 2) return;
      params.arguments = '{"command":"rm -r /"}';
    };
  };

  test.each([['before'], ['after']])(
    'by another worker is refused by name, before and after the answer (%s)',
    async (when) => {
      const onWorkerWrite = forger();
      const { house, id, host } = await asking({ script: { onWorkerWrite } });
      let current = house;
      if (when === 'before') {
        // The call is under way in the gate: it would be joined.
        house.machine.live('worker')[0]?.die();
      } else {
        current = await house.again();
        await approve(current, id);
      }
      const { data } = await current.turnDone(id);
      expect(data).toMatchObject({ outcome: 'failed', error: { code: 'CALL_ALTERED' } });
      expect(host.runs).toEqual([]);
      expect(dataOf(await current.events(id), 'tool.completed')).toMatchObject([
        { status: 'cancelled' },
      ]);
    },
  );
});
