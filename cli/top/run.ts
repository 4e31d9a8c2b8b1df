/** Runs `top` on a terminal: the alternate screen, keys as they come, and what is known asked for
 *  anew each second. The terminal is given back as it was, whatever ends it. */
import type { ApiClient } from '../../api/client.ts';
import { toPrxError } from '../../base/errors.ts';
import { initialKeyState, parseKeys } from '../attach/keys.ts';
import type { Context } from '../command.ts';
import { columnsOf, rowsOf } from '../machine.ts';
import { stayAlive } from '../stay-alive.ts';
import {
  type Action,
  type Answer,
  findSelected,
  initialState,
  type Known,
  nothingKnown,
  type TopState,
} from './model.ts';
import { press } from './press.ts';
import { renderTop } from './render.ts';

const POLL_MS = 1000;
const EVENTS_MAX = 400;
const OPEN = '\u001b[?1049h\u001b[?25l';
const CLOSE = '\u001b[?25h\u001b[?1049l';
const SYNC_START = '\u001b[?2026h\u001b[H';
const SYNC_END = '\u001b[J\u001b[?2026l';
const CLEAR_LINE = '\u001b[K';

/** What there is to know now; what could not be asked stays as it was, and says why. */
export async function learn(client: ApiClient, state: TopState, before: Known): Promise<Known> {
  try {
    const [status, sessions, approvals, processes] = await Promise.all([
      client.getStatus(),
      client.listSessions(),
      client.listApprovals(),
      client.listProcesses(),
    ]);
    const known = { ...before, status, sessions, approvals, processes, problem: undefined };
    const view = findSelected(state, known);
    if (view === undefined) return { ...known, events: [] };
    const since = Math.max(0, view.last_seq - EVENTS_MAX);
    const { events } = await client.readEvents(view.id, { since, limit: EVENTS_MAX });
    return { ...known, events };
  } catch (error) {
    return { ...before, problem: toPrxError(error) };
  }
}

export async function runTop(context: Context): Promise<void> {
  const { machine, style, plain } = context;
  const { stdin, stdout, clock } = machine;
  const client = context.connect();
  let state = initialState;
  let known = nothingKnown;
  let keys = initialKeyState;
  const release = stayAlive();
  const over = Promise.withResolvers<void>();

  const draw = (): void => {
    const size = { columns: columnsOf(stdout), rows: rowsOf(stdout) };
    const lines = renderTop(state, known, { ...size, style, plain, nowMs: clock.wallMs() });
    const text = lines.map((line) => `${line}${CLEAR_LINE}`).join('\r\n');
    stdout.write(`${SYNC_START}${text}${SYNC_END}`);
  };
  const refresh = async (): Promise<void> => {
    known = await learn(client, state, known);
    draw();
  };
  const poll = (): void => {
    void refresh().then(() => {
      timer = clock.setTimer(POLL_MS, poll);
    });
  };
  const onData = (chunk: Buffer): void => {
    const parsed = parseKeys(keys, chunk.toString('utf8'));
    keys = parsed.state;
    for (const key of parsed.keys) {
      const pressed = press(state, key, known);
      const isOther = pressed.state.selected !== state.selected;
      state = pressed.state;
      if (pressed.effect === 'quit') {
        over.resolve();
        return;
      }
      if (pressed.effect !== undefined) void perform(pressed.effect);
      if (isOther) void refresh();
    }
    draw();
  };
  const perform = async (action: Action | Answer): Promise<void> => {
    try {
      await carryOut(client, action);
      state = { ...state, note: `${action.name}: done` };
    } catch (error) {
      state = { ...state, note: toPrxError(error).message };
    }
    await refresh();
  };

  const unlisten = machine.onInterrupt(() => over.resolve());
  let timer = clock.setTimer(0, poll);
  stdin.setRawMode?.(true);
  stdin.ref?.();
  stdin.on('data', onData);
  stdin.once('end', over.resolve);
  stdout.on('resize', draw);
  stdout.write(OPEN);
  try {
    await over.promise;
  } finally {
    timer.cancel();
    unlisten();
    stdin.off('data', onData);
    stdin.setRawMode?.(false);
    stdin.unref?.();
    stdout.off('resize', draw);
    stdout.write(CLOSE);
    release();
  }
}

async function carryOut(client: ApiClient, action: Action | Answer): Promise<void> {
  const { name, session } = action;
  if (name === 'answer') await client.resolveApproval(session, action.callId, action.answer);
  else await client[name](session);
}
