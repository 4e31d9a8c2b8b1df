/** One line from a terminal that is not shown while it is typed. */
import { PrxError } from '../base/errors.ts';
import type { Machine } from './machine.ts';

const CHARS_MAX = 64 * 1024;
const [ENTER, RETURN, ERASE, DELETE, CLEAR] = ['\n', '\r', '\b', '\u007f', '\u0015'];
const [INTERRUPT, END] = ['\u0003', '\u0004'];

/** Throws CANCELLED at Ctrl-C, Ctrl-D or the end of input; LIMIT_EXCEEDED. */
export function readHiddenLine({ stdin, stderr }: Machine, prompt: string): Promise<string> {
  let line = '';
  stderr.write(prompt);
  stdin.setRawMode?.(true);
  return new Promise((resolve, reject) => {
    const finish = (end: () => void): void => {
      stdin.off('data', onData);
      stdin.off('end', onEnd);
      stdin.setRawMode?.(false);
      stdin.pause();
      stderr.write('\n');
      end();
    };
    const onEnd = (): void =>
      finish(() => reject(new PrxError('CANCELLED', 'no value was given; nothing was changed')));
    const onData = (chunk: Buffer | string): void => {
      for (const char of String(chunk)) {
        if (char === ENTER || char === RETURN) {
          finish(() => resolve(line));
          return;
        }
        if (char === INTERRUPT || char === END) {
          onEnd();
          return;
        }
        if (char === CLEAR) line = '';
        else if (char === ERASE || char === DELETE) line = line.slice(0, -1);
        else line += char;
      }
      if (line.length <= CHARS_MAX) return;
      finish(() => reject(new PrxError('LIMIT_EXCEEDED', `more than ${CHARS_MAX} characters`)));
    };
    stdin.on('data', onData);
    stdin.on('end', onEnd);
    stdin.resume();
  });
}
