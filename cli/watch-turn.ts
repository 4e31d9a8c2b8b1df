/** Shows a turn from its input to its end and turns its outcome into an exit code; shared by `run`
 *  and `send --wait`. */
import type { ApiClient } from '../api/client.ts';
import { PrxError } from '../base/errors.ts';
import type { ApproveMode, InputAccepted, SessionView } from '../protocol/resources.ts';
import type { Context } from './command.ts';
import { EXIT, toTurnExit } from './outcome.ts';
import { createAnswerer } from './session/answer-approvals.ts';
import { type FollowedTurn, followTurn } from './session/follow-turn.ts';
import type { ToolCall } from './session/pieces.ts';
import { createTurnOutput } from './session/turn-output.ts';
import { sanitize } from './text/width.ts';

export interface WatchTurn {
  readonly client: ApiClient;
  readonly view: SessionView;
  readonly input: InputAccepted;
  /** Absent: approvals are left to others. */
  readonly mode: ApproveMode | undefined;
}

export async function watchTurn(context: Context, watch: WatchTurn): Promise<number> {
  const { client, view, input } = watch;
  const stop = new AbortController();
  const output = createTurnOutput(context);
  const interrupt = createInterrupt(context, watch, stop);
  const unlisten = context.machine.onInterrupt(interrupt);
  const answerer = createAnswerer({
    context,
    client,
    sessionId: view.id,
    mode: watch.mode,
    onInterrupt: () => interrupt('SIGINT'),
  });
  let isConnected = true;
  try {
    const followed = await followTurn({
      client,
      sessionId: view.id,
      inputId: input.input_id,
      seq: input.seq,
      signal: stop.signal,
      onEvent: (event) => {
        if (context.json) context.printJson(event);
      },
      onPiece: (piece) => {
        if (piece.kind === 'approval') answerer.onApproval(piece.approval);
        if (piece.kind === 'approval-resolved') answerer.onResolved(piece.callId);
        if (!context.json) output.write(piece);
      },
      onConnection: (connected) => {
        if (!connected && isConnected) context.say('the supervisor is away; waiting for it …');
        if (connected && !isConnected) context.say('the supervisor is back');
        isConnected = connected;
      },
    });
    output.finish();
    return concludeTurn(context, followed, watch.mode);
  } finally {
    output.finish();
    answerer.close();
    unlisten();
  }
}

/** First Ctrl-C: interrupt the turn. Second, or SIGTERM: leave it to itself. */
function createInterrupt(context: Context, watch: WatchTurn, stop: AbortController) {
  let count = 0;
  return (signal: 'SIGINT' | 'SIGTERM'): void => {
    count += 1;
    if (count > 1 || signal === 'SIGTERM') {
      context.say(`left; the turn goes on: ${context.self} attach ${watch.view.id}`);
      stop.abort();
      return;
    }
    context.say('interrupting the turn; Ctrl-C again leaves without waiting');
    watch.client.interrupt(watch.view.id).catch((error: unknown) => {
      context.say(`could not interrupt: ${error instanceof Error ? error.message : String(error)}`);
    });
  };
}

function concludeTurn(context: Context, followed: FollowedTurn, mode: WatchTurn['mode']): number {
  if (followed.lost !== undefined) throw new PrxError('SESSION_NOT_OPEN', followed.lost);
  sayDenied(context, followed.denied);
  if (mode === 'never' && followed.denied.some(({ deniedBy }) => !isFinal(deniedBy))) {
    context.say('  --approve ask asks on a terminal, --approve all allows what needs approval');
  }
  const { end } = followed;
  if (end === undefined) return EXIT.interrupted;
  return toTurnExit({
    outcome: end.outcome,
    errorCode: end.error?.code,
    deniedCount: followed.denied.length,
  });
}

/** What policy itself denies, or this machine cannot run, no way of asking opens. */
function isFinal(deniedBy: string | undefined): boolean {
  return deniedBy === undefined || deniedBy.startsWith('policy');
}

function sayDenied(context: Context, denied: readonly ToolCall[]): void {
  if (denied.length === 0) return;
  const calls = denied.length === 1 ? '1 tool call was' : `${denied.length} tool calls were`;
  context.say(`${context.errorStyle.yellow('denied:')} ${calls} denied`);
  for (const call of denied) {
    context.say(`  ${call.tool} ${call.summary} · by ${sanitize(call.deniedBy ?? 'policy')}`);
  }
}
