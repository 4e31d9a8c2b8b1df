/** What our own programs say: the configuration in force, the provider it names, the sandbox that
 *  works here. A running supervisor is asked; otherwise its programs are run for an answer. */
import { basename } from 'node:path';
import { toPrxError } from '../../base/errors.ts';
import type { StatusView } from '../../protocol/resources.ts';
import { isConfining } from '../../protocol/sandbox-levels.ts';
import type { Environment, Machine } from '../machine.ts';
import { runOwnProgram } from '../own-programs.ts';
import type { Check } from './check.ts';

const PROBE_TIMEOUT_MS = 20_000;

/** What a check needs of `config show`. */
interface ConfigAnswer {
  readonly ok: boolean;
  readonly file?: string;
  readonly values?: readonly { readonly key: string; readonly value: unknown }[];
  readonly error?: unknown;
}

export interface ConfigFinding {
  readonly check: Check;
  /** A value of the configuration in force, undefined when it is not known. */
  readonly find: (key: string) => unknown;
}

export async function checkConfig(
  machine: Machine,
  options: Readonly<Record<string, unknown>>,
): Promise<ConfigFinding> {
  const base = { id: 'config', category: 'supervisor' } as const;
  const nothing = (): undefined => undefined;
  try {
    const args = [JSON.stringify({ mode: 'config', show: true, ...options })];
    const request = { program: 'supervisor', args, timeoutMs: PROBE_TIMEOUT_MS } as const;
    const answer = await readAnswer<ConfigAnswer>(machine, request);
    if (!answer.ok) {
      const summary = toText(answer.error);
      const mend = 'mend the named key; config check tells when it is right';
      return { check: { ...base, status: 'fail', summary, mend }, find: nothing };
    }
    const summary = answer.file ?? 'no config file; built-in defaults';
    const find = (key: string): unknown => answer.values?.find((one) => one.key === key)?.value;
    return { check: { ...base, status: 'ok', summary }, find };
  } catch (error) {
    const summary = `could not be read: ${toPrxError(error).message}`;
    return { check: { ...base, status: 'fail', summary }, find: nothing };
  }
}

export function checkProvider(find: (key: string) => unknown, env: Environment): Check {
  const base = { id: 'provider', category: 'provider' } as const;
  const keyName = String(find('provider.api_key_env') ?? 'OPENAI_API_KEY');
  const hasKey = Boolean(env[keyName]);
  const baseUrl = find('provider.base_url') ?? env['OPENAI_BASE_URL'];
  const hasUrl = typeof baseUrl === 'string' && baseUrl !== '';
  const kind = find('provider.kind') ?? (hasKey || hasUrl ? 'openai' : 'offline');
  const details = { kind, key_env: keyName, key_set: hasKey };
  if (kind === 'offline') {
    const summary = 'the offline stand-in answers: no key and no base URL is set';
    const mend = `set ${keyName}, or [provider].base_url for a model server of your own`;
    return { ...base, status: 'warn', summary, mend, details };
  }
  if (hasKey) return { ...base, status: 'ok', summary: `${kind}, key from ${keyName}`, details };
  // A model server on one's own machine commonly wants no key.
  const status = hasUrl ? 'warn' : 'fail';
  const mend = `export ${keyName}=… where the supervisor is started`;
  return { ...base, status, summary: `${kind}: ${keyName} is not set`, mend, details };
}

/** A limit in dollars counts nothing while nobody says what a model costs. */
export function checkBudget(find: (key: string) => unknown): readonly Check[] {
  const max = Number(find('budget.max_cost_usd') ?? 0);
  if (max === 0) return [];
  const base = { id: 'budget', category: 'provider' } as const;
  const model = find('agent.model');
  const name = typeof model === 'string' && model !== '' ? model : undefined;
  if (name !== undefined && find(`provider.prices.${name}.input`) !== undefined) {
    return [{ ...base, status: 'ok', summary: `${max} US dollars for each session` }];
  }
  const summary = `max_cost_usd = ${max}: only what provider.prices names counts, and ${
    name === undefined ? 'no model is named' : `'${name}' is not there`
  }`;
  const mend = `set provider.prices."${name ?? 'MODEL'}", or budget.max_tokens`;
  return [{ ...base, status: 'warn', summary, mend }];
}

