/** What is mounted: inside a sandbox exactly this list, in the cell around it the system and the
 *  stage, of which a sandbox sees nothing; and what one call leaves for the next. */
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import { type NetworkPolicy, noNetwork } from '../../protocol/network.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { planEtc } from '../../sandbox/launch/etc.ts';
import { STAGE } from '../../sandbox/launch/prelude.ts';
import { readCommandLine, readInnerPid } from '../../sandbox/launch/process-tree.ts';
import { findProgram, surveyRoots, surveySettings } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const OTHER_UID = 61_011;
const has = { bubblewrap: hasBubblewrap, unshare: findProgram('perl') !== undefined };
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const rows = (['bubblewrap', 'unshare'] as const)
  .filter((level) => has[level])
  .flatMap((level) => users.map((uid) => [level, uid] as const));
const describeEach = rows.length === 0 ? describe.skip : describe;

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

async function start(
  [level, uid]: (typeof rows)[number],
  mode: NetworkPolicy['mode'] = 'none',
  more: Partial<SandboxPolicy> = {},
): Promise<TestHost> {
  const policy = { backend: level, network: { ...noNetwork, mode }, ...more };
  host = await startTestHost({ policy, ...(uid === undefined ? {} : { uid }) });
  const hooks = join(host.workspace, '.git', 'hooks');
  mkdirSync(hooks, { recursive: true });
  writeFileSync(join(host.workspace, '.envrc'), '');
  if (uid !== undefined) chownSync(join(host.workspace, '.git'), uid, uid);
  await host.initialize();
  return host;
}

const systemFolders = surveyRoots().flatMap(({ kind, path }) => (kind === 'bind' ? [path] : []));
const deviceMounts = ['', ...['null', 'zero', 'full', 'random', 'urandom', 'tty', 'pts']].map(
  (name) => join('/dev', name),
);
const etcMounts = planEtc(surveySettings(), []).items.map(({ name }) => `/${name}`);

function readMountPoints(text: string): string[] {
  const points = text.trim().split('\n');
  return points.map((line) => line.split(' ')[4] ?? '').sort();
}

/** Of the spawner, which is the first process of its cell. */
function readCellMounts({ process }: TestHost): string[] {
  const [spawner] = listDescendants(process.pid)
    .filter((pid) => readCommandLine(pid).includes('\0spawner\0'))
    .filter((pid) => readInnerPid(pid) !== undefined);
  return readMountPoints(readFileSync(`/proc/${spawner}/mountinfo`, 'utf8'));
}

describeEach.each(rows)('level %s, user %s', (...row) => {
  test('inside is mounted what the view says, and nothing else', async () => {
    const { shell, workspace } = await start(row);
    const { output } = await shell('cat /proc/self/mountinfo');
    const points = readMountPoints(output);
    expect(points.filter((point) => !point.startsWith('/run/prx/bin/'))).toEqual(
      [
        ...['/', ...systemFolders, '/etc', ...etcMounts, '/proc', ...deviceMounts],
        ...['/dev/shm', '/tmp', '/home/agent', '/run/prx/call', workspace],
        ...['.git', '.git/hooks', '.envrc'].map((name) => join(workspace, name)),
      ].sort(),
    );
  });

  test('the cell holds the system and the stage, and of the machine’s other mounts none', async () => {
    const points = readCellMounts(await start(row));
    const own = ['/', ...systemFolders, '/proc', ...deviceMounts, STAGE];
    expect(points.filter((point) => !point.startsWith(`${STAGE}/`))).toEqual(own.sort());
  });

  test('a terminal is seen by the session’s other calls, and a listed path of /dev has its place', async () => {
    const listed = ['/dev/kmsg', '/dev/mqueue'].find((path) => existsSync(path)) ?? '/dev/null';
    const { shell, run } = await start(row, 'none', { readOnlyPaths: [listed] });
    await run('process_start', { command: "script -qec 'tty; sleep 60' /dev/null" }, '1.1.90');
    const said = await run('process_poll', { process: '1.1.90', wait_secs: 10, offset: 0 });
    expect(said.output).toContain('/dev/pts/0');
    expect((await shell('ls -A /dev/pts')).output).toBe('0\nptmx\n');
    const { output } = await shell(`ls -d ${listed}; touch /dev/x`);
    expect(output).toMatch(/^\/dev\/\w+\n.*Read-only file system/);
  });

  test('who is on the machine’s network asks its name servers', async () => {
    const { shell } = await start(row, 'full');
    const { output } = await shell('cat /etc/resolv.conf');
    expect(output).toBe(readFileSync('/etc/resolv.conf', 'utf8'));
  });

  test('a call sees neither the stage nor what a call or a process beside it leaves', async () => {
    const { shell, run } = await start(row);
    const places = '/ /tmp /dev /dev/shm /dev/pts $HOME /run /run/prx /run/prx/call /etc /proc/1';
    const look = `ls -A ${places} | grep -v '^[0-9]*$'; set -- /proc/[0-9]*; echo $#`;
    const litter = `for place in ${places}; do
      { echo x > $place/left && mkdir -p $place/right; } 2>/dev/null && echo $place
    done; :`;
    const before = (await shell(look)).output;
    await run('process_start', { command: `${litter}; echo done; exec sleep 60` }, '1.1.90');
    const left = await run('process_poll', { process: '1.1.90', wait_secs: 10, offset: 0 });
    expect(left.output).toContain('/dev/shm');
    expect((await shell(litter)).output).toBe('/tmp\n/dev/shm\n/home/agent\n');
    expect((await shell(look)).output).toBe(before);
    const outside = await shell(`ls -d ${STAGE} /newroot /oldroot /root /var /opt 2>/dev/null`);
    expect(outside.output).not.toMatch(/\//);
  });
});

const asOther = isRoot && hasBubblewrap ? test : test.skip;

asOther('a workspace that an ordinary user replaced is found by its name', async () => {
  const { shell, workspace } = await start(['bubblewrap', OTHER_UID]);
  expect((await shell('echo one > name')).status).toBe('ok');
  renameSync(workspace, `${workspace}-before`);
  mkdirSync(workspace);
  chownSync(workspace, OTHER_UID, OTHER_UID);
  writeFileSync(join(workspace, 'name'), 'two\n');
  expect((await shell('cat name')).output).toBe('two\n');
});
