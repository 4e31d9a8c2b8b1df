/** A server whose host is let go while a call waits for its start. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import { realRandom } from '../../../base/random.ts';
import { createConnection } from '../../../protocol/connection.ts';
import { noFingerprints } from '../../../protocol/fingerprints.ts';
import {
  mcpAsks,
  mcpNotifications,
  mcpReports,
  mcpRequests,
} from '../../../protocol/mcp-methods.ts';
import { toMcpToolName } from '../../../protocol/mcp-names.ts';
import { type Config, loadConfig } from '../../../supervisor/config.ts';
import { createMcpPool } from '../../../supervisor/mcp/pool.ts';
import { effectId, sessionId } from '../../store/setup-events.ts';
import { emptyRegistry, specOf } from '../children/parts.ts';
import { createMachine, type MachineScript } from '../machine.ts';
import { answers, createLatch, result, runsEverything } from '../script.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-pool-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function configure(url: string): Config {
  const file = join(folder, 'config.toml');
  writeFileSync(file, `[mcp.servers.one]\nurl = "${url}"\n`);
  return loadConfig({ config: file, stateDir: folder }, { HOME: '/nonexistent' }).config;
}

test('a call that is cancelled behind a reload, as its host starts, does not run (regression)', async () => {
  const [asked, begun] = [createLatch(), createLatch()];
  const ran: string[] = [];
  const runMcp: MachineScript['runMcp'] = (own, transport) => {
    const connection = createConnection({
      ...{ transport, clock: realClock, peer: 'the supervisor' },
      local: { requests: mcpRequests, notifications: mcpNotifications },
      remote: { requests: mcpAsks, notifications: mcpReports },
      requests: {
        'mcp/initialize': async () => {
          asked.open();
          await begun.opened;
          return { tools: [], problems: [], level: 'none' };
        },
        'mcp/check': async () => ({}),
        'mcp/call': async ({ effect }) => {
          ran.push(effect);
          return result('it ran');
        },
        'mcp/ping': async () => ({ running: 0 }),
      },
      notifications: { 'mcp/cancel': () => undefined },
    });
    void connection.closed.then(() => own.die({ code: 0, signal: undefined }));
    void connection.notify('mcp/ready', { pid: own.pid });
  };
  let config = configure('http://127.0.0.1:9/one');
  const pool = createMcpPool({
    ...{ clock: realClock, logger: silentLogger, random: realRandom, env: {} },
    processes: createMachine({ gateway: answers({}), host: runsEverything(), runMcp }),
    config: () => config,
    level: () => 'bubblewrap',
    startLevel: () => 'bubblewrap',
    turnOf: () => 1,
    onChanged: () => undefined,
    spec: specOf('mcp'),
    registry: emptyRegistry,
    artifactsDir: folder,
    fingerprints: () => noFingerprints,
    readSecrets: async () => ({ kind: 'values', values: {} }),
  });
  const session = pool.session(sessionId(1));
  const effect = effectId('1.1.1');
  const call = { effect, tool: toMcpToolName('one', 'tool'), arguments: {}, attempt: 1 };
  const running = session.run({ ...call, spoolPath: join(folder, 'spool') });
  await asked.opened;
  config = configure('http://127.0.0.1:9/two');
  pool.reload();
  session.cancel(effect);
  begun.open();
  expect(await running).toMatchObject({ status: 'cancelled' });
  expect(ran).toEqual([]);
  pool.release();
});
