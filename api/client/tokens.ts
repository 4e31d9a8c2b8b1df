/** The methods of the client for tokens of the TCP door. */
import type { CreatedToken, CreateToken, TokenView } from '../../protocol/tokens.ts';
import type { Exchange } from './request.ts';

export interface TokenMethods {
  /** Its value is in this answer and nowhere else; unix socket only. */
  createToken(params: CreateToken): Promise<CreatedToken>;
  listTokens(): Promise<TokenView[]>;
  /** Refused from now on; its streams end. */
  revokeToken(name: string): Promise<void>;
}

const PATH = '/api/v1/tokens';

export function createTokenMethods(exchange: Exchange): TokenMethods {
  const toJson = async <T>(answer: Promise<{ text: string }>): Promise<T> =>
    JSON.parse((await answer).text) as T; // The route's shape: both ends are one version.
  return {
    createToken: (params) =>
      toJson(exchange.readText({ method: 'POST', path: PATH, body: params })),
    listTokens: () => toJson(exchange.readText({ method: 'GET', path: PATH })),
    revokeToken: async (name) => {
      await exchange.readText({ method: 'DELETE', path: `${PATH}/${encodeURIComponent(name)}` });
    },
  };
}
