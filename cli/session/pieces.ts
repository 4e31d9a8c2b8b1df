/** What a session's events come to for a reader: a short list of pieces, each shown once. Every
 *  view (run, attach, logs) renders these; none reads raw events. */
import type { AskedCall } from '../../protocol/approval-words.ts';
import type { ToolStatus, TurnOutcome, Usage } from '../../protocol/content.ts';

/** One tool call, from its request to its outcome. */
export interface ToolCall {
  readonly callId: string;
  readonly tool: string;
  /** Short and safe to show on one line. */
  readonly summary: string;
  readonly arguments: unknown;
  readonly level: string | undefined;
  readonly status: ToolStatus | 'requested' | 'awaiting' | 'running';
  readonly durationMs: number | undefined;
  readonly exitCode: number | undefined;
  /** The first lines of what it printed. */
  readonly head: readonly string[];
  readonly lineCount: number;
  readonly notice: string | undefined;
  /** Who decided against it and by which rule, when somebody did. */
  readonly deniedBy: string | undefined;
}

export interface PendingApproval extends AskedCall {
  readonly callId: string;
  readonly summary: string;
  readonly expiresAt: string;
  /** Binds an answer to the call that was looked at. */
  readonly digest: string;
  /** Why somebody is asked. */
  readonly rule: string | undefined;
}

export interface TurnEnd {
  readonly turn: number;
  readonly inputId: string;
  readonly outcome: TurnOutcome;
  readonly reason: string | undefined;
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly usage: Usage;
  readonly costUsd: number;
  readonly steps: number;
}

export type Piece =
  | {
      readonly kind: 'user';
      readonly text: string;
      readonly source: string;
      readonly inputId: string;
    }
  | { readonly kind: 'turn-started'; readonly turn: number; readonly inputId: string }
  | { readonly kind: 'text'; readonly text: string }
  /** The text of this step is whole. */
  | { readonly kind: 'text-end' }
  /** The text of this step so far is void; what follows replaces it. */
  | { readonly kind: 'superseded'; readonly attempt: number; readonly reason: string }
  | { readonly kind: 'reasoning'; readonly text: string }
  | { readonly kind: 'tool-started'; readonly call: ToolCall }
  | { readonly kind: 'tool'; readonly call: ToolCall }
  | { readonly kind: 'approval'; readonly approval: PendingApproval }
  | {
      readonly kind: 'approval-resolved';
      readonly callId: string;
      readonly decision: string;
      readonly by: string;
    }
  | { readonly kind: 'notice'; readonly level: 'info' | 'warn' | 'error'; readonly text: string }
  | { readonly kind: 'turn'; readonly end: TurnEnd }
  | { readonly kind: 'state'; readonly to: string; readonly reason: string };
