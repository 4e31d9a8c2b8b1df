/** How a call ended, from what the SDK threw. The question behind each case: did it run? And what
 *  else is lost with it: an answer that nobody can read costs its call, and no other. Pure. */
import {
  InsufficientScopeError,
  ProtocolError,
  SdkError,
  SdkErrorCode,
  SdkHttpError,
} from '@modelcontextprotocol/client';
import { isPrxError } from '../../base/errors.ts';
import { cleanText } from './listing.ts';
import { isNoAnswer, NO_MESSAGE } from './no-answer.ts';
import type { CallResult } from './result.ts';

export type CallEnd =
  | { readonly kind: 'result'; readonly result: CallResult }
  /** It answered, or nobody was there to ask: the call did not run, or failed by its own words. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'cancelled' }
  /** What it answered broke off, or is nothing that can be read; it is still there. */
  | { readonly kind: 'unclear'; readonly detail: string }
  /** It went away under the call. */
  | { readonly kind: 'lost'; readonly detail: string };

const MESSAGE_CHARS_MAX = 4000;
const CAUSES_MAX = 4;

/** It answered, with questions. */
const WANTS_INPUT: readonly SdkErrorCode[] = [
  SdkErrorCode.CapabilityNotSupported,
  SdkErrorCode.InputRequiredRoundsExceeded,
  SdkErrorCode.UnsupportedResultType,
];

export function toCallEnd(error: unknown, signal: AbortSignal): CallEnd {
  if (signal.aborted) return { kind: 'cancelled' };
  // Ours, before anything was sent.
  if (isPrxError(error, 'POLICY_DENIED')) return { kind: 'failed', message: error.message };
  // Ours, too: nobody took the request, or he was gone before he answered.
  if (isPrxError(error, 'MCP_UNAVAILABLE')) return { kind: 'lost', detail: describe(error) };
  if (isNoAnswer(error)) return { kind: 'unclear', detail: describe(error) };
  if (error instanceof ProtocolError) return { kind: 'failed', message: describe(error) };
  if (error instanceof SdkHttpError) return toHttpEnd(error);
  if (error instanceof InsufficientScopeError) return { kind: 'failed', message: describe(error) };
  if (error instanceof SdkError) return toSdkEnd(error);
  return { kind: 'unclear', detail: describe(error) };
}

function toSdkEnd(error: SdkError): CallEnd {
  switch (error.code) {
    case SdkErrorCode.RequestTimeout:
      return { kind: 'timeout' };
    case SdkErrorCode.NotConnected:
      return { kind: 'failed', message: 'the server is gone; nothing ran' };
    case SdkErrorCode.ConnectionClosed:
      return { kind: 'lost', detail: describe(error) };
    case SdkErrorCode.InvalidResult:
      return { kind: 'failed', message: `it answered with no tool result: ${describe(error)}` };
    default: {
      if (!WANTS_INPUT.includes(error.code)) return { kind: 'unclear', detail: describe(error) };
      const message = `it asked for input, which nobody gives: ${describe(error)}`;
      return { kind: 'failed', message };
    }
  }
}

/** Of what was done, and is told elsewhere. Source: RFC 9110, 15.4.4. */
const SEE_OTHER = 303;

/** Refused, or sent on to where we do not go, before anything ran; else nobody knows. */
function toHttpEnd(error: SdkHttpError): CallEnd {
  const status = error.status ?? 0;
  const isRefused = status >= 300 && status < 500 && status !== SEE_OTHER;
  if (isRefused) return { kind: 'failed', message: describe(error) };
  return { kind: 'unclear', detail: describe(error) };
}

/** With what caused it, which of a refused connection is all that there is to know. */
export function describe(error: unknown): string {
  const messages: string[] = [];
  let each = error;
  for (let depth = 0; depth < CAUSES_MAX && each instanceof Error; depth += 1) {
    messages.push(toMessage(each));
    each = each.cause;
  }
  const text = messages.length === 0 ? String(error) : messages.join(': ');
  return cleanText(text).slice(0, MESSAGE_CHARS_MAX);
}

function toMessage(error: Error): string {
  // A page of what all the kinds of messages would have had.
  if (error.name === 'ZodError') return NO_MESSAGE;
  const isHttp = error instanceof SdkHttpError && error.status !== undefined;
  return isHttp ? `HTTP ${error.status}: ${error.message}` : error.message;
}
