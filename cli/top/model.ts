/** What `top` shows and how keys change it. Pure: what is known and the keys in, the next state and
 *  what is to be done out. */
import type { EventEnvelope } from '../../protocol/events.ts';
import type {
  ApprovalView,
  ProcessView,
  SessionView,
  StatusView,
} from '../../protocol/resources.ts';
import type { Key } from '../attach/keys.ts';

export const tabs = [
  'Overview',
  'Sessions',
  'Triggers',
  'Context',
  'Logs',
  'Events',
  'Commands',
] as const;
export type Tab = (typeof tabs)[number];

/** As the supervisor last said. */
export interface Known {
  readonly status: StatusView | undefined;
  readonly sessions: readonly SessionView[];
  readonly approvals: readonly ApprovalView[];
  readonly processes: readonly ProcessView[];
  /** The newest of the selected session, oldest first. */
  readonly events: readonly EventEnvelope[];
  /** Why it is not newer. */
  readonly problem: string | undefined;
}

export const nothingKnown: Known = {
  status: undefined,
  sessions: [],
  approvals: [],
  processes: [],
  events: [],
  problem: undefined,
};

export interface TopState {
  readonly tab: Tab;
  /** Id of the selected session; undefined: the first one. */
  readonly selected: string | undefined;
  readonly search: string;
  readonly isSearching: boolean;
  /** Lines from the end, in Logs and Events. */
  readonly scroll: number;
  /** An action that waits for its confirmation. */
  readonly asked: Action | undefined;
  readonly note: string;
}

export const initialState: TopState = {
  tab: 'Overview',
  selected: undefined,
  search: '',
  isSearching: false,
  scroll: 0,
  asked: undefined,
  note: '',
};

export type ActionName =
  | 'interrupt'
  | 'suspend'
  | 'resume'
  | 'restart'
  | 'close'
  | 'approve'
  | 'deny';

export interface Action {
  readonly name: ActionName;
  readonly session: string;
  /** Of an approval. */
  readonly callId?: string;
}

export interface Pressed {
  readonly state: TopState;
  /** `quit`, or something to do. */
  readonly effect: 'quit' | Action | undefined;
}

export interface Command {
  readonly key: string;
  readonly name: ActionName;
  readonly does: string;
  /** It ends work: pressed twice. */
  readonly isConfirmed: boolean;
}

export const commands: readonly Command[] = [
  { key: 'i', name: 'interrupt', does: 'stop the running turn', isConfirmed: false },
  { key: 's', name: 'suspend', does: 'begin nothing new', isConfirmed: false },
  { key: 'r', name: 'resume', does: 'go on after a suspend', isConfirmed: false },
  { key: 'R', name: 'restart', does: 'a new worker, or open it again', isConfirmed: true },
  { key: 'C', name: 'close', does: 'stop the session; its journal stays', isConfirmed: true },
  { key: 'a', name: 'approve', does: 'approve its oldest call that waits', isConfirmed: true },
  { key: 'd', name: 'deny', does: 'deny its oldest call that waits', isConfirmed: false },
];

/** Sessions that fit the search, newest first. */
export function findShown({ search }: TopState, { sessions }: Known): readonly SessionView[] {
  const wanted = search.toLowerCase();
  const words = ({ id, name, agent, state, activity, workspace }: SessionView): string =>
    [id, name ?? '', agent, state, activity, workspace].join(' ').toLowerCase();
  return sessions.filter((view) => words(view).includes(wanted)).toReversed();
}

export function findSelected(state: TopState, known: Known): SessionView | undefined {
  const shown = findShown(state, known);
  return shown.find(({ id }) => id === state.selected) ?? shown[0];
}

export function press(state: TopState, key: Key, known: Known): Pressed {
  if (key.kind === 'ctrl' && key.letter === 'c') return { state, effect: 'quit' };
  if (state.isSearching) return { state: edit(state, key), effect: undefined };
  if (key.kind === 'named') return { state: move(state, key.name, known), effect: undefined };
  if (key.kind !== 'text') return { state, effect: undefined };
  const tab = tabs[Number(key.text) - 1];
  const clean = { ...state, asked: undefined, note: '' };
  if (tab !== undefined) return { state: { ...clean, tab, scroll: 0 }, effect: undefined };
  if (key.text === 'q') return { state, effect: 'quit' };
  if (key.text === '/') return { state: { ...clean, isSearching: true }, effect: undefined };
  return act(state, key.text, known);
}

function edit(state: TopState, key: Key): TopState {
  if (key.kind === 'text') return { ...state, search: state.search + key.text };
  if (key.kind !== 'named') return state;
  if (key.name === 'enter') return { ...state, isSearching: false };
  if (key.name === 'escape') return { ...state, isSearching: false, search: '' };
  if (key.name === 'backspace') return { ...state, search: state.search.slice(0, -1) };
  return state;
}

function move(state: TopState, name: string, known: Known): TopState {
  const clean = { ...state, asked: undefined, note: '' };
  const at = tabs.indexOf(state.tab);
  const turn = (by: number): Tab => tabs[(at + by + tabs.length) % tabs.length] ?? state.tab;
  if (name === 'right' || name === 'tab') return { ...clean, tab: turn(1), scroll: 0 };
  if (name === 'left') return { ...clean, tab: turn(-1), scroll: 0 };
  if (name === 'escape') return { ...clean, search: '' };
  const step = name === 'up' ? -1 : name === 'down' ? 1 : 0;
  if (step === 0) return state;
  if (state.tab === 'Logs' || state.tab === 'Events') {
    return { ...clean, scroll: Math.max(0, state.scroll - step) };
  }
  const shown = findShown(state, known);
  const selected = findSelected(state, known);
  const index = shown.findIndex(({ id }) => id === selected?.id);
  const next = shown[Math.min(shown.length - 1, Math.max(0, index + step))];
  return { ...clean, selected: next?.id };
}

function act(state: TopState, text: string, known: Known): Pressed {
  const command = commands.find(({ key }) => key === text);
  const view = findSelected(state, known);
  if (command === undefined || view === undefined) return { state, effect: undefined };
  const { name } = command;
  const call = known.approvals.find(({ session }) => session === view.id);
  if ((name === 'approve' || name === 'deny') && call === undefined) {
    const note = `nothing of ${view.name ?? view.id} waits for approval`;
    return { state: { ...state, asked: undefined, note }, effect: undefined };
  }
  const action: Action = {
    name,
    session: view.id,
    ...(call === undefined || !['approve', 'deny'].includes(name) ? {} : { callId: call.call_id }),
  };
  const isSure = state.asked?.name === name && state.asked.session === view.id;
  if (command.isConfirmed && !isSure) {
    const what = name === 'approve' ? ` ${call?.tool} ${JSON.stringify(call?.arguments)}` : '';
    const note = `${name}${what}? press ${text} again`;
    return { state: { ...state, asked: action, note }, effect: undefined };
  }
  return { state: { ...state, asked: undefined, note: `${name} …` }, effect: action };
}
