/** Lists what the provider offers, within the connect timeout. */
import type { Clock } from '../base/clock.ts';
import type { ProviderSettings } from '../protocol/gateway-methods.ts';
import { createFailure } from './failures.ts';
import type { Provider } from './providers/provider.ts';

/** More than any provider has; the rest is not listed. */
const MODELS_MAX = 10_000;

export interface ModelsQuestion {
  readonly provider: Provider;
  readonly settings: Pick<ProviderSettings, 'connectTimeoutMs'>;
  readonly clock: Clock;
  /** Aborted when the asker no longer wants to know. */
  readonly signal: AbortSignal;
}

/** Throws PROVIDER_TIMEOUT, or what the provider throws. */
export async function listModels(question: ModelsQuestion): Promise<string[]> {
  const { provider, settings, clock, signal } = question;
  const abort = new AbortController();
  let late = false;
  const stop = (): void => abort.abort();
  const timer = clock.setTimer(settings.connectTimeoutMs, () => {
    late = true;
    stop();
  });
  signal.addEventListener('abort', stop, { once: true });
  try {
    const models = await provider.listModels(abort.signal);
    return models.slice(0, MODELS_MAX);
  } catch (error) {
    if (!late) throw error;
    const message = `${provider.target} did not list its models within the connect timeout of \
${settings.connectTimeoutMs} ms`;
    throw createFailure('timeout', message, { cause: error });
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', stop);
  }
}
