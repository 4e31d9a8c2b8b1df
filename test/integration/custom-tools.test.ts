/** The user's own tools in real sessions, before real supervisors: who has them, who decides, what
 *  a changed file means, and what is left when something dies. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { type Bench, createBench, OTHER_UID, type Running } from './harness.ts';
import { eventually, findRunning } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const withBubblewrap = findProgram('bwrap') === undefined ? describe.skip : describe;

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

function tool(name: string, run: string, effect = 'read'): string {
  return `
    import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
    import { join } from 'node:path';
    import { defineTool, z } from 'prx-supervisor/tools';
    export default defineTool({
      name: '${name}', description: 'A tool of a test.', effect: '${effect}',
      schema: z.strictObject({ text: z.string().optional() }),
      async run({ text }, { workspace }) { ${run} },
    });
  `;
}

const dieOnce = `
  const marker = join(workspace, 'marker');
  const isFirst = !existsSync(marker);
  appendFileSync(marker, 'x');
  if (isFirst) { process.kill(process.pid, 'SIGKILL'); for (;;); }
  return 'the second time';
`;
// biome-ignore-start lint/suspicious/noTemplateCurlyInString: they are programs.
const files = {
  'echo.ts': tool('echo', 'return `one: ${text}`;'),
  'die.ts': tool('die', dieOnce, 'write'),
  'again.ts': tool('again', dieOnce, 'idempotent'),
  'fill.ts': tool('fill', 'const all = []; for (;;) all.push(new Array(1e6).fill(all));'),
  'broken.ts': 'throw new Error("no tool today");',
};
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: from here on text is plain.

const toolPath = (name: string): string => join(bench.dir, 'tools', name);

async function start(config = '', uid?: number): Promise<void> {
  const text = `
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    max_retries = 0
    [custom_tools]
    paths = ["tools"]
    memory_limit_mb = 48
    ${config}
  `;
  bench = createBench(text, uid);
  mkdirSync(join(bench.dir, 'tools'));
  for (const [name, content] of Object.entries(files)) writeFileSync(toolPath(name), content);
  supervisor = await bench.start();
}

async function create(agent?: string): Promise<string> {
  const own = agent === undefined ? {} : { agent };
  return (await bench.client.createSession({ workspace: bench.workspace, ...own })).view.id;
}

const call = (name: string, args: unknown = {}) => ({ tool: name, arguments: args });

async function prompt(session: string, ...steps: readonly object[]): Promise<void> {
  await bench.client.sendInput(session, { text: JSON.stringify([...steps, { say: 'done' }]) });
}

/** Turns that each session has had. */
const turns = new Map<string, number>();

/** What happens in the next turn, until `until` says so. */
async function follow(session: string, until: EventType): Promise<readonly EventEnvelope[]> {
  const turn = turns.get(session) ?? 1;
  const events = await bench.follow(
    session,
    (event) => event.type === until && event.turn === turn,
  );
  return events.filter((event) => event.turn === turn);
}

/** Runs one turn to its end. */
async function run(session: string, ...steps: readonly object[]) {
  turns.set(session, (turns.get(session) ?? 0) + 1);
  await prompt(session, ...steps);
  return follow(session, 'turn.completed');
}

function dataOf<T extends EventType>(events: readonly EventEnvelope[], type: T): EventData<T>[] {
  // Written by us under this type's schema.
  return events.filter((event) => event.type === type).map((event) => event.data as EventData<T>);
}

async function results(session: string, ...steps: readonly object[]) {
  return dataOf(await run(session, ...steps), 'tool.completed');
}

const offered = (): readonly string[] =>
  provider.offered().filter((name) => name.startsWith('custom__'));

