/** A secret from the command line to a header, a file and the provider, through real processes; and
 *  a search for it in everything that is left: state dir, events, environments. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { reply, startWebServer } from '../sandbox/mcp-web.ts';
import { runCli, type Told } from './command-line.ts';
import { type Bench, createBench } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const CANARY = 'canary-5e1f-swordfish';
const PROVIDER_KEY = 'provider-key-0123456789';
let bench: Bench;
let provider: ScriptedProvider;
let server: Server;
let seen: (string | undefined)[];

afterEach(async () => {
  await bench.close();
  await provider.close();
  server.close();
});

async function startPlaces(): Promise<{ readonly place: string }> {
  seen = [];
  server = createServer((request, answer) => {
    seen.push(request.headers['x-key']?.toString());
    answer.end(`you sent ${request.headers['x-key'] ?? 'nothing'}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  provider = await startScriptedProvider();
  bench = createBench(`
[agent]
model = "scripted"
[provider]
base_url = "${provider.url}"
api_key_secret = "OPENAI"
[security.sandbox]
network = "allowlist"
allowed_domains = ["${place}"]
[secrets]
shell = ["KEY"]
[secrets.inject.KEY]
domain = "${place}"
header = "X-Key"
format = "k {value}"
`);
  return { place };
}

const prx = (args: readonly string[], input = ''): Promise<Told> => runCli(bench, args, input);

test('[command:secret] [promise:no-secret-leaves] a secret goes where it is sent, and nowhere else', async () => {
  const { place } = await startPlaces();
  expect(await prx(['secret', 'set', 'KEY', '--ttl', '1h'], `${CANARY}\n`)).toEqual({
    ...{ code: 0, out: 'KEY is set\n' },
  });
  expect((await prx(['secret', 'set', 'OPENAI'], PROVIDER_KEY)).code).toBe(0);
  await bench.start();
  const { view } = await bench.client.createSession({});
  const script = [
    {
      tool: 'shell',
      arguments: {
        command: `cat /run/prx/call/secrets/KEY; env -u NO_PROXY -u no_proxy curl -sS http://${place}/; env`,
        secrets: ['KEY'],
      },
    },
    { tool: 'fetch', arguments: { url: `http://${place}/page?q=1` } },
    { tool: 'fetch', arguments: { url: 'http://evil.example/' } },
    { say: 'done' },
  ];
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  const events = await bench.follow(view.id, (event) => event.type === 'turn.completed');
  expect(seen).toEqual([`k ${CANARY}`, `k ${CANARY}`]);
  expect(provider.authorizations).toContain(`Bearer ${PROVIDER_KEY}`);
  const outputs = events
    .filter((event) => event.type === 'tool.completed')
    .map((event) => event.data as { status: string; output: string });
  expect(outputs.map(({ status }) => status)).toEqual(['ok', 'ok', 'denied']);
  expect(outputs[0]?.output).toMatch(/^\[secret KEY\]you sent k \[secret KEY\]/);
  const requests = events.filter((event) => event.type === 'network.request');
  expect(requests.map(({ data, turn }) => ({ ...(data as object), turn }))).toMatchObject([
    { turn: 1, call_id: '1.1.1', via: 'proxy', decision: 'allow', secrets: ['KEY'], attempt: 1 },
    { turn: 1, call_id: '1.2.1', via: 'fetch', decision: 'allow', status: 200 },
    { turn: 1, call_id: '1.3.1', via: 'fetch', decision: 'deny', host: 'evil.example' },
  ]);
  expectNowhere(JSON.stringify(events));
  for (const file of listFiles(bench.stateDir)) expectNowhere(readFileSync(file, 'latin1'), file);
  for (const { pid, kind } of await bench.client.listProcesses()) {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
    expect([kind, environment.includes(CANARY)]).toEqual([kind, false]);
    expect([kind, environment.includes(PROVIDER_KEY)]).toEqual([kind, kind === 'gateway']);
  }
});

test('[command:secret] the vault is changed while the supervisor runs, and says who used what', async () => {
  await startPlaces();
  await prx(['secret', 'set', 'OPENAI'], PROVIDER_KEY);
  await bench.start();
  const { view } = await bench.client.createSession({});
  const [head, tail] = [CANARY.slice(0, 10), CANARY.slice(10)];
  const echo = { tool: 'shell', arguments: { command: `printf ${head}; echo ${tail}` } };
  const read = {
    tool: 'shell',
    arguments: { command: 'wc -c < /run/prx/call/secrets/KEY', secrets: ['KEY'] },
  };
  const run = async (step: object): Promise<string> => {
    const { last_seq: before } = await bench.client.getSession(view.id);
    await bench.client.sendInput(view.id, { text: JSON.stringify([step, { say: 'done' }]) });
    const isEnd = (event: { type: string; seq: number }): boolean =>
      event.type === 'turn.completed' && event.seq > before;
    const events = await bench.follow(view.id, isEnd);
    const data = events.findLast(({ type }) => type === 'tool.completed')?.data;
    return (data as { output: string }).output;
  };
  expect(await run(read)).toMatch(/there is no secret KEY; there are: OPENAI/);
  await prx(['secret', 'set', 'KEY'], CANARY);
  expect(await run(read)).toBe('21\n');
  expect(await run(echo)).toBe('[secret KEY]\n');
  // Pasted by its owner: neither the journal nor the model gets it.
  const pasted = { tool: 'shell', arguments: { command: `echo '${CANARY}' | wc -c` } };
  expect(await run(pasted)).toBe('13\n');
  const asked = { tool: 'ask_user', arguments: { question: 'Which key?' } };
  const told = run(asked);
  await bench.follow(view.id, ({ type }) => type === 'approval.requested');
  const answer = `it is ${CANARY}`;
  await bench.client.resolveApproval(view.id, '5.1.1', { decision: 'approve', answer });
  expect(await told).toContain('it is [secret KEY]');
  for (const file of listFiles(bench.stateDir)) expectNowhere(readFileSync(file, 'latin1'), file);
  expect(await prx(['secret', 'rotate'])).toEqual({
    ...{ code: 0, out: 'a new vault key; 2 secrets encrypted anew\n' },
  });
  expect(await run(read)).toBe('21\n');
  await prx(['secret', 'set', 'KEY', '--agent', 'default'], CANARY);
  const listed = await prx(['secret', 'ls', '--json']);
  expect(JSON.parse(listed.out)).toMatchObject([
    { name: 'KEY', agents: ['default'], expired: false },
    { name: 'OPENAI', agents: [] },
  ]);
  expect((await prx(['secret', 'rm', 'KEY'])).code).toBe(0);
  expect(await run(read)).toMatch(/there is no secret KEY/);
  const log = readFileSync(join(bench.stateDir, 'secret-access.log'), 'utf8');
  const uses = log
    .trim()
    .split('\n')
    .map((line): { action: string; name: string } => JSON.parse(line))
    .filter(({ name }) => name === 'KEY')
    .map(({ action }) => action);
  expect(uses).toEqual(['refused', 'set', 'read', 'read', 'set', 'rm', 'refused']);
});

test('[promise:no-secret-leaves] a value that is replaced under a call is unreadable in it, as is the new one', async () => {
  const { place } = await startPlaces();
  const next = 'canary-77aa-trombone';
  await prx(['secret', 'set', 'OPENAI'], PROVIDER_KEY);
  await prx(['secret', 'set', 'KEY'], CANARY);
  await bench.start();
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  const ask = `env -u NO_PROXY -u no_proxy curl -sS http://${place}/`;
  const file = '/run/prx/call/secrets/KEY';
  const command = `cp ${file} copy; echo begun; until [ -e go ]; do sleep 0.05; done; ${ask}; cat ${file}`;
  const script = [
    { tool: 'shell', arguments: { command, secrets: ['KEY'] } },
    { tool: 'shell', arguments: { command: 'cat copy' } },
    { say: 'done' },
  ];
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  await bench.follow(view.id, ({ type }) => type === 'tool.output');
  await prx(['secret', 'set', 'KEY'], next);
  writeFileSync(join(bench.workspace, 'go'), '');
  const events = await bench.follow(view.id, ({ type }) => type === 'turn.completed');
  expect(seen).toEqual([`k ${next}`]);
  const outputs = events.filter(({ type }) => type === 'tool.completed').map(({ data }) => data);
  expect(outputs).toMatchObject([
    { output: 'begun\nyou sent k [secret KEY][secret KEY]' },
    { output: '[secret KEY]' },
  ]);
  for (const path of listFiles(bench.stateDir)) {
    const text = readFileSync(path, 'latin1');
    expect([path, text.includes(CANARY), text.includes(next)]).toEqual([path, false, false]);
  }
});

test('[config:mcp.servers.<name>.headers.<name>.secret] [promise:no-secret-leaves] an MCP server gets it as a header, and nobody gets it from there', async () => {
  await startPlaces();
  const carried: (string | undefined)[] = [];
  const web = await startWebServer({
    tools: [{ name: 'tell', description: `for ${CANARY}`, inputSchema: { type: 'object' } }],
    answers: {
      tell: (asked) => {
        const told = asked.request.headers.authorization ?? 'nothing';
        reply(asked, { content: [{ type: 'text', text: told }] });
      },
    },
    before({ request }) {
      carried.push(request.headers.authorization);
      return false;
    },
  });
  try {
    bench.configure(
      (text) => `${text}
[mcp.servers.tickets]
url = "${web.url}"
policy = "allow"
headers.Authorization.secret = "KEY"
`,
    );
    await prx(['secret', 'set', 'OPENAI'], PROVIDER_KEY);
    await bench.start();
    const run = async (): Promise<readonly EventEnvelope[]> => {
      const { view } = await bench.client.createSession({});
      const script = [{ tool: 'mcp__tickets__tell', arguments: {} }, { say: 'done' }];
      await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
      return bench.follow(view.id, (event) => event.type === 'turn.completed');
    };
    await run();
    const { mcp } = await bench.client.getStatus();
    expect(mcp?.[0]?.problems[0]).toContain('there is no secret KEY');
    expect(carried).toEqual([]);
    await prx(['secret', 'set', 'KEY'], CANARY);
    // Another configuration is another server, which has not failed yet: it is started at once.
    bench.configure((text) => `${text}headers.X-More.secret = "KEY"\n`);
    await bench.client.reload();
    const events = await run();
    expect(events.find(({ type }) => type === 'tool.completed')?.data).toMatchObject({
      status: 'ok',
      output: 'Bearer [secret KEY]',
    });
    expect(new Set(carried)).toEqual(new Set([`Bearer ${CANARY}`]));
    const all = await bench.client.readAllEvents({ limit: 1000 });
    expectNowhere(JSON.stringify([events, all, await bench.client.getStatus({ deep: true })]));
    for (const file of listFiles(bench.stateDir)) expectNowhere(readFileSync(file, 'latin1'), file);
  } finally {
    await web.close();
  }
});

test.each([
  [['secret', 'set'], 2, /needs a NAME/],
  [['secret', 'rm', 'NONE'], 1, /there is no secret NONE/],
  [['secret', 'set', 'A', '--ttl', 'soon'], 2, /--ttl soon: write it as/],
  [['secret', 'set', 'A', '--agent', 'nobody'], 2, /there is no agent 'nobody'/],
  [['secret', 'ls', 'A'], 2, /takes no NAME/],
] as const)('[command:secret] %j exits with %i', async (args, code, message) => {
  await startPlaces();
  const told = await prx(args, 'value');
  expect(told.code).toBe(code);
  expect(told.out).toMatch(message);
});

function expectNowhere(text: string, where = 'the events'): void {
  for (const secret of [CANARY, PROVIDER_KEY]) {
    for (const encoding of ['utf8', 'base64', 'hex'] as const) {
      const needle = Buffer.from(secret).toString(encoding).slice(0, 20);
      expect([where, encoding, text.includes(needle)]).toEqual([where, encoding, false]);
    }
  }
}

function listFiles(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
