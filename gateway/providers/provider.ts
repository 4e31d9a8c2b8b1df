/** What a provider is to the rest of the gateway: one request in, a stream of normalized parts
 *  out. A provider makes exactly one request per `generate` and never retries. */
import type { FinishReason, ProviderMessage, Usage } from '../../protocol/content.ts';
import type { ToolSpec } from '../../protocol/tools.ts';

export interface GenerateRequest {
  readonly model: string;
  readonly messages: readonly ProviderMessage[];
  readonly tools: readonly ToolSpec[];
  readonly parallelToolCalls: boolean;
}

/** A piece of a tool call. `index` tells calls apart; id and name come with its first piece. */
export interface ToolCallPart {
  readonly kind: 'tool_call';
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  readonly arguments: string;
}

export type Part =
  | { readonly kind: 'text' | 'reasoning'; readonly text: string }
  | ToolCallPart
  | { readonly kind: 'usage'; readonly usage: Usage }
  /** The model as the provider names it. */
  | { readonly kind: 'model'; readonly model: string }
  | { readonly kind: 'finish'; readonly reason: FinishReason };

/** The parts of one chunk of the stream; empty for a sign of life. */
export type Chunk = readonly Part[];

export interface Provider {
  /** Who is asked, for messages: the base URL without anything secret. */
  readonly target: string;
  /** The first chunk (empty) says that the provider has begun to answer. Throws the errors of
   *  failures.ts. When `signal` aborts it ends soon, by return or throw. The end without a
   *  finish part is the caller's to judge. */
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<Chunk>;
  /** Ids of the models on offer. Throws the errors of failures.ts. */
  listModels(signal: AbortSignal): Promise<readonly string[]>;
}
