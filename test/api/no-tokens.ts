/** A token book without tokens, for what needs one and does not test it. */
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { openTokenBook } from '../../supervisor/token-book.ts';

export const noTokens = await openTokenBook({
  file: '/nonexistent/api-tokens.json',
  configured: [],
  clock: realClock,
  random: realRandom,
  logger: silentLogger,
  announce: async () => undefined,
});
