/** Log lines: what stands on each, how they look, and what is taken out of them. */
import { describe, expect, test } from '@jest/globals';
import { createLogger, type LogOptions, teeLoggers, toText } from '../../base/logger.ts';

function collect(options: LogOptions = {}) {
  const lines: string[] = [];
  const logger = createLogger('room', 'info', { ...options, write: (line) => lines.push(line) });
  const parse = (): unknown[] => lines.map((line) => JSON.parse(line));
  return { logger, lines, parse };
}

const head = {
  level: 'info',
  room: 'room',
  pid: process.pid,
  time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
};

describe('a line', () => {
  test('is one object with level, time, room, pid, event and fields', () => {
    const { logger, parse } = collect();
    logger.info('a.b', { count: 1 });
    logger.debug('too.fine', {});
    expect(parse()).toEqual([{ ...head, event: 'a.b', count: 1 }]);
  });

  test('of a child has its bindings, and those of a function as they are at that time', () => {
    const { logger, parse } = collect();
    let turn = 1;
    const child = logger.child({ session: 's' }).child(() => ({ turn }));
    child.info('one');
    turn = 2;
    child.child({ more: true }).info('two');
    expect(parse()).toEqual([
      { ...head, event: 'one', session: 's', turn: 1 },
      { ...head, event: 'two', session: 's', turn: 2, more: true },
    ]);
  });

  test('goes to both of two loggers, each with its own level', () => {
    const [one, other] = [collect(), collect()];
    teeLoggers(one.logger, other.logger).child({ a: 1 }).warn('both');
    expect([one.lines.length, other.lines.length]).toEqual([1, 1]);
    expect(other.parse()).toEqual([{ ...head, level: 'warn', event: 'both', a: 1 }]);
  });

  test('is redacted as a whole, fields and errors alike', () => {
    const { logger, lines } = collect({ redact: (line) => line.replaceAll('hunter2', '[secret]') });
    logger.info('a', { text: 'x hunter2 y', error: new Error('hunter2') });
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).toContain('x [secret] y');
  });
});

describe('a field that is bound as well', () => {
  test('stands on the line once, as it was given last', () => {
    const { logger, lines } = collect();
    logger.child({ pid: 2 }).info('a', { pid: 3 });
    expect(lines[0]?.match(/"pid":\d+/g)).toEqual(['"pid":3']);
  });
});

describe('a line as text', () => {
  test('is time, level, event and key=value', () => {
    const { logger, lines } = collect({ format: 'text' });
    logger.info('a.b', { session: 's_1', turn: 2, note: 'two words', list: [1] });
    expect(lines).toEqual([
      expect.stringMatching(
        /^\S+Z INFO {2}a\.b room=room session=s_1 turn=2 note="two words" list=\[1\]\n$/,
      ),
    ]);
  });

  test('cannot be made to look like two, or like another field', () => {
    const fields = { level: 'info', time: 't', event: 'e', room: 'r', pid: 1 };
    expect(toText(JSON.stringify({ ...fields, text: 'x\n2026 ERROR forged a=b' }))).toBe(
      't INFO  e room=r text="x\\n2026 ERROR forged a=b"\n',
    );
  });
});
