/** MCP servers as tools of real sessions, before real supervisors: who shares what, who decides,
 *  what is left when something dies. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { runCli } from './command-line.ts';
import { type Bench, createBench, OTHER_UID, type Running } from './harness.ts';
import { eventually, findRunning } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const withBubblewrap = findProgram('bwrap') === undefined ? describe.skip : describe;
const root = join(import.meta.dirname, '..', '..');
const serverPath = join(import.meta.dirname, 'fixtures', 'mcp-server.mjs');
const shown = JSON.stringify([dirname(process.execPath), dirname(serverPath)]);

let provider: ScriptedProvider;
let bench: Bench;
let supervisor: Running;

beforeEach(async () => {
  provider = await startScriptedProvider();
});

afterEach(async () => {
  await bench.close();
  await provider.close();
});

/** On the command line of a server, and of nothing else. */
const markOf = (name: string): string => `${name}-of-test-${process.pid}`;

/** A server of the fixture, under this name. */
function server(name: string, behaviour = 'good', more = ''): string {
  return `
    [mcp.servers.${name}]
    command = ["${process.execPath}"]
    args = ["${serverPath}", "${behaviour}", "${markOf(name)}"]
    read_only_paths = ${shown}
    ${more}
  `;
}

async function start(config: string, uid?: number): Promise<void> {
  const text = `
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    max_retries = 0
    ${config}
  `;
  bench = createBench(text, uid);
  supervisor = await bench.start();
}

async function create(agent?: string): Promise<string> {
  const own = agent === undefined ? {} : { agent };
  return (await bench.client.createSession({ workspace: bench.workspace, ...own })).view.id;
}

const call = (tool: string, args: unknown = {}) => ({ tool, arguments: args });
const script = (...steps: readonly object[]): string => JSON.stringify([...steps, { say: 'done' }]);

/** Runs one turn to its end. */
async function run(session: string, ...steps: readonly object[]) {
  await bench.client.sendInput(session, { text: script(...steps) });
  return bench.follow(session, ({ type }) => type === 'turn.completed');
}

function dataOf<T extends EventType>(events: readonly EventEnvelope[], type: T): EventData<T>[] {
  // Written by us under this type's schema.
  return events.filter((event) => event.type === type).map((event) => event.data as EventData<T>);
}

/** What came of the calls of a turn. */
async function results(session: string, ...steps: readonly object[]) {
  return dataOf(await run(session, ...steps), 'tool.completed');
}

async function systemEvents(type: EventType): Promise<readonly EventEnvelope[]> {
  const page = await bench.client.readAllEvents({ limit: 1000 });
  return page.events.filter((event) => event.type === type);
}

const findServers = (name: string): readonly number[] => findRunning(markOf(name));

