/** What a command loads before it does anything: each start of the CLI waits for it. */
import { expect, jest, test } from '@jest/globals';

test('the parser of the command line makes no tables of ICU', async () => {
  const segmenter = jest.spyOn(Intl, 'Segmenter');
  await import('../../cli/parse.ts');
  expect(segmenter).not.toHaveBeenCalled();
});
