/** A value typed at a terminal: taken as typed, and never shown. */
import { describe, expect, test } from '@jest/globals';
import { readHiddenLine } from '../../cli/hidden-line.ts';
import { createFakeMachine } from './fake-machine.ts';

function type(keys: string): Promise<{ line: string; shown: string }> {
  const machine = createFakeMachine({ tty: true });
  const reading = readHiddenLine(machine, 'value: ');
  machine.keyboard.write(keys);
  return reading.then((line) => ({ line, shown: machine.stdout.text + machine.stderr.text }));
}

describe('[command:secret] a line that is not shown', () => {
  test.each([
    ['abc\r', 'abc'],
    ['abc\n', 'abc'],
    ['abx\u007fc\r', 'abc'],
    ['wrong\u0015abc\r', 'abc'],
    ['é🔑\r', 'é🔑'],
  ])('%j is %j', async (keys, line) => {
    expect(await type(keys)).toEqual({ line, shown: 'value: \n' });
  });

  test.each(['\u0003', '\u0004', 'abc\u0003'])('%j gives it up', async (keys) => {
    await expect(type(keys)).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('has a bound', async () => {
    await expect(type('a'.repeat(70_000))).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });
});