withBubblewrap(
  '[config:mcp.servers.<name>.command] [config:mcp.servers.<name>.args] tools of an MCP server',
  () => {
    test('[config:mcp.servers.<name>.shared] [event:mcp.changed] are one process for 50 sessions', async () => {
      await start(server('one'));
      const sessions = await Promise.all(Array.from({ length: 50 }, () => create()));
      const outcomes = await Promise.all(
        sessions.map((id) => results(id, call('mcp__one__count'))),
      );
      const outputs = outcomes.map(([outcome]) => outcome?.output.split(' ') ?? []);
      expect(new Set(outputs.map(([pid]) => pid)).size).toBe(1);
      expect(new Set(outputs.map(([, count]) => count)).size).toBe(50);
      const { mcp } = await bench.client.getStatus();
      expect(mcp).toEqual([
        {
          server: 'one',
          state: 'running',
          processes: 1,
          tools: 16,
          level: 'bubblewrap',
          problems: [],
        },
      ]);
      const changes = dataOf(await systemEvents('mcp.changed'), 'mcp.changed');
      expect(changes).toEqual([{ server: 'one', state: 'started', tools: 16, reason: '' }]);
    });

    test('[config:mcp.servers.<name>.shared] false: each session has its own, and it goes with it', async () => {
      await start(server('own', 'good', 'shared = false'));
      const [first, second] = [await create(), await create()];
      const [[one], [other]] = [
        await results(first, call('mcp__own__count')),
        await results(second, call('mcp__own__count')),
      ];
      expect([one?.output, other?.output]).toEqual([
        expect.stringMatching(/ 1$/),
        expect.stringMatching(/ 1$/),
      ]);
      expect((await bench.client.getStatus()).mcp).toMatchObject([{ processes: 2 }]);
      await bench.client.close(first);
      await bench.client.deleteSession(first);
      await eventually(async () => (await bench.client.getStatus()).mcp?.[0]?.processes === 1);
    });

    test('[config:mcp.servers.<name>.env.<name>] [config:mcp.servers.<name>.read_only_paths] [config:mcp.servers.<name>.writable_paths] see what is written for them, and no workspace', async () => {
      await start('');
      const folder = join(bench.dir, 'data');
      mkdirSync(folder);
      chmodSync(folder, 0o777);
      const marker = join(folder, 'marker');
      bench.configure(
        (text) =>
          `${text}${server('s', 'good', `env.TOKEN = "t"\nwritable_paths = ["${folder}"]\neffects.die_once = "read"`)}`,
      );
      await bench.client.reload();
      const [look, again] = await results(
        await create(),
        call('mcp__s__look'),
        call('mcp__s__die_once', { marker }),
      );
      const seen = JSON.parse(look?.output ?? '');
      expect(seen).toMatchObject({ cwd: '/home/agent', usr: false, tmp: true });
      expect(seen.env.TOKEN).toBe('t');
      expect(Object.keys(seen.env)).not.toContain('PRX_OWNER');
      expect(readFileSync(marker, 'utf8')).toBe('x');
      // Nobody knew how the first one ended, and the configuration says that it only reads.
      expect(again).toMatchObject({ status: 'ok', output: 'the second time' });
    });

    test('[config:mcp.servers.<name>.effects.<name>] a call that changes things is never repeated', async () => {
      await start(server('s'));
      const session = await create();
      const events = await run(
        session,
        call('mcp__s__die'),
        call('mcp__s__echo', { text: 'back' }),
      );
      expect(dataOf(events, 'tool.completed')).toMatchObject([
        { status: 'indeterminate', output: expect.stringContaining('went away during the call') },
        { status: 'ok', output: 'back' },
      ]);
      expect(dataOf(events, 'effect.resolved')).toMatchObject([{ how: 'reported (write)' }]);
      const changes = dataOf(await systemEvents('mcp.changed'), 'mcp.changed');
      expect(changes.map(({ state }) => state)).toEqual(['started', 'failed', 'started']);
    });

    test('that does not start costs its tools, and no session', async () => {
      await start(`${server('bad', 'broken')}${server('good')}`);
      const session = await create();
      expect(await results(session, call('mcp__good__echo', { text: 'x' }))).toMatchObject([
        { status: 'ok' },
      ]);
      const mcp = provider.offered().filter((name) => name.startsWith('mcp__'));
      expect(new Set(mcp.map((name) => name.split('__')[1]))).toEqual(new Set(['good']));
      const { mcp: servers } = await bench.client.getStatus();
      expect(servers?.[0]).toMatchObject({ server: 'bad', state: 'failed', tools: 0 });
      expect(servers?.[0]?.problems[0]).toContain('cannot find my configuration');
    });

    test('[promise:no-secret-leaves] that say a value of the vault outside of an answer are not heard', async () => {
      const told = 'env.TOLD = "canary-5e1f-swordfish"';
      await start(`${server('bad', 'broken', told)}${server('tell', 'telltale', told)}`);
      await runCli(bench, ['secret', 'set', 'KEY'], 'canary-5e1f-swordfish');
      const session = await create();
      const events = await run(session, call('mcp__tell__die'));
      await eventually(async () => (await bench.client.getStatus()).mcp?.[1]?.state === 'failed');
      const { mcp } = await bench.client.getStatus();
      const changes = await systemEvents('mcp.changed');
      expect(JSON.stringify([mcp, changes])).toContain('configuration [secret KEY]');
      expect(JSON.stringify([mcp, changes])).toContain('[secret KEY] is wrong');
      const sent = provider.body();
      expect(sent).toContain('it is [secret KEY]');
      const all = JSON.stringify([mcp, changes, events]);
      expect([all, sent].filter((each) => each.includes('swordfish'))).toEqual([]);
    });
  },
);

const asRoot = process.getuid?.() === 0 ? test : test.skip;

withBubblewrap('a supervisor of an ordinary user', () => {
  asRoot('has them too, in the same sandbox', async () => {
    await start(server('s'), OTHER_UID);
    const [look] = await results(await create(), call('mcp__s__look'));
    expect(look).toMatchObject({ status: 'ok', level: 'bubblewrap' });
    const seen = JSON.parse(look?.output ?? '');
    expect(seen).toMatchObject({ uid: OTHER_UID, cwd: '/home/agent', usr: false, tmp: true });
  });
});

