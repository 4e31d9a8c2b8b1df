/** Blocks until a session is idle, done with its last input, or wants an approval. */
import { PrxError } from '../../base/errors.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { type Context, defineCommand } from '../command.ts';
import { checkNotNegative } from '../numbers.ts';
import { EXIT } from '../outcome.ts';
import { toName } from '../session-action.ts';

const GOALS = ['idle', 'completed', 'approval'] as const;
type Goal = (typeof GOALS)[number];

/** Events after which the answer may be another one. */
const TELLING_TYPES = [
  'input.accepted',
  'input.steered',
  'input.quarantined',
  'turn.started',
  'turn.completed',
  'approval.requested',
  'session.state',
];

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .option('for', {
        choices: GOALS,
        default: 'completed' as Goal,
        requiresArg: true,
        describe: 'No turn runs; the last input was answered; an approval is wanted',
      })
      .option('timeout', {
        type: 'number',
        requiresArg: true,
        describe: 'Give up after this many seconds (exit 124)',
      })
      .example('prx-supervisor wait @last --for idle --timeout 60', ''),
  run: async (context, args) => {
    checkNotNegative('timeout', args.timeout);
    const stop = new AbortController();
    const unlisten = context.machine.onInterrupt(() => stop.abort('interrupted'));
    const timer = context.machine.clock.setTimer((args.timeout ?? Infinity) * 1000, () =>
      stop.abort('timeout'),
    );
    try {
      const view = await waitFor(context, { id: args.id, goal: args.for, signal: stop.signal });
      if (view === undefined) return await giveUp(context, args, stop.signal.reason);
      if (context.json) context.printJson(view);
      else if (!context.quiet) context.print(describeReached(view, args.for));
      return EXIT.done;
    } finally {
      timer.cancel();
      unlisten();
    }
  },
});

interface Wait {
  readonly id: string;
  readonly goal: Goal;
  readonly signal: AbortSignal;
}

/** Undefined when the signal aborted first. */
async function waitFor(context: Context, wait: Wait): Promise<SessionView | undefined> {
  const client = context.connect();
  const view = await client.getSession(wait.id);
  if (isReached(view, wait.goal)) return view;
  const events = client.followEvents(view.id, {
    since: view.last_seq,
    types: TELLING_TYPES,
    signal: wait.signal,
  });
  for await (const _event of events) {
    const now = await client.getSession(view.id);
    if (isReached(now, wait.goal)) return now;
  }
  return undefined;
}

/** @throws SESSION_NOT_OPEN when the goal cannot be reached any more. */
export function isReached(view: SessionView, goal: Goal): boolean {
  const isIdle = view.activity === 'idle' && view.queued_inputs === 0;
  const isDone = isIdle && view.turn > 0 && view.last_outcome !== undefined;
  const reached = { idle: isIdle, completed: isDone, approval: view.pending_approvals > 0 }[goal];
  const hasEnded = view.state === 'stopped' || view.state === 'failed';
  if (hasEnded && (!reached || view.state === 'failed')) {
    const message = `${toName(view)} is ${view.state} (${view.state_reason}), not ${goal}`;
    throw new PrxError('SESSION_NOT_OPEN', message, { data: { state: view.state } });
  }
  return reached;
}

function describeReached(view: SessionView, goal: Goal): string {
  if (goal === 'approval') return `approval: ${view.pending_approvals} waiting`;
  return goal === 'completed' ? String(view.last_outcome) : 'idle';
}

interface GaveUp {
  readonly id: string;
  readonly for: Goal;
  readonly timeout?: number | undefined;
}

async function giveUp(context: Context, args: GaveUp, why: unknown): Promise<number> {
  if (why !== 'timeout') return EXIT.interrupted;
  const view = await context.connect().getSession(args.id);
  const now = `state ${view.state}, activity ${view.activity}, turn ${view.turn}`;
  const name = toName(view);
  const count = view.queued_inputs;
  const inputs = count === 1 ? '1 input waits' : `${count} inputs wait`;
  context.say(`not ${args.for} within ${args.timeout} s: ${name} has ${now}; ${inputs}`);
  return EXIT.timeout;
}
