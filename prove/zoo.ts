/** Tools and models that do not cooperate. Each tool program carries a cookie in its environment
 *  and, where it sleeps, a number in its command line that no other call has. */
import { eventually } from '../test/integration/processes.ts';
import { COOKIE, findCookies } from './census.ts';
import { type Feed, isType } from './feed.ts';

/** One step of the scripted provider. */
type Step = Readonly<Record<string, unknown>>;

export interface Beast {
  readonly name: string;
  /** A tool: its processes carry the cookie. A model: it streams, or does not. */
  readonly kind: 'tool' | 'model';
  toStep(cookie: string): Step;
}

/** Long enough to outlast every bound that a proof has, seconds; the fraction tells calls apart. */
const toSleep = (cookie: string): string => `300.${Number.parseInt(cookie, 16)}`;

/** In double quotes only: the whole is put into single ones. */
const PROGRAMS: Readonly<Record<string, (sleep: string) => string>> = {
  'ignores SIGTERM': (sleep) => `trap "" TERM INT HUP; while :; do sleep ${sleep}; done`,
  'closes no pipe': (sleep) => `sleep ${sleep} & sleep ${sleep} & wait`,
  'forks twice': (sleep) => `( ( sleep ${sleep} & ) & ); sleep ${sleep}`,
  'leaves a daemon': (sleep) =>
    `setsid sleep ${sleep} < /dev/null > /dev/null 2>&1 & sleep ${sleep}`,
  'a grandchild holds stdout': (sleep) =>
    `( setsid sh -c "sleep ${sleep} & sleep ${sleep}" & ); sleep ${sleep}`,
  'closes everything': (sleep) => `exec < /dev/null > /dev/null 2>&1; cd /; sleep ${sleep}`,
  spins: () => 'while :; do :; done',
  'stops itself': () => 'kill -STOP $$; sleep 1',
  'forks 100 daemons': (sleep) =>
    `i=0; while [ $i -lt 100 ]; do setsid sleep ${sleep} & i=$((i+1)); done; wait`,
  'floods stdout': () => 'yes flood',
};

export const toolBeasts: readonly Beast[] = Object.entries(PROGRAMS).map(([name, toProgram]) => ({
  name,
  kind: 'tool',
  toStep(cookie) {
    const program = toProgram(toSleep(cookie));
    const command = `${COOKIE}=${cookie} exec sh -c '${program}'`;
    return { tool: 'shell', arguments: { command } };
  },
}));

export const modelBeasts: readonly Beast[] = [
  { name: 'says nothing', kind: 'model', toStep: () => ({ say: 'a b', holdAfter: 0 }) },
  { name: 'falls silent', kind: 'model', toStep: () => ({ say: 'a b c', holdAfter: 2 }) },
];

/** Of a call on a machine that has something else to do. */
const BEGIN_MS = 120_000;

/** The newest call behind place `from` runs, or is over: a flood ends before it was seen. */
export async function untilCallBegun(
  feed: Feed,
  { cookie, from }: { readonly cookie: string; readonly from: number },
): Promise<void> {
  // A look at every process is dear: not before there is something to see.
  await feed.until(isType('tool.started'), from);
  const isOver = (): boolean =>
    feed.seen.slice(from).some(({ event }) => event.type === 'tool.completed');
  await eventually(() => findCookies(cookie).length > 0 || isOver(), BEGIN_MS);
}