withBubblewrap('[config:mcp.servers.<name>.policy] who decides about them', () => {
  test('agents have the ones that are listed; what policy denies is not offered', async () => {
    await start(`
      [security.tool_policy.groups]
      "mcp.b" = "deny"
      [security.tool_policy.tools]
      mcp__b__count = "allow"
      [agents.all]
      [agents.none]
      tools = ["shell"]
      [agents.some]
      tools = ["mcp__a__echo", "mcp__b"]
      ${server('a')}
      ${server('b')}
    `);
    const offered = async (agent: string): Promise<readonly string[]> => {
      await run(await create(agent));
      return provider.offered().filter((name) => name.startsWith('mcp__'));
    };
    expect(await offered('none')).toEqual([]);
    expect(await offered('some')).toEqual(['mcp__a__echo', 'mcp__b__count']);
    expect(await offered('all')).toHaveLength(17);
    const outcome = await results(await create('some'), call('mcp__a__count'));
    expect(outcome).toMatchObject([
      { status: 'error', output: expect.stringContaining("there is no tool 'mcp__a__count'") },
    ]);
  });

  test('a person is asked where the server is not confined, and arguments are checked before', async () => {
    await start(server('open', 'good', 'network = "full"'));
    const session = await create();
    const text = script(
      call('mcp__open__echo', { wrong: 1 }),
      call('mcp__open__echo', { text: 'x' }),
    );
    await bench.client.sendInput(session, { text });
    const events = await bench.follow(session, ({ type }) => type === 'approval.requested');
    expect(dataOf(events, 'tool.completed')).toMatchObject([
      { status: 'error', output: expect.stringContaining('do not fit') },
    ]);
    expect(dataOf(events, 'tool.decided')).toMatchObject([
      { decision: 'ask', rule: 'built-in default for an MCP server that is not confined' },
    ]);
    const [asked] = dataOf(events, 'approval.requested');
    await bench.client.resolveApproval(session, asked?.call_id ?? '', { decision: 'approve' });
    const all = await bench.follow(session, ({ type }) => type === 'turn.completed');
    expect(dataOf(all, 'tool.completed').at(-1)).toMatchObject({ status: 'ok', output: 'x' });
  });
});

withBubblewrap(
  '[promise:nothing-outlives] [promise:supervisor-dies] when the supervisor is killed',
  () => {
    test('a call under way is finished by its host and adopted by the next supervisor', async () => {
      await start(server('s'));
      const session = await create();
      const text = script(call('mcp__s__later', { ms: 700 }));
      await bench.client.sendInput(session, { text });
      await bench.follow(session, ({ type }) => type === 'tool.started');
      supervisor.kill('SIGKILL');
      await supervisor.exited;
      supervisor = await bench.start();
      const events = await bench.follow(session, ({ type }) => type === 'turn.completed');
      expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'ok', output: 'at last' }]);
      expect(dataOf(events, 'tool.started')).toHaveLength(1);
      await bench.client.stop();
      await supervisor.exited;
      await eventually(async () => findServers('s').length === 0);
    });

    test('its host killed under a call leaves no server behind', async () => {
      await start(server('s'));
      const session = await create();
      await bench.client.sendInput(session, { text: script(call('mcp__s__never')) });
      await bench.follow(session, ({ type }) => type === 'tool.started');
      const host = (await bench.client.getStatus({ deep: true })).deep?.['processes'] as {
        kind: string;
        pid: number;
      }[];
      const [{ pid } = { pid: 0 }] = host.filter(({ kind }) => kind === 'mcp');
      expect(findServers('s')).not.toEqual([]);
      process.kill(pid, 'SIGKILL');
      const events = await bench.follow(session, ({ type }) => type === 'turn.completed');
      expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'indeterminate' }]);
      await eventually(async () => findServers('s').length === 0);
    });
  },
);

withBubblewrap('servers that we did not write', () => {
  const modules = join(root, 'node_modules');
  const official = (name: string, args: readonly string[], more = ''): string => `
    [mcp.servers.${name}]
    command = "${process.execPath}"
    args = ${JSON.stringify([join(modules, `@modelcontextprotocol/server-${name}/dist/index.js`), ...args])}
    read_only_paths = ${JSON.stringify([dirname(process.execPath), modules])}
    ${more}
  `;

  test('server-everything and server-filesystem do what they do', async () => {
    await start('');
    const folder = join(bench.dir, 'served');
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    writeFileSync(join(folder, 'a.txt'), 'from outside');
    const files = official('filesystem', [folder], `writable_paths = ["${folder}"]`);
    bench.configure((text) => `${text}${official('everything', [])}${files}`);
    await bench.client.reload();
    const outcomes = await results(
      await create(),
      call('mcp__everything__echo', { message: 'hello' }),
      call('mcp__everything__get-tiny-image'),
      call('mcp__everything__get-structured-content', { location: 'Chicago' }),
      call('mcp__filesystem__read_text_file', { path: join(folder, 'a.txt') }),
      call('mcp__filesystem__write_file', { path: join(folder, 'b.txt'), content: 'from inside' }),
      call('mcp__filesystem__read_text_file', { path: '/etc/passwd' }),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'error']);
    expect(outcomes[0]?.output).toContain('hello');
    expect(outcomes[1]?.output).toMatch(
      /\[image image\/png, \d+ bytes: kept as artifact mcp-1\.2\.1-1\]/,
    );
    expect(outcomes[2]?.output).toContain('"conditions"');
    expect(outcomes[3]?.output).toContain('from outside');
    expect(readFileSync(join(folder, 'b.txt'), 'utf8')).toBe('from inside');
  });
});
