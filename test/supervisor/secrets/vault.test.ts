/** The vault on a real disk: what is kept, what an edit of the file can do, keys and their places,
 *  a rotation that dies half-way, and the record of every use. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { z } from 'zod';
import { silentLogger } from '../../../base/logger.ts';
import { realRandom } from '../../../base/random.ts';
import { sessionIdSchema } from '../../../protocol/ids.ts';
import { redactText } from '../../../protocol/redactor.ts';
import { configSchema, type RawConfig } from '../../../supervisor/config-schema.ts';
import {
  type KeeperDeps,
  listSecrets,
  removeSecret,
  rotateKey,
  setSecret,
  toVaultPath,
} from '../../../supervisor/secrets/keeper.ts';
import { createSecrets } from '../../../supervisor/secrets/secrets.ts';
import { createSteppedClock, type SteppedClock } from '../stepped-clock.ts';

const VALUE = 'swordfish-swordfish';
const KEY = 'ab'.repeat(32);
const session = sessionIdSchema.parse('s_0123456789abcdef');
let dir: string;
let stateDir: string;
let clock: SteppedClock;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-vault-'));
  stateDir = join(dir, 'state');
  clock = createSteppedClock();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

type Written = NonNullable<z.input<typeof configSchema>['secrets']>;

function settingsOf(secrets: Written = {}): RawConfig['secrets'] {
  return configSchema.parse({ secrets }).secrets;
}

function keeper(secrets: Written = {}, env: Record<string, string> = {}): KeeperDeps {
  const settings = settingsOf({ key_file: join(dir, 'key'), ...secrets });
  return { stateDir, settings, env, clock, random: realRandom };
}

const set = (deps: KeeperDeps, name = 'KEY', own: object = {}) =>
  setSecret(deps, { name, value: Buffer.from(VALUE), agents: [], ...own });

function openSecrets({ settings, ...deps }: KeeperDeps, provider: object = {}) {
  const raw = { ...configSchema.parse({ provider }), secrets: settings };
  return createSecrets({ ...deps, config: () => ({ stateDir, raw }), logger: silentLogger });
}

/** As a host of this agent asks. */
function read(deps: KeeperDeps, name = 'KEY', agent = 'default', use: 'header' | 'file' = 'file') {
  const secrets = openSecrets(deps);
  const ports = secrets.toHostPorts(session, () => ({ agent, turn: 1 }));
  return ports.readSecret({ name, use, purpose: 'a test' });
}

const given = keeperSettings();
function keeperSettings(): Written {
  return { shell: ['KEY', 'OTHER'], inject: { WEB: { domain: 'example.org' } } };
}

