/** Secrets laid out where tools could look, and a search for them in all that a session shows and
 *  in the memory of every process. Who may hold one does, and is searched the same way: so the
 *  search is known to find. */
import { spawn } from 'node:child_process';
import { chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import { realRandom } from '../../base/random.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { hasBubblewrap, isRoot } from '../sandbox/harness.ts';
import { runCli } from './command-line.ts';
import { type Bench, createBench, OTHER_UID, type Running } from './harness.ts';
import { type Canaries, searchProcess } from './memory-search.ts';
import { findRunning } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

// Gigabytes are read, and on a loaded machine each start of a process takes seconds.
jest.setTimeout(600_000);

// Nobody else may read another process.
const on = isRoot && hasBubblewrap ? describe : describe.skip;

const levels = [
  ['bubblewrap', undefined],
  ['bubblewrap', OTHER_UID],
  ['unshare', undefined],
  ['landlock', OTHER_UID],
] as const;
type Level = (typeof levels)[number][0];

const draw = (name: string): string => `canary-${name}-${realRandom.hex(12)}`;

interface Laid {
  readonly canaries: Canaries;
  readonly supervisor: Running;
  /** Has secrets of its own: in its prompt, in a file of its workspace, and from the vault. */
  readonly other: string;
  /** Looks for all of them. */
  readonly prying: string;
}

let provider: ScriptedProvider;
let bench: Bench;

on.each(levels)('secrets laid out at %s, uid %s', (level, uid) => {
  afterEach(async () => {
    await bench.close();
    await provider.close();
  });

  test('[promise:no-secret-leaves] are in no output, event, log or file, and in no process that may not have them', async () => {
    const laid = await lay(level, uid);
    const { canaries, supervisor, other, prying } = laid;
    // First: nothing that is asked for below can have brought one anywhere.
    const holders = await searchAll(laid);
    const shown = [
      ...[await bench.events(prying), await bench.client.getSession(prying)],
      ...[await bench.client.getStatus({ deep: true }), await bench.client.listProcesses()],
    ];
    const events = JSON.stringify(shown);
    expect(find(canaries, events)).toEqual([]);
    expect(find(canaries, supervisor.stderr())).toEqual([]);
    const { journal, workspace, ...everywhere } = canaries;
    expect(find(everywhere, JSON.stringify(await bench.events(other)))).toEqual([]);
    for (const file of listFiles(bench.stateDir)) {
      const looked = /journal\.db|\/spool\/|\/logs\//.test(file) ? everywhere : canaries;
      expect([file, find(looked, readFileSync(file, 'latin1'))]).toEqual([file, []]);
    }

    const own = ['journal', 'workspace'];
    const vault = level === 'landlock' ? [] : ['handed out'];
    const may: Readonly<Record<string, readonly string[]>> = {
      supervisor: [...own, ...vault, 'handed out', 'key', 'vault', 'vault key'],
      gateway: [...own, 'key'],
      'worker of other': own,
      'sandbox of other': [...own, ...vault],
      'spare worker': [],
      'worker of prying': [],
      'sandbox of prying': [],
      'monitor, probe': [],
    };
    expect(Object.keys(holders).sort()).toEqual(Object.keys(may).sort());
    for (const [role, { names }] of Object.entries(holders)) {
      expect([role, names.filter((name) => !may[role]?.includes(name))]).toEqual([role, []]);
    }
    // What must be there was found: a search that finds nothing would pass all of the above.
    // Not a value of the vault: it is held only while it is handed out.
    const must = { supervisor: ['key', 'vault key'], gateway: ['journal', 'key'] };
    for (const [role, names] of Object.entries({ ...must, 'worker of other': ['journal'] })) {
      expect([role, holders[role]?.names]).toEqual([role, expect.arrayContaining(names)]);
    }
  });
});

on('the search itself', () => {
  const text = draw('control');
  test.each([
    ['as one byte a sign', 'kept = text'],
    ['as two bytes a sign', 'kept = Buffer.from(text).toString("latin1") + "\\u20ac"'],
    ['as bytes off the heap', 'kept = Buffer.alloc(9_000_000).fill(text, 5_000_000)'],
    ['in hex', 'kept = Buffer.from(text).toString("hex"); kept.at(0)'],
    ['in base64', 'kept = Buffer.from(text).toString("base64"); kept.at(0)'],
  ])('finds in a live process what it holds %s, and only that', async (_, keep) => {
    const program = `let kept, text = ''; process.stdin.on('data', (data) => { text += data;
      if (!text.endsWith('.')) return; text = text.slice(0, -1); ${keep}; console.log('held'); });`;
    const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.write(`${text}.`);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const found = searchProcess(child.pid ?? 0, { held: text, absent: draw('absent') });
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    expect(found.names).toEqual(['held']);
  });

  test('finds what a process was started with, in its environment', async () => {
    const child = spawn('sleep', ['100'], { env: { PATH: process.env['PATH'], HELD: text } });
    await new Promise((resolve) => child.once('spawn', resolve));
    expect(searchProcess(child.pid ?? 0, { held: text }).names).toEqual(['held']);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
  });
});

/** Everything stands in its place, and both sessions have a call that runs. */
async function lay(level: Level, uid: number | undefined): Promise<Laid> {
  provider = await startScriptedProvider();
  bench = createBench(toConfig(level), uid);
  const own = (path: string): string => {
    if (uid !== undefined) chownSync(path, uid, uid);
    return path;
  };
  const place = (path: string, text: string): string => {
    writeFileSync(path, text, { mode: 0o600 });
    return own(path);
  };
  const [ofOther, ofPrying] = ['other', 'prying'].map((name) => {
    const path = join(bench.workspace, name);
    mkdirSync(path);
    return own(path);
  }) as [string, string];
  const names = ['home', 'workspace', 'vault', 'handed out', 'key', 'journal'];
  const drawn = Object.fromEntries(names.map((name) => [name, draw(name.replace(' ', '-'))]));
  const homeFile = place(join(bench.dir, 'private'), drawn['home'] ?? '');
  const note = place(join(ofOther, 'note'), drawn['workspace'] ?? '');
  const supervisor = await bench.start({ OPENAI_API_KEY: drawn['key'] ?? '' });
  for (const [name, canary] of Object.entries({ UNUSED: 'vault', HANDED: 'handed out' })) {
    const told = await runCli(bench, ['secret', 'set', name], drawn[canary]);
    if (told.code !== 0) throw new Error(told.out);
  }
  const keyFile = join(bench.dir, '.config/prx-supervisor/vault-key');
  const vaultKey = readFileSync(keyFile, 'utf8').trim();
  const asks = level === 'landlock' ? {} : { secrets: ['HANDED'] };
  const command = `: ${drawn['journal']}; cat /run/prx/call/secrets/HANDED; ${WAIT}`;
  const last = { tool: 'shell', arguments: { command, ...asks } };
  return {
    canaries: { ...drawn, 'vault key': vaultKey },
    supervisor,
    other: await begin(ofOther, [toShell('cat note'), last]),
    prying: await begin(ofPrying, toPrying([homeFile, note, keyFile, bench.stateDir])),
  };
}

const WAIT = 'echo waiting; exec sleep 1000';

const toConfig = (level: Level): string => `
[agent]
model = "scripted"
[agent.worker]
warm_pool = 2
[provider]
base_url = "${provider.url}"
[log]
level = "debug"
[security.sandbox]
backend = "${level}"
timeout_secs = 200
[security.tool_policy]
default = "allow"
[secrets]
shell = ["HANDED"]
`;

const toShell = (command: string): object => ({ tool: 'shell', arguments: { command } });

/** Each way to look that a model has; the last call goes on. */
function toPrying(places: readonly string[]): readonly object[] {
  const quoted = places.map((path) => `'${path}'`).join(' ');
  const code = `import { readFileSync } from 'node:fs';
for (const path of ${JSON.stringify(places)})
  try { console.log(readFileSync(path, 'utf8')); } catch (error) { console.log(error.code); }`;
  return [
    toShell(`env; cat ${quoted}; grep -rs canary- ${quoted} "$HOME" /tmp /etc /run; true`),
    toShell('cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mem; true'),
    { tool: 'run_code', arguments: { language: 'javascript', code } },
    ...places.map((path) => ({ tool: 'read_file', arguments: { path } })),
    { tool: 'search', arguments: { pattern: 'canary-' } },
    { tool: 'glob', arguments: { pattern: '../../**/note' } },
    { tool: 'write_file', arguments: { path: 'own', content: 'x' } },
    { tool: 'process_start', arguments: { command: `env; cat ${quoted}; ${WAIT}` } },
    toShell(WAIT),
  ];
}

/** A session with these calls; resolves when the last of them runs. */
async function begin(workspace: string, steps: readonly object[]): Promise<string> {
  const { view } = await bench.client.createSession({ workspace, approve: 'all' });
  await bench.client.sendInput(view.id, { text: JSON.stringify([...steps, { say: 'done' }]) });
  const isLast = (event: EventEnvelope): boolean => isWaiting(event, steps.length);
  const events = await bench.follow(view.id, isLast);
  const ended = events.filter(({ type }) => type === 'tool.completed');
  // Each way was gone to its end; what it found is looked at elsewhere.
  const statuses = ended.map(({ data }) => (data as { status: string }).status);
  expect(statuses.filter((status) => status !== 'ok' && status !== 'error')).toEqual([]);
  expect(statuses.at(-2) ?? 'ok').toBe('ok');
  return view.id;
}

function isWaiting({ type, data }: EventEnvelope, step: number): boolean {
  if (type === 'turn.completed') throw new Error('the last call did not go on');
  if (type !== 'tool.output') return false;
  const { call_id: call, text } = data as { call_id: string; text: string };
  return call === `1.${step}.1` && text.includes('waiting');
}

interface Held {
  readonly names: readonly string[];
  readonly processes: number;
}

/** What all processes of a role hold together. A role is what stands below one child. */
async function searchAll(laid: Laid): Promise<Readonly<Record<string, Held>>> {
  const { canaries, supervisor } = laid;
  const roles = new Map<number, string>();
  const name = (pid: number, role: string): void => {
    for (const each of [pid, ...listDescendants(pid)]) roles.set(each, role);
  };
  for (const pid of listDescendants(supervisor.pid)) roles.set(pid, 'monitor, probe');
  const workers = findRunning(join(bench.dir, 'dist/worker.js'));
  for (const pid of workers) if (roles.has(pid)) roles.set(pid, 'spare worker');
  for (const { pid, kind } of await bench.client.listProcesses()) {
    if (kind === 'gateway') name(pid, kind);
  }
  for (const who of ['other', 'prying'] as const) {
    for (const { pid, kind } of await bench.client.listProcesses(laid[who])) {
      name(pid, `${kind} of ${who}`);
    }
  }
  roles.set(supervisor.pid, 'supervisor');
  const held: Record<string, Held> = {};
  for (const [pid, role] of roles) {
    const { names } = searchProcess(pid, canaries);
    const { names: before, processes } = held[role] ?? { names: [], processes: 0 };
    held[role] = { names: [...new Set([...before, ...names])], processes: processes + 1 };
  }
  return held;
}

/** The names of the canaries that a text has, as they are and in the usual encodings. */
function find(canaries: Canaries, text: string): readonly string[] {
  return Object.entries(canaries).flatMap(([name, canary]) =>
    (['utf8', 'base64', 'hex'] as const).some((form) =>
      text.includes(Buffer.from(canary).toString(form).slice(0, 30)),
    )
      ? [name]
      : [],
  );
}

function listFiles(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
