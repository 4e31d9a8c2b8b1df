/** The client's part for policy: why a call is allowed, and the rules that people kept. */
import type { KeptRule } from '../../protocol/kept-rules.ts';
import type { ExplainPolicy, PolicyView } from '../../protocol/policy-view.ts';
import type { Exchange } from './request.ts';

export interface PolicyClient {
  /** Decides and runs nothing. */
  explainPolicy(asked: ExplainPolicy): Promise<PolicyView>;
  listKeptRules(): Promise<KeptRule[]>;
  /** @throws NOT_FOUND. */
  removeKeptRule(id: string): Promise<void>;
}

const API = '/api/v1';

export function policyMethods(exchange: Exchange): PolicyClient {
  return {
    explainPolicy: async (body) => {
      const path = `${API}/policy/explain`;
      return JSON.parse((await exchange.readText({ method: 'POST', path, body })).text);
    },
    listKeptRules: async () =>
      JSON.parse((await exchange.readText({ method: 'GET', path: `${API}/rules` })).text),
    removeKeptRule: async (id) => {
      const path = `${API}/rules/${encodeURIComponent(id)}`;
      await exchange.readText({ method: 'DELETE', path });
    },
  };
}
