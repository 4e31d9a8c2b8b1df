/** Has tool files described by the sandbox program: a process of its own, which loads them inside a
 *  sandbox. What it says is data of strangers, bounded and checked; what goes wrong is the reason
 *  why a file has no tool. */
import type { Readable } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { ProcessPort } from '../../base/process.ts';
import {
  type DescribeOrder,
  type Description,
  describeAnswerSchema,
} from '../../protocol/custom-tools.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { ChildSpec } from '../children/child.ts';

export interface DescribePorts {
  /** The sandbox program. */
  readonly spec: ChildSpec;
  readonly processes: Pick<ProcessPort, 'start'>;
  readonly clock: Clock;
}

/** Behind the limit for all files: one that was begun, and the sandbox itself. */
const MARGIN_MS = 25_000;
/** Of 64 files with the longest description and schema that are taken. */
const ANSWER_CHARS_MAX = 8 * 1024 * 1024;

/** One answer a file, in their order. Never rejects. */
export async function describeTools(
  { spec, processes, clock }: DescribePorts,
  order: DescribeOrder & { readonly policy: SandboxPolicy },
): Promise<readonly Description[]> {
  const { files, totalMs } = order;
  try {
    const own = spec.process;
    const args = [...own.args, '--describe', JSON.stringify(order)];
    const running = await processes.start({ ...own, args });
    running.stderr.resume();
    const limitMs = totalMs + MARGIN_MS;
    const timer = clock.setTimer(limitMs, () => running.stdout.destroy(silent(limitMs)));
    try {
      const answer = describeAnswerSchema.parse(JSON.parse(await readAnswer(running.stdout)));
      if (answer.files.length === files.length) return answer.files;
      throw new PrxError('PEER_CLOSED', `it spoke of ${answer.files.length} files`);
    } finally {
      timer.cancel();
      running.kill('SIGKILL');
    }
  } catch (error) {
    const problem = `it was not read: the process that reads tool files failed: ${toPrxError(error).message}`;
    return files.map(() => ({ kind: 'refused', problem }));
  }
}

function silent(limitMs: number): PrxError {
  return new PrxError('DEADLINE_EXCEEDED', `it said nothing within ${limitMs} ms`);
}

async function readAnswer(stdout: Readable): Promise<string> {
  let output = '';
  for await (const chunk of stdout.setEncoding('utf8')) {
    output += chunk;
    if (output.length <= ANSWER_CHARS_MAX) continue;
    throw new PrxError('LIMIT_EXCEEDED', `it said more than ${ANSWER_CHARS_MAX} characters`);
  }
  if (output === '') throw new PrxError('PEER_CLOSED', 'it ended without an answer');
  return output;
}
