/** Which headers go with a request. */
import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { type NetworkRequest, noNetwork } from '../../../protocol/network.ts';
import { openRequest } from '../../../sandbox/network/requests.ts';
import { createNetworkRules } from '../../../sandbox/network/rules.ts';

test('a secret goes to the port of its domain only, and never with TRACE (regression)', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const policy = { ...noNetwork, mode: 'allowlist' as const };
  const requests: NetworkRequest[] = [];

  async function ask(domain: string, method: string) {
    const opened = await openRequest(
      {
        clock: realClock,
        rules: createNetworkRules({ ...policy, allowedDomains: [`127.0.0.1:${port}`] }),
        injections: [{ secret: 'KEY', domain, header: 'X-Key', format: '{value}' }],
        lookup: async () => [],
        readSecret: async () => ({ kind: 'value', value: 'swordfish' }),
        canRecord: () => true,
        count: () => 1,
        report: async (one) => void requests.push(one),
      },
      {
        ...{ via: 'proxy', call: undefined, method, port },
        host: { kind: 'address', host: '127.0.0.1', family: 4 },
      },
    );
    if (opened.kind === 'refused') return opened.status;
    opened.request.socket.destroy();
    return opened.request.headers;
  }

  try {
    const key = { 'x-key': 'swordfish' };
    expect(await ask('127.0.0.1', 'GET')).toEqual(key);
    expect(await ask(`127.0.0.1:${port}`, 'GET')).toEqual(key);
    expect(await ask('127.0.0.1:80', 'GET')).toEqual({});
    expect(await ask('127.0.0.1:80', 'TRACE')).toEqual({});
    expect(await ask('127.0.0.1', 'TRACE')).toBe(403);
    expect(requests).toMatchObject([{ method: 'TRACE', rule: 'secrets', decision: 'deny' }]);
  } finally {
    server.close();
  }
});
