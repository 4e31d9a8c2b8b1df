/** A turn as `run` and `send --wait` show it: the answer on stdout as it comes, all else as short
 *  lines on stderr. On a terminal nothing of the answer can move the cursor; into a pipe it goes
 *  as it is. */
import type { Context } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { sanitize } from '../text/width.ts';
import type { Piece } from './pieces.ts';
import { toSupersededLine, toToolLine, toTurnLine } from './plain.ts';

export interface TurnOutput {
  write(piece: Piece): void;
  /** Ends an open line of the answer. */
  finish(): void;
}

export function createTurnOutput(context: Context): TurnOutput {
  const { stdout, stderr } = context.machine;
  const { errorStyle: style } = context;
  const isTty = stdout.isTTY === true;
  let lineOpen = false;
  const finish = (): void => {
    if (lineOpen) stdout.write('\n');
    lineOpen = false;
  };
  const writeText = (text: string): void => {
    const shown = isTty ? sanitize(text) : text;
    if (shown === '') return;
    stdout.write(shown);
    lineOpen = !shown.endsWith('\n');
  };
  const aside = (line: string): void => {
    if (context.quiet) return;
    // Both on one terminal: an answer's open line would otherwise be written into.
    if (isTty && stderr.isTTY === true) finish();
    context.say(line);
  };
  return {
    finish,
    write: (piece) => {
      switch (piece.kind) {
        case 'text':
          return writeText(piece.text);
        case 'text-end':
          return finish();
        case 'superseded':
          // On stdout, because that is where the void text is.
          finish();
          return writeText(`\n${toSupersededLine(piece.attempt, piece.reason)}\n\n`);
        case 'tool':
          aside(style.dim(toToolLine(piece.call, style, columnsOf(stderr) - 48)));
          if (piece.call.notice !== undefined) aside(`  ${sanitize(piece.call.notice)}`);
          return;
        case 'notice':
          return aside(style.dim(`${piece.level}: ${sanitize(piece.text)}`));
        case 'approval-resolved':
          return aside(style.dim(`approval of ${piece.callId}: ${piece.decision} by ${piece.by}`));
        case 'turn':
          finish();
          return aside(style.dim(toTurnLine(piece.end)));
        default:
          return;
      }
    },
  };
}
