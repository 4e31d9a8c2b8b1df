/** A worker that wants out. First as it is started (the runtime's permission model and namespaces);
 *  then the namespaces alone, with a program that the permission model does not bind. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { type Bench, createBench, OTHER_UID } from './harness.ts';

const SECRET = 'the-secret-beside-the-workspace';
/** Two starts of everything, on a machine that may be busy. */
const isRoot = process.getuid?.() === 0;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];

let bench: Bench;
let servers: Server[] = [];

afterEach(async () => {
  for (const server of servers) server.close();
  servers = [];
  await bench.close();
});

async function listen(target: number | string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(target, resolve));
  return server;
}

/** What there is to reach: each of these can be reached by anybody else on this machine. */
async function makeTargets() {
  const tcp = await listen(0);
  const address = tcp.address();
  const abstract = `prx-escape-${process.pid}`;
  await listen(`\0${abstract}`);
  const { pid, socket } = await bench.client.getStatus();
  const secret = join(bench.dir, 'secret');
  writeFileSync(secret, SECRET, { mode: 0o644 });
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { port, abstract, pid, socket, secret, stateDir: bench.stateDir };
}

test.each(users)('a worker that tries to get out fails at everything (uid %s)', async (uid) => {
  const toml = '[agent]\nmodel = "scripted"\n[agent.worker]\nwarm_pool = 0\n';
  bench = createBench(toml, uid);
  const fixture = join(import.meta.dirname, 'fixtures', 'escaping-worker.cjs');
  copyFileSync(fixture, join(bench.dir, 'dist', 'worker.js'));
  await bench.start();
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  await bench.client.sendInput(view.id, { text: JSON.stringify(await makeTargets()) });
  const events = await bench.follow(view.id, (event) => event.type === 'worker.exited');
  const said = JSON.stringify(events.at(-1)?.data).replaceAll('\\', '');
  const ends: Record<string, string> = JSON.parse(/ATTEMPTS (\{.*?\})/.exec(said)?.[1] ?? '{}');
  expect(Object.keys(ends).length).toBe(20);
  expect(Object.entries(ends).filter(([, end]) => end !== 'refused')).toEqual([]);
  expect(said).not.toContain(SECRET);
});

/** Prints the names of what succeeded. */
const PYTHON = `
import json, os, signal, socket, sys
given = json.loads(sys.argv[1])
def connect(family, target):
    s = socket.socket(family); s.settimeout(2); s.connect(target)
attempts = {
    'tcp': lambda: connect(socket.AF_INET, ('127.0.0.1', given['port'])),
    'socket': lambda: connect(socket.AF_UNIX, given['socket']),
    'abstract': lambda: connect(socket.AF_UNIX, chr(0) + given['abstract']),
    'signal': lambda: os.kill(given['pid'], 0),
    'environ': lambda: open('/proc/%d/environ' % given['pid']).read(),
    'others': lambda: [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 3][0],
    'secret': lambda: open(given['secret']).read(),
    'state': lambda: os.listdir(given['stateDir']),
    'accounts': lambda: open('/etc/passwd').read(),
    'write': lambda: open('/escaped', 'w'),
    'write dev': lambda: open('/dev/escaped', 'w'),
    'write usr': lambda: open('/usr/escaped', 'w'),
    'sysctl': lambda: open('/proc/sys/kernel/core_pattern', 'w'),
    'namespace': lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, 'unshare') else 1 / 0,
    'root': lambda: os.setuid(0),
}
reached = []
for name, attempt in attempts.items():
    try:
        attempt(); reached.append(name)
    except Exception: pass
print(json.dumps(reached))
`;

const on = findProgram('python3') !== undefined && findProgram('bwrap') !== undefined;

(on ? describe : describe.skip)('the namespaces of a worker alone', () => {
  test.each(users)('hold a program that no runtime holds back (uid %s)', async (uid) => {
    bench = createBench('[agent]\nmodel = "scripted"\n', uid);
    await bench.start();
    const targets = await makeTargets();
    const who = uid === undefined ? {} : { uid, gid: uid };
    const env = { PATH: '/usr/bin:/bin' };
    const sandbox = join(bench.dir, 'dist', 'sandbox.js');
    const probe = spawnSync(process.execPath, [sandbox, '--probe', '--worker'], {
      ...{ ...who, env, cwd: '/', encoding: 'utf8' },
    });
    const prefix: string[] = JSON.parse(probe.stdout).worker.prefix;
    const [command = '', ...args] = [...prefix, '/usr/bin/python3', '-c', PYTHON];
    const ran = spawnSync(command, [...args, JSON.stringify(targets)], {
      ...{ ...who, env: {}, cwd: '/', encoding: 'utf8' },
    });
    expect([ran.stderr, ran.stdout]).toEqual(['', '[]\n']);
  });
});
