/** What a worker is, seen from outside: no network, no key, not our user, nothing of ours to read;
 *  and where the key is and is not. */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { type Bench, createBench, OTHER_UID } from './harness.ts';
import { eventually, findGateways } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const KEY = 'sk-the-very-secret-key';
let bench: Bench;
let provider: ScriptedProvider;

afterEach(async () => {
  await bench.close();
  await provider.close();
});

async function startTurn(uid: number | undefined): Promise<string> {
  provider = await startScriptedProvider();
  bench = createBench(
    `[agent]\nmodel = "scripted"\n[provider]\nbase_url = "${provider.url}"\n`,
    uid,
  );
  await bench.start({ OPENAI_API_KEY: KEY });
  const { view } = await bench.client.createSession({});
  const script = [
    { tool: 'shell', arguments: { command: 'env' } },
    { say: 'a b', holdAfter: 1 },
  ];
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  await provider.held(2);
  return view.id;
}

const isRoot = process.getuid?.() === 0;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];

test.each(users)(
  'a worker has namespaces of its own and the permission model (uid %s)',
  async (uid) => {
    const session = await startTurn(uid);
    const { worker_pid: pid = 0 } = await bench.client.getSession(session);
    for (const kind of ['net', 'pid', 'mnt', 'user']) {
      const own = readlinkSync(`/proc/self/ns/${kind}`);
      expect(readlinkSync(`/proc/${pid}/ns/${kind}`)).not.toBe(own);
    }
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    expect(status).not.toMatch(/^Uid:\s+0\b/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('--permission');
    expect(existsSync(`/proc/${pid}/root/etc`)).toBe(false);
    expect((await bench.client.getStatus()).worker_confinement).toEqual(
      expect.arrayContaining(['net-namespace', 'permission-model', 'pid-namespace']),
    );
  },
);

test('the key is in the gateway and nowhere else: no process, no file of the state dir', async () => {
  const session = await startTurn(undefined);
  const gateway = (await bench.client.listProcesses()).find((each) => each.kind === 'gateway');
  const holders = bench
    .leftovers()
    .filter((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes(KEY));
  const { pid: supervisor } = await bench.client.getStatus();
  expect(holders.sort()).toEqual([supervisor, gateway?.pid].sort());
  provider.release();
  await bench.follow(session, (event) => event.type === 'turn.completed');
  for (const file of listFiles(bench.stateDir)) {
    expect([file, readFileSync(file).includes(KEY)]).toEqual([file, false]);
  }
});

test('the supervisor drops the key when it was handed over; a gateway that dies has it again', async () => {
  provider = await startScriptedProvider();
  bench = createBench(`[agent]\nmodel = "scripted"\n[provider]\nbase_url = "${provider.url}"\n`);
  const reports = join(bench.dir, 'reports');
  mkdirSync(reports);
  const { pid } = await bench.start({
    OPENAI_API_KEY: KEY,
    NODE_OPTIONS: `--report-on-signal --report-directory=${reports}`,
  });
  process.kill(pid, 'SIGUSR2');
  await eventually(() => readReport(reports) !== undefined);
  const { environmentVariables: shown } = readReport(reports) ?? {};
  expect(shown?.['HOME']).toBe(bench.dir);
  expect(JSON.stringify(readReport(reports))).not.toContain(KEY);

  const [first = 0] = findGateways(bench);
  process.kill(first, 'SIGKILL');
  const { view } = await bench.client.createSession({});
  await bench.client.sendInput(view.id, { text: JSON.stringify([{ say: 'hello' }]) });
  await bench.follow(view.id, (event) => event.type === 'turn.completed');
  const [second = 0] = findGateways(bench);
  expect(second).not.toBe(first);
  expect(readFileSync(`/proc/${second}/environ`, 'utf8')).toContain(KEY);
});

/** A diagnostic report of Node: undefined until it is written. */
function readReport(folder: string): { environmentVariables?: Record<string, string> } | undefined {
  try {
    const [file = ''] = readdirSync(folder);
    return JSON.parse(readFileSync(join(folder, file), 'utf8')) as object;
  } catch {
    return undefined;
  }
}

function listFiles(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
