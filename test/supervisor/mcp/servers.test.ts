/** The configuration of MCP servers: what is refused, what a host is told, who is confined. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { loadConfig } from '../../../supervisor/config.ts';
import { findServersOf, isMcpToolListed, toMcpServer } from '../../../supervisor/mcp/servers.ts';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-mcp-config-'));
});

afterEach(() => rmSync(dir, { recursive: true }));

function load(text: string) {
  const file = join(dir, 'config.toml');
  writeFileSync(file, text);
  return { ...loadConfig({ config: file }, { HOME: dir }).config, keyFile: join(dir, 'key') };
}

describe('[config:mcp.servers.<name>.command] [config:mcp.servers.<name>.url] a server', () => {
  test.each([
    ['[mcp.servers.a]', 'needs either command or url'],
    ['[mcp.servers.a]\ncommand = "x"\nurl = "http://a"', 'needs either command or url'],
    ['[mcp.servers.a]\ncommand = "npx -y x"', 'command is one program'],
    ['[mcp.servers.a]\nurl = "file:///etc/passwd"', 'begins with http'],
    ['[mcp.servers.a]\nurl = "https://me:pass@a.example/"', 'a secret has a key of its own'],
    ['[mcp.servers.a__b]\ncommand = "x"', 'Invalid key'],
    ['[mcp.servers.a]\ncommand = "x"\nshard = true', "did you mean 'shared'"],
    ['[agent]\ntools = ["mcp__b__x"]\n[mcp.servers.a]\ncommand = "x"', 'mcp__b__x'],
    ['[security.tool_policy.groups]\n"mcp.b" = "allow"', 'mcp.b'],
    [
      Array.from({ length: 33 }, (_, i) => `[mcp.servers.s${i}]\ncommand = "x"`).join('\n'),
      'at most 32',
    ],
  ])('%s is refused', (text, message) => {
    expect(() => load(text)).toThrow(message);
  });

  test('is a program with its arguments, in one list or in two', () => {
    const config = load(`
      [mcp.servers.a]
      command = ["node", "a.js"]
      [mcp.servers.b]
      command = "node"
      args = ["a.js"]
    `);
    const commands = ['a', 'b'].map((name) => toMcpServer(config, name, 'bubblewrap').reach);
    expect(commands).toMatchObject([{ command: ['node', 'a.js'] }, { command: ['node', 'a.js'] }]);
  });

  test('has no workspace, no network, and sees neither the state, the config file nor the key of the vault', () => {
    const config = load('[mcp.servers.a]\ncommand = "x"\nenv.K = "v"');
    expect(toMcpServer(config, 'a', 'bubblewrap')).toMatchObject({
      isUnconfined: false,
      reach: {
        policy: {
          backend: 'bubblewrap',
          workspace: '',
          network: { mode: 'none' },
          env: { K: 'v' },
          envAllowlist: ['K'],
          hiddenPaths: [config.stateDir, config.file, config.keyFile],
          readOnlyPaths: [],
        },
      },
    });
  });

  test('[config:mcp.servers.<name>.memory_limit_mb] has its own memory limit, else that of calls', () => {
    const config = load(`
      [security.sandbox]
      memory_limit_mb = 128
      [mcp.servers.a]
      command = "x"
      [mcp.servers.b]
      command = "x"
      memory_limit_mb = 0
      [mcp.servers.c]
      command = "x"
      memory_limit_mb = 1024
    `);
    const reaches = ['a', 'b', 'c'].map((name) => toMcpServer(config, name, 'bubblewrap').reach);
    expect(reaches).toMatchObject([
      { policy: { memoryLimitBytes: 128 * 2 ** 20 } },
      { policy: { memoryLimitBytes: 0 } },
      { policy: { memoryLimitBytes: 1024 * 2 ** 20 } },
    ]);
  });

  test.each([
    ['[mcp.servers.a]\nurl = "https://a.example/"', 'bubblewrap'],
    ['[mcp.servers.a]\ncommand = "x"\nnetwork = "full"', 'unshare'],
    ['[mcp.servers.a]\ncommand = "x"', 'limits-only'],
    ['[mcp.servers.a]\ncommand = "x"', 'none'],
  ] as const)('%s at level %s is not confined', (text, level) => {
    expect(toMcpServer(load(text), 'a', level).isUnconfined).toBe(true);
  });
});

describe('[config:mcp.servers.<name>.headers.<name>.secret] [config:mcp.servers.<name>.headers.<name>.format] a header', () => {
  const withHeaders = (headers: string) =>
    load(`[mcp.servers.a]\nurl = "https://a.example/"\n[mcp.servers.a.headers]\n${headers}`);

  test.each([
    ['Authorization = "Bearer abc"', 'headers'],
    ['Authorization = {}', 'secret'],
    ['Authorization.secret = "a key"', 'a name in the vault'],
    ['Authorization = { secret = "K", format = "Bearer abc" }', 'one line with {value} in it'],
    ['Authorization = { secret = "K", format = "{value}\\nX: 1" }', 'one line with {value} in it'],
    ['Host.secret = "K"', 'not one that frames the request'],
    ['mcp-session-id.secret = "K"', 'a header that MCP does not set itself'],
    ['"X Y".secret = "K"', 'the name of a header'],
  ])('%s is refused', (headers, message) => {
    expect(() => withHeaders(headers)).toThrow(message);
  });

  test.each([
    '[mcp.servers.a.headers]\nAuthorization = "Bearer swordfish"',
    '[mcp.servers.b]\nurl = "https://me:swordfish@a.example/"',
    '[mcp.servers.b]\nenv.K = ["swordfish"]',
  ])('that is a value itself is refused without it: %s', (text) => {
    const whole = `[mcp.servers.a]\nurl = "https://a.example/"\n${text}`;
    expect(() => load(whole)).toThrow(/^(?!.*swordfish).*\(set\)/s);
  });

  test('is refused for a command, which has its env', () => {
    const text = '[mcp.servers.a]\ncommand = "x"\nheaders.X.secret = "K"';
    expect(() => load(text)).toThrow('headers are for a url');
  });

  test('is told to the host by the name of its secret, with what a redirect may reach', () => {
    const config = load(`
      [mcp]
      allowed_urls = ["https://a.example/"]
      [mcp.servers.a]
      url = "https://a.example/mcp"
      headers.Authorization.secret = "A"
      headers.X-Key = { secret = "B", format = "{value}" }
    `);
    expect(toMcpServer(config, 'a', 'bubblewrap').reach).toEqual({
      kind: 'url',
      url: 'https://a.example/mcp',
      within: ['https://a.example/'],
      headers: [
        { header: 'Authorization', secret: 'A', format: 'Bearer {value}' },
        { header: 'X-Key', secret: 'B', format: '{value}' },
      ],
    });
  });
});

describe('lists of what is allowed', () => {
  const allowing = (key: string, server: string) => () =>
    load(`[mcp]\n${key}\n[mcp.servers.a]\n${server}`);

  test('[config:mcp.allowed_commands] refuse every other program', () => {
    const list = 'allowed_commands = ["node", "/opt/x"]';
    expect(allowing(list, 'command = "node"')).not.toThrow();
    expect(allowing(list, 'command = ["/opt/x", "-a"]')).not.toThrow();
    expect(allowing(list, 'command = "/tmp/node"')).toThrow("'/tmp/node' is not one of");
    expect(allowing(list, 'url = "http://a/"')).not.toThrow();
  });

  test('[config:mcp.allowed_urls] refuse every URL that is not at or below one', () => {
    const list = 'allowed_urls = ["https://a.example/mcp"]';
    expect(allowing(list, 'url = "https://a.example/mcp"')).not.toThrow();
    expect(allowing(list, 'url = "https://a.example/mcp/v1"')).not.toThrow();
    for (const url of [
      'https://a.example.evil/mcp',
      'https://a.example/mcp2',
      'https://a.example/mcp/../admin',
      'http://a.example/mcp',
      'https://a.example:444/mcp',
    ]) {
      expect(allowing(list, `url = "${url}"`)).toThrow('is not below one of mcp.allowed_urls');
    }
  });
});

describe('the tools of an agent', () => {
  const rows: [readonly string[] | undefined, readonly string[], boolean][] = [
    [undefined, ['a', 'b'], true],
    [[], [], false],
    [['shell'], [], false],
    [['mcp'], ['a', 'b'], true],
    [['mcp__a'], ['a'], true],
    [['mcp__a__one'], ['a'], true],
    [['mcp__a__other'], ['a'], false],
    [['mcp__b'], ['b'], false],
  ];

  test.each(rows)('%j: servers %j, mcp__a__one %s', (tools, servers, isListed) => {
    expect(findServersOf(tools, ['a', 'b'])).toEqual(servers);
    expect(isMcpToolListed(tools, 'mcp__a__one')).toBe(isListed);
  });
});