function accessLog(): { action: string; [key: string]: unknown }[] {
  const text = readFileSync(join(stateDir, 'secret-access.log'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe('[config:secrets.shell] a value that was set', () => {
  test('is given back for its use, and is nowhere but in the vault, encrypted', async () => {
    const deps = keeper(given);
    expect(set(deps)).toMatchObject({ name: 'KEY', agents: [], expired: false });
    expect(await read(deps)).toEqual({ kind: 'value', value: VALUE });
    expect(readdirSync(stateDir).sort()).toContain('vault.json');
    for (const name of readdirSync(stateDir)) {
      const bytes = readFileSync(join(stateDir, name));
      for (const encoding of ['utf8', 'base64', 'hex'] as const) {
        const needle = Buffer.from(VALUE).toString(encoding).slice(0, 20);
        expect([name, bytes.includes(needle)]).toEqual([name, false]);
      }
    }
    expect(statSync(toVaultPath(stateDir)).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, 'key')).mode & 0o777).toBe(0o600);
  });

  test('is replaced, listed by name and removed', () => {
    const deps = keeper(given);
    set(deps, 'B');
    set(deps, 'A', { agents: ['default'] });
    set(deps, 'B', { value: Buffer.from('another-value') });
    expect(listSecrets(deps).map(({ name, agents }) => [name, agents])).toEqual([
      ['A', ['default']],
      ['B', []],
    ]);
    removeSecret(deps, 'B');
    expect(listSecrets(deps)).toHaveLength(1);
    expect(() => removeSecret(deps, 'B')).toThrow(/there is no secret B; there are: A/);
  });

  test('expires', async () => {
    const deps = keeper(given);
    set(deps, 'KEY', { ttlMs: 1000 });
    expect((await read(deps)).kind).toBe('value');
    clock.advance(1000);
    expect(await read(deps)).toMatchObject({ reason: expect.stringMatching(/KEY expired at/) });
    expect(listSecrets(deps)[0]?.expired).toBe(true);
  });

  test('is not given to another agent, or for a use that is not configured', async () => {
    const deps = keeper(given);
    set(deps, 'KEY', { agents: ['writer'] });
    set(deps, 'WEB');
    expect(await read(deps, 'KEY', 'writer')).toMatchObject({ kind: 'value' });
    const reasons = [
      await read(deps, 'KEY', 'default'),
      await read(deps, 'KEY', 'writer', 'header'),
      await read(deps, 'WEB', 'default', 'file'),
      await read(deps, 'OTHER'),
    ].map((answer) => (answer.kind === 'refused' ? answer.reason : answer.kind));
    expect(reasons).toEqual([
      'the secret KEY is for writer, and this agent is default',
      expect.stringMatching(/not give the secret KEY to a request.*\[secrets\.inject\.KEY\]/),
      expect.stringMatching(/not give the secret WEB to a command.*secrets\.shell/),
      expect.stringMatching(/there is no secret OTHER; there are: KEY, WEB/),
    ]);
    expect(await read(deps, 'WEB', 'default', 'header')).toMatchObject({ kind: 'value' });
  });

  test('leaves a record of each use, without the value', async () => {
    const deps = keeper(given);
    set(deps);
    await read(deps);
    await read(deps, 'OTHER');
    removeSecret(deps, 'KEY');
    expect(accessLog()).toMatchObject([
      { action: 'set', name: 'KEY' },
      { action: 'read', name: 'KEY', agent: 'default', purpose: 'a test' },
      { action: 'refused', name: 'OTHER', reason: expect.stringContaining('no secret OTHER') },
      { action: 'rm', name: 'KEY' },
    ]);
    expect(JSON.stringify(accessLog())).not.toContain('swordfish');
  });
});

describe('[config:mcp.servers.<name>.headers.<name>.secret] a header of an MCP server', () => {
  const id = sessionIdSchema.parse('s_0123456789abcdef');
  const headers = [{ header: 'X-Key', secret: 'KEY', format: '{value}' }];
  const reach = { kind: 'url' as const, url: 'https://a.example/', within: [], headers };

  function ask(deps: KeeperDeps, session?: typeof id, agent = 'default') {
    const { readSecrets } = openSecrets(deps).toMcpPorts(() => ({ record: () => ({ agent }) }));
    return readSecrets({ name: 'tickets', reach }, session);
  }

  test('has the value that it names, whatever else is configured, and leaves a record', async () => {
    const deps = keeper();
    set(deps);
    set(deps, 'OTHER');
    expect(await ask(deps)).toEqual({ kind: 'values', values: { KEY: VALUE } });
    expect(accessLog().at(-1)).toMatchObject({
      ...{ action: 'read', name: 'KEY' },
      purpose: 'header X-Key to the MCP server tickets',
    });
  });

  test('of a server that all share has none that is for some agents only', async () => {
    const deps = keeper();
    set(deps, 'KEY', { agents: ['writer'] });
    const reasons = [await ask(deps), await ask(deps, id), await ask(deps, id, 'writer')].map(
      (answer) => (answer.kind === 'refused' ? answer.reason : answer.kind),
    );
    expect(reasons).toEqual([
      'the secret KEY is for writer, and all agents share what asks for it',
      'the secret KEY is for writer, and this agent is default',
      'values',
    ]);
    expect(accessLog().map(({ action }) => action)).toEqual(['set', 'refused', 'refused', 'read']);
  });
});

describe('an edit of the file', () => {
  function edit(change: (entry: Record<string, unknown>) => void): void {
    const path = toVaultPath(stateDir);
    const vault = JSON.parse(readFileSync(path, 'utf8'));
    change(vault.entries.KEY);
    writeFileSync(path, JSON.stringify(vault));
  }
  test.each<[string, (entry: Record<string, unknown>) => void]>([
    ['the agents', (entry) => Object.assign(entry, { agents: [] })],
    ['the time', (entry) => Object.assign(entry, { expires_at: '2999-01-01T00:00:00.000Z' })],
    ['the data', (entry) => Object.assign(entry, { data: 'AAAA' })],
    ['the tag, cut', (entry) => Object.assign(entry, { tag: String(entry['tag']).slice(0, 8) })],
  ])('of %s gives nothing', async (_what, change) => {
    const deps = keeper(given);
    set(deps, 'KEY', { agents: ['default'], ttlMs: 1000 });
    edit(change);
    expect(await read(deps)).toMatchObject({
      reason: expect.stringMatching(/KEY does not pass its check/),
    });
  });

  test('that swaps two entries gives neither', async () => {
    const deps = keeper(given);
    set(deps, 'KEY');
    set(deps, 'OTHER', { value: Buffer.from('other-other') });
    const path = toVaultPath(stateDir);
    const { entries } = JSON.parse(readFileSync(path, 'utf8'));
    const swapped = { KEY: entries.OTHER, OTHER: entries.KEY };
    writeFileSync(path, JSON.stringify({ version: 1, entries: swapped }));
    expect((await read(deps)).kind).toBe('refused');
  });

  test('of its mode is refused', async () => {
    const deps = keeper(given);
    set(deps);
    chmodSync(toVaultPath(stateDir), 0o644);
    expect(await read(deps)).toMatchObject({ reason: expect.stringMatching(/chmod 600/) });
  });
});

describe('the key of the vault', () => {
  test('[config:secrets.key_file] is made once, and not taken when others can read it', () => {
    const deps = keeper(given);
    set(deps);
    const text = readFileSync(join(dir, 'key'), 'utf8');
    set(deps, 'OTHER');
    expect(readFileSync(join(dir, 'key'), 'utf8')).toBe(text);
    chmodSync(join(dir, 'key'), 0o640);
    expect(() => set(deps, 'OTHER')).toThrow(/others can reach it \(mode 0640/);
  });

  test('is never in the state directory', () => {
    const deps = keeper({ ...given, key_file: join(stateDir, 'key') });
    expect(() => set(deps)).toThrow(/lies in the state directory/);
    expect(existsSync(join(stateDir, 'key'))).toBe(false);
  });

  test('that is lost is not made anew over what it opened', () => {
    const deps = keeper(given);
    set(deps);
    rmSync(join(dir, 'key'));
    expect(() => set(deps, 'OTHER')).toThrow(/there is no vault key: .*bring it back/);
  });

  test('of another vault opens nothing, and says which one is wanted', async () => {
    const deps = keeper(given);
    set(deps);
    writeFileSync(join(dir, 'key'), 'cd'.repeat(32));
    expect(await read(deps)).toMatchObject({
      reason: expect.stringMatching(/encrypted with the key [0-9a-f]{16}, and the vault key is/),
    });
  });

  test('[config:secrets.key_credential] may come from systemd', async () => {
    writeFileSync(join(dir, 'cred'), KEY, { mode: 0o400 });
    const own = { ...given, key_file: undefined, key_credential: 'cred' };
    const deps = keeper(own, { CREDENTIALS_DIRECTORY: dir });
    set(deps);
    expect((await read(deps)).kind).toBe('value');
    const without = keeper(own, {});
    expect(await read(without)).toMatchObject({
      reason: expect.stringMatching(/LoadCredential=cred/),
    });
  });

  test('[config:secrets.key_env] comes from the environment only where that is written', async () => {
    const own = { ...given, key_file: undefined, key_env: 'VAULT_KEY' };
    const deps = keeper(own, { VAULT_KEY: KEY });
    set(deps);
    expect((await read(deps)).kind).toBe('value');
    expect(await read(keeper(own, {}))).toMatchObject({
      reason: expect.stringMatching(/VAULT_KEY is not set/),
    });
    expect(() => rotateKey(deps)).toThrow(
      /comes from the environment, which is not ours to change/,
    );
    expect(() => set(keeper(own, { VAULT_KEY: 'short' }), 'B')).toThrow(/has 32 bytes/);
  });
});

describe('a rotation', () => {
  test('encrypts everything anew, and the old key opens nothing', async () => {
    const deps = keeper(given);
    set(deps, 'KEY', { agents: ['default'], ttlMs: 60_000 });
    set(deps, 'OTHER');
    const before = readFileSync(join(dir, 'key'), 'utf8');
    expect(rotateKey(deps)).toBe(2);
    expect(readFileSync(join(dir, 'key'), 'utf8')).not.toBe(before);
    expect(await read(deps)).toEqual({ kind: 'value', value: VALUE });
    expect(listSecrets(deps)[0]).toMatchObject({ name: 'KEY', agents: ['default'] });
    writeFileSync(join(dir, 'key'), before);
    expect((await read(deps)).kind).toBe('refused');
  });

  test('that died before the vault was written changes nothing', async () => {
    const deps = keeper(given);
    set(deps);
    writeFileSync(join(dir, 'key.next'), 'cd'.repeat(32), { mode: 0o600 });
    expect(await read(deps)).toMatchObject({ kind: 'value' });
    set(deps, 'OTHER');
    expect(existsSync(join(dir, 'key.next'))).toBe(false);
    expect(await read(deps, 'OTHER')).toMatchObject({ kind: 'value' });
  });

  test('that died after it is finished by the next change', async () => {
    const deps = keeper(given);
    set(deps);
    const before = readFileSync(join(dir, 'key'), 'utf8');
    rotateKey(deps);
    renameSync(join(dir, 'key'), join(dir, 'key.next'));
    writeFileSync(join(dir, 'key'), before, { mode: 0o600 });
    expect(await read(deps)).toMatchObject({ kind: 'value' });
    set(deps, 'OTHER');
    expect(existsSync(join(dir, 'key.next'))).toBe(false);
    expect(await read(deps)).toMatchObject({ kind: 'value' });
  });
});

test.each(['', '1A', 'a b', '../x', 'x'.repeat(65)])('%j is no name', (name) => {
  expect(() => set(keeper(given), name)).toThrow(/is no name for a secret/);
});

test('a value has 1 byte to 64 KiB', () => {
  const deps = keeper(given);
  const ofSize = (size: number) => () => set(deps, 'KEY', { value: Buffer.alloc(size, 'a') });
  expect(ofSize(0)).toThrow(/has 0 bytes/);
  expect(ofSize(65_537)).toThrow(/has 65537 bytes/);
  expect(ofSize(65_536)).not.toThrow();
});

test('a state directory that takes nothing is named (regression)', () => {
  mkdirSync(join(stateDir, 'vault-lock.db'), { recursive: true });
  expect(() => set(keeper(given))).toThrow(`the state directory ${stateDir} cannot be used`);
});

test('a vault that is none is named', async () => {
  const deps = keeper(given);
  set(deps);
  writeFileSync(toVaultPath(stateDir), '{}');
  expect(await read(deps)).toMatchObject({ reason: expect.stringMatching(/is no vault of this/) });
});

test('the fingerprints are of all that was in the vault, and stay the same object while nothing comes', () => {
  const deps = keeper(given);
  const { fingerprints } = openSecrets(deps);
  expect(fingerprints().prints).toEqual([]);
  set(deps);
  const first = fingerprints();
  expect(redactText(`x ${VALUE}`, first)).toBe('x [secret KEY]');
  expect(fingerprints()).toBe(first);
  set(deps, 'KEY', { value: Buffer.from('canary-of-tomorrow') });
  removeSecret(deps, 'KEY');
  // What was given away may still come back.
  expect(redactText(`${VALUE} x`, fingerprints())).toBe('[secret KEY] x');
});

test('a vault whose key comes later is unreadable in what tools give from then on (regression)', () => {
  const deps = keeper(given);
  set(deps);
  const path = join(dir, 'key');
  renameSync(path, `${path}.away`);
  const secrets = openSecrets(deps);
  expect(secrets.redact(VALUE)).toBe(VALUE);
  renameSync(`${path}.away`, path);
  expect(secrets.redact(VALUE)).toBe('[secret KEY]');
});

describe('[config:provider.api_key_secret] the key of the provider', () => {
  test('comes from the vault in place of the variable', () => {
    const deps = keeper(given, { OPENAI_API_KEY: 'from-env' });
    set(deps, 'OPENAI');
    const key = (own: object) => {
      const [variable, env] = openSecrets(deps, own).ofProvider();
      return env[variable];
    };
    expect(key({})).toBe('from-env');
    expect(key({ api_key_secret: 'OPENAI' })).toBe(VALUE);
    expect(key({ api_key_secret: 'NONE' })).toBeUndefined();
    expect(accessLog().at(-1)).toMatchObject({ action: 'read', purpose: 'provider key' });
  });
});
