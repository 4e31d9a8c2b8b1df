/** What nobody waits for is written back, too. */
import { expect, test } from '@jest/globals';
import { WalSync } from '../../store/wal-sync.ts';

test('what was committed is written back though nobody asks, and a failure of that is for good', async () => {
  // A file that takes what is written and cannot be synced.
  const sync = new WalSync('/dev/null', () => 1, {});
  sync.writeBackSoon();
  sync.assertUsable();
  const isUsable = (): boolean => {
    try {
      sync.assertUsable();
      return true;
    } catch {
      return false;
    }
  };
  while (isUsable()) await new Promise(setImmediate);
  expect(() => sync.assertUsable()).toThrow('could not be synced (EINVAL)');
  await expect(sync.run()).rejects.toThrow('could not be synced (EINVAL)');
  await sync.close();
});
