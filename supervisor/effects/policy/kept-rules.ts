/** The rules that people kept with an approval. The journal of the supervisor holds them
 *  (`rule.kept`, `rule.removed`); what is in memory here is folded from it. */

import type { Clock } from '../../../base/clock.ts';
import { toTimestamp } from '../../../base/clock.ts';
import { PrxError, toPrxError } from '../../../base/errors.ts';
import type { Logger } from '../../../base/logger.ts';
import type { Random } from '../../../base/random.ts';
import { isForeignToolName } from '../../../protocol/custom-names.ts';
import { type EventEnvelope, parseEvent, SYSTEM_SESSION } from '../../../protocol/events.ts';
import type { KeptRule, KeptRuleBody } from '../../../protocol/kept-rules.ts';
import type { Store } from '../../../store/contract.ts';
import { toCanonicalJson } from './digest.ts';
import { type Subject, toParts } from './subject.ts';

export interface KeptRules {
  /** Folds the journal. Never rejects: without the rules more is asked for, not less. */
  load(): Promise<void>;
  /** Oldest first. */
  list(): readonly KeptRule[];
  find(body: KeptRuleBody): KeptRule | undefined;
  /** @throws LIMIT_EXCEEDED. */
  keep(body: KeptRuleBody, by: string): Promise<KeptRule>;
  /** @throws NOT_FOUND. */
  remove(id: string, by: string): Promise<void>;
}

const RULES_MAX = 1000;
/** What is longer is not shown whole to a person, and so not kept. */
const TEXT_CHARS_MAX = 2000;
const PATHS_MAX = 64;
const PAGE = 1000;

export function createKeptRules(deps: {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: Random;
}): KeptRules {
  const { store, clock, logger, random } = deps;
  const rules = new Map<string, KeptRule>();

  function fold(envelope: EventEnvelope): void {
    const event = parseEvent(envelope);
    if (event?.type === 'rule.kept') rules.set(event.data.id, event.data);
    if (event?.type === 'rule.removed') rules.delete(event.data.id);
  }

  async function readAll(): Promise<void> {
    const types = ['rule.kept', 'rule.removed'];
    for (let since = 0; ; ) {
      const page = await store.readEvents(SYSTEM_SESSION, { since, limit: PAGE, types });
      for (const event of page.events) fold(event);
      if (page.events.length === 0) return;
      since = page.next;
    }
  }

  return {
    load: () =>
      readAll().catch((error: unknown) => {
        rules.clear();
        logger.error('rules.not_loaded', { error: toPrxError(error).message });
      }),
    list: () => [...rules.values()],
    find: (body) => [...rules.values()].find((rule) => covers(rule, body)),
    async keep(body, by) {
      const known = [...rules.values()].find((rule) => covers(rule, body));
      if (known !== undefined) return known;
      if (rules.size >= RULES_MAX) {
        const message = `${rules.size} rules are kept, the limit is ${RULES_MAX}; remove some: prx-supervisor approvals --forget RULE`;
        throw new PrxError('LIMIT_EXCEEDED', message);
      }
      const kept_at = toTimestamp(clock.wallMs());
      const data: KeptRule = { ...body, id: `r_${random.hex(4)}`, by, kept_at };
      await store.append({ events: [{ session: SYSTEM_SESSION, type: 'rule.kept', data }] });
      rules.set(data.id, data);
      return data;
    },
    async remove(id, by) {
      if (!rules.has(id)) {
        const message = `no rule '${id}' is kept; see prx-supervisor approvals --rules`;
        throw new PrxError('NOT_FOUND', message);
      }
      const data = { id, by };
      await store.append({ events: [{ session: SYSTEM_SESSION, type: 'rule.removed', data }] });
      rules.delete(id);
    },
  };
}

/** What scope `rule` would keep of this call; undefined: it cannot be said in a line. */
export function toKeptRuleBody(subject: Subject, agent: string): KeptRuleBody | undefined {
  const { tool, workspace, arguments: args } = subject;
  // It would outlive what it was given for: another one may stand behind the name tomorrow.
  if (isForeignToolName(tool)) return undefined;
  const base = { tool, agent, workspace };
  const command = readCommand(args);
  // With secrets it is another call than without: its command line alone does not tell them.
  if (command !== undefined && !asksForSecrets(args)) {
    return command.length > TEXT_CHARS_MAX ? undefined : { ...base, command };
  }
  const parts = toParts(subject);
  if (parts.every((part) => part.kind === 'path')) {
    const paths = parts.map(({ realPath }) => realPath).filter((path) => path !== undefined);
    const isWhole = paths.length === parts.length && paths.length <= PATHS_MAX;
    return isWhole ? { ...base, paths: [...new Set(paths)].sort() } : undefined;
  }
  const text = toCanonicalJson(args);
  return text.length > TEXT_CHARS_MAX ? undefined : { ...base, arguments: text };
}

function readCommand(args: unknown): string | undefined {
  if (typeof args !== 'object' || args === null || !('command' in args)) return undefined;
  return typeof args.command === 'string' ? args.command : undefined;
}

function asksForSecrets(args: unknown): boolean {
  if (typeof args !== 'object' || args === null || !('secrets' in args)) return false;
  return !Array.isArray(args.secrets) || args.secrets.length > 0;
}

function covers(rule: KeptRuleBody, call: KeptRuleBody): boolean {
  const isSamePlace =
    rule.tool === call.tool && rule.agent === call.agent && rule.workspace === call.workspace;
  if (!isSamePlace) return false;
  if (rule.command !== undefined) return rule.command === call.command;
  if (rule.paths !== undefined) {
    return call.paths?.every((path) => rule.paths?.includes(path)) === true;
  }
  return rule.arguments !== undefined && rule.arguments === call.arguments;
}
