import { userInfo } from 'node:os';
import { describe, expect, test } from '@jest/globals';
import { findUserName, homeOf } from '../../base/home.ts';
import { spawnQuick } from '../../base/process.ts';

const isRoot = process.getuid?.() === 0;
const source = new URL('../../base/home.ts', import.meta.url).href;
/** No account has it. */
const BARE_UID = 2_000_054_321;

describe('the home', () => {
  test('is what the environment says, else what the account says', () => {
    expect(homeOf({ HOME: '/some/where' })).toBe('/some/where');
    expect([homeOf({}), homeOf({ HOME: '' })]).toEqual([userInfo().homedir, userInfo().homedir]);
    expect(findUserName()).toBe(userInfo().username);
  });

  const why = isRoot ? '' : ' (skipped: only root can run as somebody else)';
  (isRoot ? test : test.skip)(
    `of a user without an account is nowhere, and nothing fails (regression)${why}`,
    async () => {
      const show = 'm => console.log(JSON.stringify([m.homeOf({}), m.findUserName() ?? null]))';
      const { child, exited } = await spawnQuick({
        command: process.execPath,
        args: ['-e', `import(${JSON.stringify(source)}).then(${show})`],
        ...{ env: {}, ownSession: false, stdio: ['ignore', 'pipe', 'inherit'] },
        ...{ uid: BARE_UID, gid: BARE_UID },
      });
      let text = '';
      child.stdout?.on('data', (chunk: Buffer) => {
        text += chunk.toString('utf8');
      });
      expect((await exited).code).toBe(0);
      expect(JSON.parse(text)).toEqual(['/nonexistent', null]);
    },
  );
});
