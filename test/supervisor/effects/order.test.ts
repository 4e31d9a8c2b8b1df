/** The calls of one step: what only reads runs side by side, what writes runs in order. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ModelToolCall } from '../../../protocol/content.ts';
import type { EffectId } from '../../../protocol/ids.ts';
import { createCallOrder } from '../../../supervisor/effects/order.ts';
import { createHouse, demolish } from '../house.ts';
import { answers, call, callTool, createLatch, result, runsEverything, say } from '../script.ts';

afterEach(demolish);

const read = (path: string): ModelToolCall => callTool(path, 'read_file', { path });
const write = (path: string): ModelToolCall => callTool(path, 'write_file', { path, content: 'x' });

async function running(calls: ModelToolCall[], host = runsEverything(), toml = '') {
  const gateway = answers({ '1.1': say('', calls) });
  const house = await createHouse({ toml, script: { gateway, host } });
  const id = await house.create();
  await house.send(id, 'hello');
  return { house, id, host };
}

describe('[config:agent.loop.parallel_tool_calls] the calls of one step', () => {
  test('that only read run side by side', async () => {
    const bothRun = createLatch();
    let count = 0;
    const wait = async () => {
      count += 1;
      if (count === 2) bothRun.open();
      await bothRun.opened;
      return result('read');
    };
    const host = runsEverything({ '1.1.1': wait, '1.1.2': wait });
    const { house, id } = await running([read('a'), read('b')], host);
    await house.turnDone(id);
    expect(host.runs).toHaveLength(2);
  });

  test('a write waits for all before it, and all behind it wait for it', async () => {
    const log: string[] = [];
    const slow = (name: string) => async () => {
      log.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      log.push(`${name} ends`);
      return result(name);
    };
    const host = runsEverything({
      '1.1.1': slow('write'),
      '1.1.2': slow('read'),
      '1.1.3': slow('shell'),
    });
    const { house, id } = await running([write('a'), read('a'), call('c', 'cat a')], host);
    await house.turnDone(id);
    expect(log).toEqual(
      ['write', 'read', 'shell'].flatMap((name) => [`${name} begins`, `${name} ends`]),
    );
  });

  test('all are put before a person at once, and still run in order', async () => {
    const toml = `[security.tool_policy]\ndefault = "supervised"`;
    const calls = [call('a', 'one'), call('b', 'two')];
    const { house, id, host } = await running(calls, runsEverything(), toml);
    await house.until(id, 'approval.requested', 2);
    const approve = (effect: string) =>
      house.supervisor.resolveApproval(id, effect as EffectId, { decision: 'approve' }, 'test');
    await approve('1.1.2');
    expect(host.runs).toEqual([]);
    await approve('1.1.1');
    await house.turnDone(id);
    expect(host.runs).toEqual(['1.1.1', '1.1.2']);
  });

  test('one that is denied holds nobody up', async () => {
    const toml = `[security.tool_policy]\ntools.write_file = "deny"`;
    const { house, id, host } = await running([write('a'), read('a')], runsEverything(), toml);
    await house.turnDone(id);
    expect(host.runs).toEqual(['1.1.2']);
  });
});

test('calls of another step do not wait', async () => {
  const order = createCallOrder();
  order.enter(1, 'write');
  await order.enter(2, 'write').ready;
  const behind = order.enter(1, 'read');
  const raced = await Promise.race([behind.ready.then(() => 'ready'), Promise.resolve('waits')]);
  expect(raced).toBe('waits');
});