interface SandboxAnswer {
  readonly level: string;
  readonly offered?: string | undefined;
  readonly policy?: string | undefined;
  readonly reason?: string | undefined;
  readonly mend?: string | undefined;
  readonly uid?: number | undefined;
}

export async function checkSandbox(
  machine: Machine,
  status: StatusView | undefined,
): Promise<Check> {
  if (status !== undefined) return judgeSandbox(status.sandbox);
  const request = { program: 'sandbox', args: ['--probe'], timeoutMs: PROBE_TIMEOUT_MS } as const;
  try {
    return judgeSandbox(await readAnswer<SandboxAnswer>(machine, request));
  } catch (error) {
    const summary = `could not be probed: ${toPrxError(error).message}`;
    return { id: 'sandbox', category: 'sandbox', status: 'fail', summary };
  }
}

/** Pure part of checkSandbox. */
export function judgeSandbox(answer: SandboxAnswer): Check {
  const { level, offered = level, reason, policy } = answer;
  const isOk = isConfining(level) && reason === undefined;
  // In force, or nothing that could be.
  const isSettled = policy !== undefined || offered === 'bubblewrap' || offered === 'none';
  const mends = [
    answer.mend ?? (isOk ? [] : 'security.sandbox.backend = "auto"'),
    isSettled ? [] : `or accept it: security.sandbox.minimum_level = "${offered}"`,
  ].flat();
  const shown = level === offered ? `level ${level}` : `level ${level}, offered ${offered}`;
  return {
    id: 'sandbox',
    category: 'sandbox',
    status: isOk ? 'ok' : 'warn',
    summary: reason === undefined ? shown : `${shown}: ${reason}`,
    ...(isOk ? {} : { mend: mends.join('; ') }),
    details: { ...answer },
  };
}

/** One for each MCP server that was asked for and cannot be used, or left something out. */
export function checkServers({ mcp = [] }: Pick<StatusView, 'mcp'>): Check[] {
  return mcp.map(({ server, state, tools, level, problems }) => {
    const at = level === undefined ? '' : ` at level ${level}`;
    const summary = [`${state}, ${tools} tools${at}`, ...problems].join('; ');
    const base = { id: `mcp.${server}`, category: 'supervisor', summary } as const;
    if (state === 'failed') {
      return { ...base, status: 'warn', mend: `correct mcp.servers.${server}, then reload` };
    }
    if (problems.length === 0) return { ...base, status: 'ok' };
    return { ...base, status: 'warn', mend: 'docs/mcp.md says what of a server is left out' };
  });
}

/** One for each file with a custom tool. */
export function checkToolFiles({
  custom_tools: files = [],
}: Pick<StatusView, 'custom_tools'>): Check[] {
  return files.map(({ file, tool, effect, problem }) => {
    const base = { id: `custom_tool.${basename(file)}`, category: 'supervisor' } as const;
    if (tool !== undefined) return { ...base, status: 'ok', summary: `${tool} (${effect})` };
    const summary = `${file} gives no tool: ${problem}`;
    return { ...base, status: 'warn', summary, mend: 'correct the file, then reload' };
  });
}

export function checkHealth(status: StatusView): Check {
  const base = { id: 'health', category: 'supervisor' } as const;
  if (status.status === 'ok')
    return { ...base, status: 'ok', summary: `version ${status.version}` };
  const summary = [status.status, ...status.reasons].join('; ');
  return { ...base, status: 'fail', summary, mend: 'see the log of the supervisor' };
}

/** The program's last line of output as JSON. It is ours and of this version: see api/client.ts. */
async function readAnswer<T>(
  machine: Machine,
  request: Parameters<typeof runOwnProgram>[1],
): Promise<T> {
  const { stdout, stderr } = await runOwnProgram(machine, request);
  const line = stdout.trim().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(line) as T;
  } catch (cause) {
    const said = stderr.trim().split('\n').at(-1) ?? '';
    throw new Error(said === '' ? 'it gave no answer' : said.slice(0, 500), { cause });
  }
}

function toText(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error) {
    return String(error.message);
  }
  return typeof error === 'string' ? error : JSON.stringify(error);
}
