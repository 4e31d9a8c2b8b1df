/** What to do next, from how a session is and what happened to it. Pure. The first line is the most
 *  urgent; nothing is advised that would not change anything. */
import type { SessionView } from '../../protocol/resources.ts';
import { toShortId } from '../text/format.ts';
import type { Death, Report } from './report.ts';

export interface Advice {
  /** Why, and what it does; one sentence. */
  readonly what: string;
  readonly command?: string;
}

type Present = Pick<
  SessionView,
  'id' | 'state' | 'residency' | 'backoff' | 'pending_approvals' | 'queued_inputs'
>;

/** @param self  how this program is called. */
export function adviseNext(view: Present, report: Report, self: string): Advice[] {
  const all = [
    ...adviseState(view, self),
    ...adviseDeath(view, report.deaths.at(-1), self),
    ...adviseModel(report, self),
    ...adviseEffects(view, report, self),
    ...adviseLimits(report, self),
    ...adviseStore(report, self),
  ];
  return all.filter((each, at) => all.findIndex(({ what }) => what === each.what) === at);
}

function adviseState(view: Present, self: string): Advice[] {
  const id = toShortId(view.id);
  const advice: Advice[] = [];
  if (view.state === 'failed' || view.state === 'stopped') {
    const what = 'open it again; an unfinished turn goes on, restarts count from zero';
    advice.push({ what, command: `${self} restart ${id}` });
  }
  if (view.state === 'suspended') {
    advice.push({ what: 'let it go on', command: `${self} resume ${id}` });
  }
  if (view.pending_approvals > 0) {
    advice.push({ what: 'it waits for a decision', command: `${self} approvals` });
  }
  if (view.residency === 'backoff') {
    const what = `another worker starts at ${view.backoff?.next_at ?? 'the end of the back-off'}; this starts it now`;
    advice.push({ what, command: `${self} restart ${id}` });
  }
  if (view.residency === 'queued') {
    const what = 'all worker slots are taken: raise agent.limits.max_concurrent_sessions, or wait';
    advice.push({ what, command: `${self} ps` });
  }
  return advice;
}

const DEATH_ADVICE: Readonly<Record<Death['cause'], string | undefined>> = {
  memory: 'raise agent.limits.max_memory_mb, or lower agent.loop.compaction_threshold_tokens',
  timeout: 'a worker did not keep a deadline of the supervisor: see what it wrote',
  unresponsive: 'a worker answered no heartbeat: the machine may be short of CPU or swapping',
  protocol: 'a worker sent what is no protocol: see what it wrote, and whether versions are mixed',
  crashed: 'see what the dead workers wrote',
  // The supervisor's own end is in its log, and none of the session's doing.
  lost: 'the supervisor itself ended under it: see its log, or journalctl -u prx-supervisor',
  completed: undefined,
  stopped: undefined,
};

function adviseDeath(view: Present, death: Death | undefined, self: string): Advice[] {
  const what = death === undefined ? undefined : DEATH_ADVICE[death.cause];
  if (what === undefined) return [];
  if (death?.cause === 'lost') return [{ what }];
  if (death?.cause === 'crashed' && death.signal !== null && death.stderr_tail === '') {
    return [{ what: `${death.signal} came from outside: a person, or the kernel (dmesg says)` }];
  }
  if (death?.cause === 'unresponsive') return [{ what, command: `${self} doctor` }];
  return [{ what, command: `${self} logs ${toShortId(view.id)} --stderr` }];
}

const MODEL_ADVICE: Readonly<Record<string, string>> = {
  PROVIDER_KEY_MISSING: 'set the provider key where the supervisor starts',
  PROVIDER_UNREACHABLE: 'check provider.base_url and the network of the supervisor',
  PROVIDER_REFUSED: 'the provider refused the request: check the key, the model and the account',
  PROVIDER_RATE_LIMITED: 'the provider limits the rate: wait, or add provider.fallbacks',
  PROVIDER_TIMEOUT: 'the provider is slow: raise provider.first_token_timeout_secs',
  PROVIDER_BAD_RESPONSE: 'the provider does not speak what provider.api says: check it',
};

/** Only of the newest failure, and only when no attempt got through after it. */
function adviseModel({ model_failures }: Report, self: string): Advice[] {
  const newest = model_failures.at(-1);
  if (newest === undefined || newest.recovered) return [];
  const what = MODEL_ADVICE[newest.code];
  return what === undefined ? [] : [{ what, command: `${self} doctor` }];
}

function adviseEffects(view: Present, report: Report, self: string): Advice[] {
  const id = toShortId(view.id);
  const advice: Advice[] = [];
  const unknown = report.tool_failures.filter(({ status }) => status === 'indeterminate');
  if (unknown.length > 0) {
    const calls = unknown.map(({ call_id }) => call_id).join(', ');
    const what = `what ${calls} did is not known: look at the workspace before it is done again`;
    advice.push({ what, command: `${self} logs ${id}` });
  }
  if (report.approvals_timed_out.length > 0) {
    const what = 'approvals timed out: answer sooner, or raise security.approval.timeout_secs';
    advice.push({ what });
  }
  if (report.quarantined.length > 0) {
    const what = 'an input was set aside because workers died of it: send it again in other words';
    advice.push({ what, command: `${self} send ${id} TEXT` });
  }
  return advice;
}

const LIMIT_KEYS: Readonly<Record<string, string>> = {
  max_cost_usd: 'budget.max_cost_usd',
  max_tokens: 'budget.max_tokens',
  session_timeout_secs: 'agent.session_timeout_secs',
};

function adviseLimits({ limits, turns }: Report, self: string): Advice[] {
  const own = new Set(limits.filter(({ own }) => own).map(({ limit }) => limit));
  const shared = limits.filter(({ own }) => !own);
  const names = new Set(shared.map(({ limit }) => LIMIT_KEYS[limit] ?? limit));
  if (turns.some(({ outcome }) => outcome === 'max_turns')) names.add('agent.max_turns');
  return [
    ...[...own].map((name) => ({
      what: `limits.${name} of this session was reached: start a new one if the work is worth it`,
    })),
    ...[...names].map((name) => ({
      what: `${name} was reached: raise it if the work is worth it`,
      command: `${self} config show`,
    })),
  ];
}

function adviseStore({ store }: Report, self: string): Advice[] {
  if (store.at(-1)?.kind !== 'degraded') return [];
  return [{ what: 'the journal could not be written: check the disk', command: `${self} doctor` }];
}
