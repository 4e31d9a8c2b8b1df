/** How keys change what `top` shows. Pure: what is known and a key in, the next state and what is
 *  to be done out. */
import type { Key } from '../attach/keys.ts';
import { openDecision, pressDeciding } from './decide.ts';
import {
  type Action,
  commands,
  findSelected,
  findShown,
  type Known,
  type Pressed,
  type Tab,
  type TopState,
  tabs,
} from './model.ts';

export function press(state: TopState, key: Key, known: Known): Pressed {
  if (key.kind === 'ctrl' && key.letter === 'c') return { state, effect: 'quit' };
  if (state.deciding !== undefined) return pressDeciding(state, key, known);
  if (state.isSearching) return { state: edit(state, key), effect: undefined };
  if (key.kind === 'named' && key.name === 'enter') {
    return { state: openDecision(state, known), effect: undefined };
  }
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
  const action: Action = { name, session: view.id };
  const isSure = state.asked?.name === name && state.asked.session === view.id;
  if (command.isConfirmed && !isSure) {
    const note = `${name} ${view.name ?? view.id}? press ${text} again`;
    return { state: { ...state, asked: action, note }, effect: undefined };
  }
  return { state: { ...state, asked: undefined, note: `${name} …` }, effect: action };
}
