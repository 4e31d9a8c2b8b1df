/** What one thread does, once: describe a tool file, look at arguments, or run a call. Its answers
 *  are texts and plain data, bounded here; what a tool throws is an answer too. */
import { Console } from 'node:console';
import { Writable } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import { z } from 'zod';
import type { Description } from '../../../protocol/custom-tools.ts';
import { type LoadedTool, loadTool, ToolFileError, toSentence } from './load.ts';

export interface Place {
  readonly file: string;
  readonly root: string;
}

export interface CallTask extends Place {
  readonly digest: string;
  readonly arguments: unknown;
}

export interface RunTask extends CallTask {
  readonly workspace: string;
  /** Takes what is logged; says when to stop. */
  readonly port: MessagePort;
}

export interface Answer {
  readonly status: 'ok' | 'error';
  readonly output: string;
}

const SCHEMA_BYTES_MAX = 32 * 1024;
/** Of what a call returns: it becomes an artifact, and one message on its way there. */
const RESULT_CHARS_MAX = 16 * 1024 * 1024;
const LOG_CHARS_MAX = 262_144;
const ERROR_CHARS_MAX = 4000;

export async function describeFile({ file, root }: Place): Promise<Description> {
  try {
    const { tool, digest } = await loadTool(file, root);
    const { $schema: _, ...parameters } = z.toJSONSchema(tool.schema, { io: 'input' });
    const bytes = Buffer.byteLength(JSON.stringify(parameters));
    if (bytes > SCHEMA_BYTES_MAX) {
      throw new ToolFileError(`its schema has ${bytes} bytes as JSON, limit ${SCHEMA_BYTES_MAX}`);
    }
    const { name, description, effect } = tool;
    return { kind: 'tool', name, description, effect, parameters, digest };
  } catch (error) {
    return { kind: 'refused', problem: toMessage(error) };
  }
}

/** @returns what is wrong with the arguments; undefined: nothing. */
export async function checkArguments(task: CallTask): Promise<string | undefined> {
  const taken = await takeInput(task);
  return 'problem' in taken ? taken.problem : undefined;
}

export async function runTool(task: RunTask): Promise<Answer> {
  const { workspace, port } = task;
  const abort = new AbortController();
  port.on('message', (reason: string) => abort.abort(new Error(reason)));
  const log = createLog(port);
  takeConsole(log);
  const taken = await takeInput(task);
  if ('problem' in taken) return { status: 'error', output: taken.problem };
  const { tool } = taken.loaded;
  try {
    const value: unknown = await tool.run(taken.input, { signal: abort.signal, workspace, log });
    return toAnswer(value);
  } catch (error) {
    return { status: 'error', output: `The tool failed: ${toMessage(error)}` };
  }
}

type Taken =
  | { readonly loaded: LoadedTool; readonly input: Readonly<Record<string, unknown>> }
  | { readonly problem: string };

/** The tool as it was described and approved, and its input as its schema makes it. */
async function takeInput({ file, root, digest, ...task }: CallTask): Promise<Taken> {
  try {
    const loaded = await loadTool(file, root);
    if (loaded.digest !== digest) {
      return { problem: 'The file of this tool was changed; nothing ran. Its user reloads it.' };
    }
    const parsed = await loaded.tool.schema.safeParseAsync(task.arguments);
    if (parsed.success) return { loaded, input: parsed.data };
    const sentence = toSentence(parsed.error, 'arguments');
    return { problem: `The arguments do not fit: ${sentence}. Correct them and call again.` };
  } catch (error) {
    return { problem: `The file of this tool cannot be used; nothing ran: ${toMessage(error)}` };
  }
}

function toAnswer(value: unknown): Answer {
  const output = typeof value === 'string' ? value : toJson(value);
  if (output === undefined) {
    const kind = typeof value;
    return { status: 'error', output: `The tool ran, and returned what is no JSON: a ${kind}.` };
  }
  if (output.length <= RESULT_CHARS_MAX) return { status: 'ok', output };
  const size = `${output.length} characters; the limit is ${RESULT_CHARS_MAX}`;
  const message = `The tool ran, and returned ${size}. It should write a file in the workspace.`;
  return { status: 'error', output: message };
}

function toJson(value: unknown): string | undefined {
  if (value === undefined) return '';
  try {
    return JSON.stringify(value);
  } catch {
    // A cycle, a BigInt: said by the caller.
    return undefined;
  }
}

function toMessage(error: unknown): string {
  // What is thrown may be anything, also what throws when it is looked at.
  try {
    const text = error instanceof Error ? error.message : String(error);
    return text.slice(0, ERROR_CHARS_MAX);
  } catch {
    return 'it threw something that cannot be shown';
  }
}

function createLog(port: MessagePort): (text: string) => void {
  let left = LOG_CHARS_MAX;
  return (text) => {
    if (left <= 0) return;
    const line = `${String(text)}\n`;
    port.postMessage(line.slice(0, left));
    left -= line.length;
    if (left <= 0) port.postMessage('\n[more was logged; it is not shown]\n');
  };
}

/** What a tool prints belongs to its call. */
function takeConsole(log: (text: string) => void): void {
  const stream = new Writable({
    write(chunk, _, done) {
      log(String(chunk).replace(/\n$/, ''));
      done();
    },
  });
  globalThis.console = new Console({ stdout: stream, stderr: stream });
}
