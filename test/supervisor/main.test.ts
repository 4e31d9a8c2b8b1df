/** The supervisor's own process: the TCP door, its tokens and its log, as config.toml has them. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { type ProcessExit, type RunningProcess, startProcess } from '../../base/process.ts';
import { realRandom } from '../../base/random.ts';
import { ensureToken } from '../../supervisor/api-token.ts';
import { loadConfig } from '../../supervisor/config.ts';
import { programs } from '../programs.ts';

const START_MS = 20_000;

let dir = '';
const running: RunningProcess[] = [];
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-main-'));
});
afterEach(async () => {
  for (const each of running.splice(0)) {
    each.kill('SIGTERM');
    await Promise.race([each.exited, realClock.sleep(5000)]);
    each.kill('SIGKILL');
  }
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Started {
  readonly url: string | undefined;
  readonly exit: ProcessExit | undefined;
  stderr(): string;
}

/** Resolves with the ready line's URL, or with the exit. */
async function start(name: string, toml: string, program = programs.supervisor): Promise<Started> {
  const config = join(dir, `${name}.toml`);
  writeFileSync(config, toml);
  const options = JSON.stringify({ config, stateDir: join(dir, name) });
  const env = { HOME: dir, PATH: process.env['PATH'] ?? '' };
  const args = [program, options];
  const child = await startProcess({ command: process.execPath, args, env, ownSession: false });
  running.push(child);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk;
  });
  const ready = new Promise<string>((resolve) => {
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes('\n')) resolve(text);
    });
  });
  const late = realClock.sleep(START_MS).then(() => 'late' as const);
  const first = await Promise.race([ready, child.exited, late]);
  if (typeof first === 'object') return { url: undefined, exit: first, stderr: () => stderr };
  if (first === 'late') throw new Error(`neither ready nor gone; stderr: ${stderr}`);
  const url = /url (http:\S+)/.exec(first)?.[1];
  return { url, exit: undefined, stderr: () => stderr };
}

describe('the TCP door', () => {
  test('[config:api.listen] [config:api.tokens[].name] [config:api.tokens[].sha256] [config:api.tokens[].scopes] [config:log.level] opens to the tokens of the config, each as far as its scopes go', async () => {
    const tokens = ['read', 'operate'].map((scope) => {
      const sha256 = createHash('sha256').update(`${scope}-token`).digest('hex');
      return `[[api.tokens]]\nname = "n-${scope}"\nsha256 = "${sha256}"\nscopes = ["${scope}"]\n`;
    });
    const log = '[log]\nlevel = "debug"\n';
    const { url, stderr } = await start(
      'door',
      `[api]\nlisten = "127.0.0.1:0"\n${tokens.join('')}${log}`,
    );
    const ask = (token: string | undefined, method: string, path: string) =>
      fetch(`${url}/api/v1${path}`, {
        method,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
        },
        ...(method === 'POST' ? { body: '{}' } : {}),
      });
    const statusOf = async (...args: Parameters<typeof ask>) => (await ask(...args)).status;
    expect(await statusOf(undefined, 'GET', '/status')).toBe(401);
    expect(await statusOf('', 'GET', '/status')).toBe(401);
    expect(await statusOf('read', 'GET', '/status')).toBe(401);
    expect(await statusOf('read-token', 'GET', '/status')).toBe(200);
    expect(await statusOf('read-token', 'POST', '/sessions')).toBe(403);
    const created = await ask('operate-token', 'POST', '/sessions');
    expect(created.status).toBe(201);
    const { id } = (await created.json()) as { id: string };
    const events = await (await ask('read-token', 'GET', `/sessions/${id}/events`)).text();
    expect(events).toContain('n-operate');
    expect(stderr()).toContain('"event":"supervisor.ready"');
  });

  test('[config:api.allow_insecure] off-loopback: refused (exit 78) unless written', async () => {
    const refused = await start('closed', '[api]\nlisten = "0.0.0.0:0"\n');
    expect(refused.exit?.code).toBe(78);
    expect(refused.stderr()).toContain('allow_insecure = true');
    const log = '[log]\nlevel = "silent"\n';
    const opened = await start(
      'open',
      `[api]\nlisten = "0.0.0.0:0"\nallow_insecure = true\n${log}`,
    );
    expect(opened.url).toMatch(/^http:/);
    expect(opened.stderr()).toBe('');
  });
});

test('the supervisor runs from its sources too, with children from theirs', async () => {
  const source = join(import.meta.dirname, '../../supervisor/main.ts');
  const { url } = await start('source', '[api]\nlisten = "127.0.0.1:0"\n', source);
  const { status } = await fetch(`${url}/readyz`);
  expect(status).toBe(200);
});

describe('the token we make', () => {
  const tokenIn = (name: string) => {
    const stateDir = mkdtempSync(join(dir, name));
    const load = (toml: string) => {
      const file = join(stateDir, 'c.toml');
      writeFileSync(file, toml);
      return loadConfig({ config: file, stateDir }, { HOME: '/nonexistent' }).config;
    };
    const ensure = (toml = '[api]\nlisten = "127.0.0.1:0"') => ensureToken(load(toml), realRandom);
    return { stateDir, ensure };
  };

  test('is owner-only, kept, and only made for an open door without tokens', () => {
    const { ensure } = tokenIn('kept-');
    expect(ensure('')).toEqual({ tokens: [], file: undefined });
    const first = ensure();
    expect(statSync(first.file ?? '').mode & 0o777).toBe(0o600);
    expect(ensure()).toEqual(first);
  });

  test('is made anew where a crash left an empty or half one (regression)', () => {
    const { stateDir, ensure } = tokenIn('torn-');
    const none = createHash('sha256').update('').digest('hex');
    for (const left of ['', '\n', 'abc123']) {
      writeFileSync(join(stateDir, 'api-token'), left);
      const [token] = ensure().tokens;
      expect(token?.sha256).not.toBe(none);
      expect(token?.sha256).not.toBe(createHash('sha256').update(left.trim()).digest('hex'));
    }
  });

  test('that cannot be read is named, with what to do (regression)', () => {
    const { stateDir, ensure } = tokenIn('folder-');
    mkdirSync(join(stateDir, 'api-token'));
    expect(() => ensure()).toThrow(
      expect.objectContaining({
        code: 'STATE_DIR_UNUSABLE',
        message: expect.stringMatching(/kept in .*api-token \(EISDIR\); mend that, or/),
      }),
    );
  });
});
