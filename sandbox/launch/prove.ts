/** One run of the real thing: nothing else shows that a sandbox can be had. */
import type { Readable } from 'node:stream';
import { PrxError } from '../../base/errors.ts';
import { toAdvice } from './advice.ts';
import type { RunningCommand } from './backend.ts';

/** What a command for `proveCommand` is. */
export const PROOF_SCRIPT = 'echo proved\n';

/** Throws SANDBOX_UNAVAILABLE with what the command said, and its mend. */
export async function proveCommand(command: RunningCommand): Promise<void> {
  const [stdout, stderr, end] = await Promise.all([
    readText(command.stdout),
    readText(command.stderr),
    command.ended,
  ]);
  if (end.kind === 'exited' && end.code === 0 && stdout === 'proved\n') return;
  const said = stderr === '' ? `it ended with ${JSON.stringify(end)}` : stderr;
  const { reason, mend } = toAdvice(said);
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  throw new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}

export async function readText(stream: Readable): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}
