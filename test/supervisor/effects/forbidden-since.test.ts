/** A call that was allowed and reserved, and that the policy forbids when it would run again. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, callTool, dataOf, result, runsEverything, say } from '../script.ts';
import { reserved } from './reserved.ts';

afterEach(demolish);

const denied = (tool: string): string => `[security.tool_policy.tools]\n${tool} = "deny"\n`;

describe('[promise:deny-by-default] a call that the policy forbids since it was reserved', () => {
  test('and that was never sent is denied by the next supervisor', async () => {
    const { house, id } = await reserved();
    const host = runsEverything();
    const script = { gateway: answers({}), host };
    const next = await house.again({ script, toml: denied('shell'), wrapStore: (store) => store });
    await next.turnDone(id);
    expect(host.runs).toEqual([]);
    expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([{ status: 'denied' }]);
  });

  test('and whose host died is reported, not run again', async () => {
    const host = runsEverything({
      '1.1.1': async (_, { process }) => {
        writeFileSync(join(house.stateDir, 'test-config.toml'), denied('read_file'));
        await house.supervisor.reload();
        process.die();
        return result('nobody hears this');
      },
    });
    const gateway = answers({ '1.1': say('', [callTool('a', 'read_file', { path: 'x' })]) });
    const house: House = await createHouse({ script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const events = await house.events(id);
    expect(host.runs).toEqual(['1.1.1']);
    expect(dataOf(events, 'effect.resolved')).toMatchObject([{ how: 'reported (read)' }]);
    expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'indeterminate' }]);
  });
});