withBubblewrap('[config:custom_tools.paths] custom tools of a session', () => {
  test('[config:custom_tools.memory_limit_mb] are called, and a bad file costs nobody anything', async () => {
    await start();
    const session = await create();
    expect(
      await results(
        session,
        call('custom__echo', { text: 'hello' }),
        call('custom__echo', { words: 1 }),
        call('custom__fill'),
      ),
    ).toMatchObject([
      { status: 'ok', output: 'one: hello', level: 'bubblewrap' },
      {
        status: 'error',
        output:
          'The arguments do not fit: arguments: Unrecognized key: "words". Correct them and call again.',
      },
      {
        status: 'memory',
        exceeded: { limit: 'custom_tools.memory_limit_mb', value: 48, max: 48 },
      },
    ]);
    expect(offered()).toEqual(['again', 'die', 'echo', 'fill'].map((name) => `custom__${name}`));
    const { custom_tools: told } = await bench.client.getStatus();
    expect(told?.map(({ file, tool: name, problem }) => [file, name, problem])).toEqual([
      [toolPath('again.ts'), 'custom__again', undefined],
      [toolPath('broken.ts'), undefined, 'no tool today'],
      [toolPath('die.ts'), 'custom__die', undefined],
      [toolPath('echo.ts'), 'custom__echo', undefined],
      [toolPath('fill.ts'), 'custom__fill', undefined],
    ]);
    const refusal = /broken\.ts.*no tool today.*custom_tools\.refused/;
    await eventually(() => refusal.test(supervisor.stderr()));
  });

  test('whose process dies under them: what writes is reported, what does not runs again', async () => {
    await start();
    const session = await create();
    const events = await run(session, call('custom__die'));
    expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'indeterminate' }]);
    expect(dataOf(events, 'effect.resolved')).toMatchObject([{ how: 'reported (write)' }]);
    expect(readFileSync(join(bench.workspace, 'marker'), 'utf8')).toBe('x');
    const other = await create();
    writeFileSync(join(bench.workspace, 'marker'), '');
    const again = await run(other, call('shell', { command: 'rm marker' }), call('custom__again'));
    expect(dataOf(again, 'tool.completed')[1]).toMatchObject({
      status: 'ok',
      output: 'the second time',
    });
    expect(dataOf(again, 'effect.resolved')).toMatchObject([{ how: 're-run (idempotent)' }]);
    expect(readFileSync(join(bench.workspace, 'marker'), 'utf8')).toBe('xx');
  });

  test('are who may have them, and whoever the policy lets', async () => {
    await start(`
        [agents.one]
        tools = ["custom__echo", "read_file"]
        [agents.all]
        tools = ["custom"]
        [agents.none]
        tools = ["read_file"]
        [security.tool_policy.tools]
        custom__die = "deny"
      `);
    const hello = call('custom__echo', { text: 'x' });
    expect(await results(await create('one'), hello)).toMatchObject([{ status: 'ok' }]);
    expect(offered()).toEqual(['custom__echo']);
    expect(await results(await create('all'), hello)).toMatchObject([{ status: 'ok' }]);
    expect(offered()).toEqual(['custom__again', 'custom__echo', 'custom__fill']);
    const [refused] = await results(await create('none'), hello);
    expect(offered()).toEqual([]);
    expect(refused?.output).toBe("there is no tool 'custom__echo'; the tools are: read_file");
    const [denied] = await results(await create(), call('custom__die'));
    expect(denied?.output).toContain("there is no tool 'custom__die'");
  });

  test('that were changed: not run until a reload, and what was approved of the old one is stale', async () => {
    await start('[security.tool_policy.groups]\ncustom = "supervised"');
    const session = await create();
    // Nobody is asked about what could not run.
    const [unfit] = await results(session, call('custom__echo', { words: 1 }));
    expect(unfit).toMatchObject({ status: 'error', output: expect.stringContaining('words') });
    turns.set(session, 2);
    await prompt(session, call('custom__echo', { text: 'x' }));
    const [asked] = dataOf(await follow(session, 'approval.requested'), 'approval.requested');
    writeFileSync(toolPath('echo.ts'), files['echo.ts'].replace('one:', 'two:'));
    await bench.client.reload();
    await bench.client.resolveApproval(session, `${asked?.call_id}`, { decision: 'approve' });
    const ended = dataOf(await follow(session, 'turn.completed'), 'tool.completed');
    expect(ended).toMatchObject([
      { status: 'denied', output: expect.stringMatching(/^APPROVAL_STALE/) },
    ]);
  });
});

withBubblewrap('custom tools, as time goes on', () => {
  test('a reload takes what is new, and a session that is open has it', async () => {
    await start();
    const session = await create();
    const hello = call('custom__echo', { text: 'x' });
    expect(await results(session, hello)).toMatchObject([{ output: 'one: x' }]);
    writeFileSync(toolPath('echo.ts'), files['echo.ts'].replace('one:', 'two:'));
    writeFileSync(toolPath('later.ts'), tool('later', `return 'here';`));
    const [old] = await results(session, hello);
    expect(old?.output).toContain('was changed; nothing ran');
    const changed = ['echo.ts', 'later.ts'].map(toolPath);
    expect(await bench.client.reload()).toEqual({ changed, needs_restart: [] });
    expect((await bench.client.reload()).changed).toEqual([]);
    const after = await results(session, hello, call('custom__later'));
    expect(after).toMatchObject([{ output: 'two: x' }, { output: 'here' }]);
  });

  test('nothing of them outlives the supervisor, and the next one has them', async () => {
    await start();
    const session = await create();
    const hello = call('custom__echo', { text: 'x' });
    expect(await results(session, hello)).toMatchObject([{ output: 'one: x' }]);
    supervisor.kill('SIGKILL');
    await supervisor.exited;
    supervisor = await bench.start();
    expect(await results(session, hello)).toMatchObject([{ output: 'one: x' }]);
    const reader = `${join(bench.dir, 'dist/sandbox.js')} --describe`;
    expect(findRunning(reader)).toEqual([]);
  });

  const asRoot = process.getuid?.() === 0 ? test : test.skip;
  asRoot('an ordinary user has them too', async () => {
    await start('', OTHER_UID);
    const [said] = await results(await create(), call('custom__echo', { text: 'x' }));
    expect(said).toMatchObject({ status: 'ok', output: 'one: x', level: 'bubblewrap' });
  });
});
