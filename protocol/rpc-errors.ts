/** PrxError ↔ JSON-RPC error, and the errors a connection itself raises. */
import { ConnectionError, ErrorCodes, ResponseError } from 'vscode-jsonrpc/node';
import type { z } from 'zod';
import { isErrorCode, isPrxError, PrxError, toPrxError } from '../base/errors.ts';

/** JSON-RPC number of every PrxError; its own code stands in the error's data. */
const PRX_ERROR = -32000;
const ISSUES_MAX = 3;

export function toResponseError(error: unknown): ResponseError<unknown> {
  const known = toPrxError(error);
  return new ResponseError(PRX_ERROR, known.message, { code: known.code, data: known.data });
}

/** @param closed  what to throw when the connection itself refused: the peer is gone. */
export function fromResponseError(error: unknown, closed: PrxError): PrxError {
  if (isPrxError(error)) return error;
  if (error instanceof ConnectionError) return closed;
  if (!(error instanceof ResponseError)) return toPrxError(error);
  const detail: unknown = error.data;
  if (isRecord(detail) && isErrorCode(detail.code)) {
    const data = isRecord(detail.data) ? detail.data : {};
    return new PrxError(detail.code, error.message, { data });
  }
  if (error.code === ErrorCodes.MethodNotFound) {
    return new PrxError('METHOD_UNKNOWN', error.message);
  }
  return toPrxError(error);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function parseOrThrow<T extends z.ZodType>(
  schema: T,
  value: unknown,
  what: string,
): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw shapeError(what, parsed.error);
  return parsed.data;
}

export function shapeError(what: string, error: z.ZodError): PrxError {
  const issues = error.issues
    .slice(0, ISSUES_MAX)
    .map((issue) => `${issue.path.join('.') || '(root)'}: ${issue.message}`);
  return new PrxError('INVALID_REQUEST', `${what} are malformed: ${issues.join('; ')}`);
}

export function unknownMethod(method: string, peer: string): PrxError {
  return new PrxError('METHOD_UNKNOWN', `${peer} used the unknown method ${method}`);
}

export function peerClosed(peer: string, method: string): PrxError {
  return new PrxError('PEER_CLOSED', `${peer} is gone; ${method} was not answered`);
}
