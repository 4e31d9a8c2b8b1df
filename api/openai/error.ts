/** Failures in the shape that OpenAI clients read: {error: {message, type, param, code}}. The
 *  status, which decides whether they try again, is that of the problem document. */
import type { Problem } from '../../protocol/resources.ts';

export interface OpenaiError {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
}

const types: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  409: 'conflict_error',
  429: 'rate_limit_error',
};

export function toOpenaiError(problem: Problem): { readonly error: OpenaiError } {
  const other = problem.status < 500 ? 'invalid_request_error' : 'server_error';
  const type = types[problem.status] ?? other;
  const { code } = problem.data ?? {};
  return {
    error: {
      message: problem.detail,
      type,
      param: findParam(problem.data ?? {}),
      code: typeof code === 'string' ? code : problem.code.toLowerCase(),
    },
  };
}

/** Which parameter is meant: named by whoever refused it, or the first that the schema refused. */
function findParam({ param, issues }: Readonly<Record<string, unknown>>): string | null {
  if (typeof param === 'string') return param;
  const first: unknown = Array.isArray(issues) ? issues[0] : undefined;
  const { path, keys } = (first ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof path !== 'string') return null;
  const [unknown] = Array.isArray(keys) ? keys : [];
  const whole = typeof unknown === 'string' ? `${path}.${unknown}` : path;
  return whole.replace(/^(body|query|path)\.?/, '') || null;
}
