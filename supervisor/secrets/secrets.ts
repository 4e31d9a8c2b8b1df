/** What the running supervisor gives of the vault: one value for one use, when its scope, its time
 *  and the configuration allow that use; each is written down first. And the fingerprints by which
 *  a value that turns up where it should not is made unreadable. */
import { statSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Random } from '../../base/random.ts';
import {
  addFingerprints,
  type Fingerprints,
  noFingerprints,
  toFingerprints,
} from '../../protocol/fingerprints.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { redactText } from '../../protocol/redactor.ts';
import type { SessionRecord } from '../../store/contract.ts';
import type { HostDeps, SecretAnswer, SecretUse } from '../children/hosts.ts';
import type { Environment } from '../config.ts';
import type { RawConfig } from '../config-schema.ts';
import type { McpPoolDeps } from '../mcp/pool.ts';
import { logAccess } from './access-log.ts';
import { isExpired, readKey, toVaultPath, unknownSecret } from './keeper.ts';
import { type Entries, readVault, unseal } from './vault.ts';
import { findKeySource } from './vault-key.ts';

export interface SecretsDeps {
  readonly config: () => SecretsConfig;
  readonly env: Environment;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** What of the configuration matters here. */
export interface SecretsConfig {
  readonly stateDir: string;
  readonly raw: Pick<RawConfig, 'secrets' | 'provider'>;
}

interface Asker {
  readonly session?: string | undefined;
  readonly agent?: string | undefined;
  /** For the log, where a session asks. */
  readonly turn?: number | undefined;
}

type AskingRecord = Pick<SessionRecord, 'agent' | 'turn'>;

export interface Secrets {
  /** The variable with the provider's key, and an environment that has it, where the vault has the
   *  key. Never throws: without one the gateway says which is missing. */
  ofProvider(): readonly [variable: string, env: Environment];
  /** By which values of the vault are found; the same object while nothing changed. */
  fingerprints(): Fingerprints;
  /** A text without any value of the vault. */
  redact(text: string): string;
  /** What a sandbox host may ask for its session. */
  toHostPorts(
    session: SessionId,
    record: () => AskingRecord,
  ): Pick<HostDeps, 'readSecret' | 'fingerprints'>;
  /** What the MCP hosts may ask. */
  toMcpPorts(
    find: (session: SessionId) => { record(): Pick<SessionRecord, 'agent'> } | undefined,
  ): Pick<McpPoolDeps, 'readSecrets' | 'fingerprints'>;
}

/** Of values that were replaced or removed: a value has some thirty forms, a long one thousands. */
const FORMER_PRINTS_MAX = 4096;

export function createSecrets(deps: SecretsDeps): Secrets {
  const { env, clock, logger } = deps;
  const { stateDir } = deps.config();
  const settings = (): RawConfig['secrets'] => deps.config().raw.secrets;
  const path = toVaultPath(stateDir);
  const seed = deps.random.hex(16);
  /** mark undefined: some of it could not be read, which may be mended outside the vault. */
  let known: { readonly mark: string | undefined; readonly prints: Fingerprints } | undefined;

  function unlock(name: string, entries: Entries): string {
    const entry = entries[name];
    if (entry === undefined) throw unknownSecret(name, entries);
    if (isExpired(entry, clock)) {
      const message = `the secret ${name} expired at ${entry.expires_at}; set it again`;
      throw new PrxError('SECRET_UNREADABLE', message);
    }
    const key = readKey(findKeySource(settings(), env), entries);
    return unseal(key, name, entry).toString('utf8');
  }

  function give(use: SecretUse, { session, agent }: Asker): string {
    const { name, purpose, call_id } = use;
    const entries = readVault(path);
    const agents = entries[name]?.agents ?? [];
    if (agents.length > 0 && (agent === undefined || !agents.includes(agent))) {
      const asks =
        agent === undefined ? 'all agents share what asks for it' : `this agent is ${agent}`;
      const message = `the secret ${name} is for ${agents.join(', ')}, and ${asks}`;
      throw new PrxError('POLICY_DENIED', message);
    }
    const value = unlock(name, entries);
    logAccess(stateDir, clock, { action: 'read', name, agent, session, call_id, purpose });
    return value;
  }

  function readAll(mark: string, former: Fingerprints): typeof known {
    const entries = readVault(path);
    let isWhole = true;
    const values = Object.entries(entries).flatMap(([name, entry]) => {
      try {
        const key = readKey(findKeySource(settings(), env), entries);
        return [{ name, value: unseal(key, name, entry) }];
      } catch (error) {
        // What we cannot read we cannot give either, so that it cannot come out of a tool.
        isWhole = false;
        logger.warn('secrets.unreadable', { name, code: toPrxError(error).code });
        return [];
      }
    });
    const next = values.length === 0 ? noFingerprints : toFingerprints(values, seed);
    const prints = addFingerprints(former, next, FORMER_PRINTS_MAX);
    return { mark: isWhole ? mark : undefined, prints };
  }

  /** A refusal says why and what to do, and is written down like a use. */
  function read(use: SecretUse, { turn, ...asker }: Asker, check: () => void): SecretAnswer {
    try {
      check();
      return { kind: 'value', value: give(use, asker) };
    } catch (error) {
      const reason = toPrxError(error).message;
      const { name, purpose, call_id } = use;
      logger.warn('secrets.refused', { name, purpose, session: asker.session, turn });
      try {
        logAccess(stateDir, clock, { action: 'refused', name, ...asker, call_id, purpose, reason });
      } catch (cause) {
        logger.error('secrets.log_failed', { error: toPrxError(cause).message });
      }
      return { kind: 'refused', reason };
    }
  }

  /** Read anew when the vault has changed. */
  function fingerprints(): Fingerprints {
    try {
      const stat = statSync(path, { throwIfNoEntry: false });
      const mark = stat === undefined ? '' : `${stat.ino} ${stat.mtimeMs} ${stat.size}`;
      if (known?.mark !== mark) {
        const former = known?.prints ?? noFingerprints;
        known = mark === '' ? { mark, prints: former } : readAll(mark, former);
      }
    } catch (error) {
      // A vault that cannot be read gives nothing, so that nothing of it can come out.
      logger.error('secrets.vault_unreadable', { error: toPrxError(error).message });
    }
    return known?.prints ?? noFingerprints;
  }

  return {
    ofProvider() {
      const { api_key_env: variable, api_key_secret: name } = deps.config().raw.provider;
      if (name === undefined) return [variable, env];
      try {
        const value = unlock(name, readVault(path));
        logAccess(stateDir, clock, { action: 'read', name, purpose: 'provider key' });
        return [variable, { ...env, [variable]: value }];
      } catch (error) {
        // Another key than the one that was asked for would be a guess.
        logger.error('secrets.provider_key_missing', { name, error: toPrxError(error).message });
        return [variable, { ...env, [variable]: undefined }];
      }
    },
    fingerprints,
    redact: (text) => redactText(text, fingerprints()),
    toHostPorts: (session, record) => ({
      async readSecret(use) {
        const { agent, turn } = record();
        return read(use, { session, agent, turn }, () => checkUse(use, settings()));
      },
      fingerprints,
    }),
    toMcpPorts: (find) => ({
      async readSecrets({ name: server, reach }, session) {
        const agent = session === undefined ? undefined : find(session)?.record().agent;
        const values: Record<string, string> = {};
        for (const { header, secret: name } of reach.kind === 'url' ? reach.headers : []) {
          const purpose = `header ${header} to the MCP server ${server}`;
          const use = { name, use: 'header', purpose } as const;
          // Nothing to check: the list is of the configuration itself.
          const answer = read(use, { session, agent }, () => undefined);
          if (answer.kind === 'refused') return answer;
          values[name] = answer.value;
        }
        return { kind: 'values', values };
      },
      fingerprints,
    }),
  };
}

/** The host asks, but the configuration decides. */
function checkUse({ name, use }: SecretUse, settings: RawConfig['secrets']): void {
  if (use === 'header' && Object.hasOwn(settings.inject, name)) return;
  if (use === 'file' && settings.shell.includes(name)) return;
  const mend = use === 'file' ? 'list it in secrets.shell' : `write [secrets.inject.${name}]`;
  const message = `the configuration does not give the secret ${name} to a ${use === 'file' ? 'command' : 'request'}`;
  throw new PrxError('POLICY_DENIED', `${message}; whoever runs this server can ${mend}`);
}
