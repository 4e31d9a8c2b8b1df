/** From settings to the provider they name. */
import type { Clock } from '../../base/clock.ts';
import type { ProviderSettings } from '../../protocol/gateway-methods.ts';
import { createOfflineProvider } from './offline.ts';
import { createChatProvider } from './openai-chat.ts';
import { createOpenAiEndpoint } from './openai-endpoint.ts';
import { createResponsesProvider } from './openai-responses.ts';
import type { Provider } from './provider.ts';

export interface ProviderDeps {
  readonly settings: ProviderSettings;
  readonly clock: Clock;
  readonly findEnv: (name: string) => string | undefined;
}

/** Makes no request and loads no SDK: that waits for the first use. */
export function createProvider(deps: ProviderDeps): Provider {
  const { settings, clock } = deps;
  if (settings.kind === 'offline') return createOfflineProvider({ clock });
  const endpoint = createOpenAiEndpoint(deps);
  return settings.api === 'chat' ? createChatProvider(endpoint) : createResponsesProvider(endpoint);
}
