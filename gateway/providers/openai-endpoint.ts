/** One OpenAI-compatible base URL with its key: the client (the SDK is loaded at the first use and
 *  then kept), the name of the target for messages, and what must never be shown. */
import type { OpenAI } from 'openai';
import type { Clock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { ProviderSettings } from '../../protocol/gateway-methods.ts';
import { createFailure } from '../failures.ts';
import { redact } from '../redact.ts';
import { createBoundedFetch } from './bounded-fetch.ts';

const DEFAULT_BASE_URL = 'https://api.openai.com/v1';
/** For local servers, which mostly want some key and take any. */
const LOOPBACK_KEY = 'no-key';
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface OpenAiEndpoint {
  /** The base URL without user, password and query. */
  readonly target: string;
  readonly keyName: string;
  readonly clock: Clock;
  /** Throws PROVIDER_KEY_MISSING. */
  open(): Promise<OpenAI>;
  redact(text: string): string;
}

export interface EndpointSpec {
  readonly settings: Pick<ProviderSettings, 'baseUrl' | 'apiKeyEnv' | 'totalTimeoutMs'>;
  readonly clock: Clock;
  readonly findEnv: (name: string) => string | undefined;
}

/** Throws CONFIG_INVALID when the base URL is none. */
export function createOpenAiEndpoint(spec: EndpointSpec): OpenAiEndpoint {
  const { settings, clock, findEnv } = spec;
  const baseUrl = parseBaseUrl(settings.baseUrl ?? DEFAULT_BASE_URL);
  const target = `${baseUrl.origin}${baseUrl.pathname.replace(/\/+$/, '')}`;
  const key = (findEnv(settings.apiKeyEnv) ?? '').trim();
  const secrets = [key, baseUrl.password, baseUrl.search.slice(1)];
  let client: Promise<OpenAI> | undefined;

  function getKey(): string {
    if (key !== '') return key;
    if (isLoopback(baseUrl.hostname)) return LOOPBACK_KEY;
    const name = settings.apiKeyEnv;
    const message = `${target} needs a key, and the variable ${name} is not set or empty; set it \
in the environment of the supervisor (or name another one as provider.api_key_env) and restart`;
    throw createFailure('key_missing', message);
  }

  async function load(apiKey: string): Promise<OpenAI> {
    const { OpenAI } = await import('openai');
    return new OpenAI({
      apiKey,
      adminAPIKey: null,
      baseURL: baseUrl.href,
      // One attempt is one request: repeating is decided by retry.ts and journaled first.
      maxRetries: 0,
      timeout: Math.max(1, Math.min(settings.totalTimeoutMs, TIMER_MS_MAX)),
      logLevel: 'off',
      fetch: createBoundedFetch(globalThis.fetch),
      // A redirect would be a second request, and would carry the transcript elsewhere.
      fetchOptions: { redirect: 'manual' },
    });
  }

  return {
    target,
    keyName: settings.apiKeyEnv,
    clock,
    async open() {
      const apiKey = getKey();
      client ??= load(apiKey);
      return client;
    },
    redact: (text) => redact(text, secrets),
  };
}

function parseBaseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  const message = 'provider.base_url is not a http or https URL, like https://api.openai.com/v1';
  throw new PrxError('CONFIG_INVALID', message);
}

/** This machine, by the names and addresses that always mean it. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname)
  );
}
