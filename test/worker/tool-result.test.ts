import { describe, expect, test } from '@jest/globals';
import { formatToolResult } from '../../worker/tool-result.ts';
import { result } from './harness.ts';

describe('what the model reads of a call', () => {
  test.each([
    ['plain output', result('hello'), 'hello'],
    ['no output', result(''), '(no output)'],
    ['exit code 0', result('hi', { exit_code: 0 }), 'hi'],
    ['another exit code', result('hi', { exit_code: 2 }), '[status: ok, exit code 2]\nhi'],
    [
      'an error',
      result('bad path', { status: 'error' }),
      '[status: error] The call failed.\nbad path',
    ],
    [
      'a timeout',
      result('so far', { status: 'timeout', exit_code: 137 }),
      '[status: timeout, exit code 137] The call ran out of time and was killed.\nso far',
    ],
    [
      'a denial',
      result('', { status: 'denied' }),
      '[status: denied] The call was denied and did not run.\n(no output)',
    ],
    [
      'an unknown outcome',
      result('', { status: 'indeterminate' }),
      '[status: indeterminate] It is not known whether this call took effect: find out before you do it again.\n(no output)',
    ],
    ['cut output', result('head', { truncated: true }), 'head\n[output cut]'],
    [
      'cut output with an artifact, which no tool reads (regression)',
      result('head', { truncated: true, artifact: 'a_1' }),
      'head\n[output cut; artifact a_1 is for the user; to see another part yourself, ask for that part alone]',
    ],
    ['a notice', result('x', { notice: 'read-only' }), 'x\n[notice: read-only]'],
    ['a level', result('x', { level: 'bubblewrap' }), 'x'],
    ['no isolation', result('x', { level: 'none' }), 'x\n[isolation: none]'],
    ['limits only', result('x', { level: 'limits-only' }), 'x\n[isolation: limits-only]'],
  ])('%s', (_, outcome, expected) => {
    expect(formatToolResult(outcome)).toBe(expected);
  });

  test('does not depend on how long it took', () => {
    const slow = formatToolResult(result('x', { duration_ms: 9_000, usage: { cpu_ms: 3 } }));
    expect(slow).toBe(formatToolResult(result('x')));
  });
});
