/** What `top` knows, what it shows of it, and what can be done about it. */
import type { PrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type {
  ApprovalView,
  ProcessView,
  ResolveApproval,
  SessionView,
  StatusView,
} from '../../protocol/resources.ts';
import type { Style } from '../text/style.ts';

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
  readonly problem: PrxError | undefined;
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
  /** The call that is before the person, and what of an answer was typed. */
  readonly deciding: Deciding | undefined;
}

export interface Deciding {
  readonly session: string;
  readonly callId: string;
  readonly typed: string;
}

export const initialState: TopState = {
  tab: 'Overview',
  selected: undefined,
  search: '',
  isSearching: false,
  scroll: 0,
  asked: undefined,
  note: '',
  deciding: undefined,
};

export type ActionName = 'interrupt' | 'suspend' | 'resume' | 'restart' | 'close';

export interface Action {
  readonly name: ActionName;
  readonly session: string;
}

/** To a call that waits. */
export interface Answer {
  readonly name: 'answer';
  readonly session: string;
  readonly callId: string;
  readonly answer: ResolveApproval;
}

export interface Pressed {
  readonly state: TopState;
  /** `quit`, or something to do. */
  readonly effect: 'quit' | Action | Answer | undefined;
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
];

/** What a screen is drawn for. */
export interface Frame {
  readonly columns: number;
  readonly rows: number;
  readonly style: Style;
  readonly nowMs: number;
  /** Flat, labelled lines. */
  readonly plain: boolean;
}

/** Sessions that fit the search, newest first, as the supervisor lists them. */
export function findShown({ search }: TopState, { sessions }: Known): readonly SessionView[] {
  const wanted = search.toLowerCase();
  const words = ({ id, name, agent, state, activity, workspace }: SessionView): string =>
    [id, name ?? '', agent, state, activity, workspace].join(' ').toLowerCase();
  return sessions.filter((view) => words(view).includes(wanted));
}

export function findSelected(state: TopState, known: Known): SessionView | undefined {
  const shown = findShown(state, known);
  return shown.find(({ id }) => id === state.selected) ?? shown[0];
}
