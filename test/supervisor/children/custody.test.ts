/** What the dead leave behind is found without a new start: sockets at once, processes, sockets and
 *  control groups each minute, files each ten. */
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { silentLogger } from '../../../base/logger.ts';
import type { MarkTable } from '../../../base/marked-processes.ts';
import { type ProcessIdentity, realProcesses } from '../../../base/process.ts';
import { toHostFolderName, toProbeFolderPrefix } from '../../../protocol/host-folders.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { Store } from '../../../store/contract.ts';
import { createCustody } from '../../../supervisor/children/custody.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const session = 's_0123456789abcdef' as SessionId;
const gateway: ProcessIdentity = { pid: 5_000_001, startTicks: 7, bootId: 'b' };
const MINUTE_MS = 60_000;

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** As one of a process that was killed. */
async function leaveSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(`${path}.live`, resolve);
  });
  renameSync(`${path}.live`, path);
  await new Promise((resolve) => server.close(resolve));
}

async function createHome() {
  const stateDir = mkdtempSync(join(tmpdir(), 'prx-custody-'));
  folders.push(stateDir);
  for (const folder of ['run', `artifacts/${session}`, `spool/${session}`]) {
    mkdirSync(join(stateDir, folder), { recursive: true });
  }
  const socket = join(stateDir, 'run', `gateway-${gateway.pid}.sock`);
  const pipe = join(stateDir, 'artifacts', session, 'pipe-0123456789abcdef');
  const spool = join(stateDir, 'spool', session, '1.1.1.log');
  const kept = join(stateDir, 'artifacts', session, 'tool-1.1.1');
  const marks: MarkTable = {
    find: () => [],
    read: () => undefined,
    listAncestors: () => [],
    pidMax: () => 10_000_000,
    kill: () => false,
  };
  const store = {
    putProcess: async () => undefined,
    removeProcess: async () => undefined,
    listProcesses: async () => [],
    listUnfinished: async () => [],
    getSession: async () => undefined,
  } as unknown as Store; // only these are asked for
  const clock = createSteppedClock();
  const groups: string[] = [];
  const custody = createCustody(
    {
      ...{ store, clock, logger: silentLogger, processes: realProcesses },
      adoption: {
        ...{ owner: 'me', marks, connect: () => Promise.reject(new Error('nobody')) },
        temporaryDir: stateDir,
      },
      cgroups: { sweep: () => groups.splice(0) },
    },
    stateDir,
    () => MINUTE_MS,
  );
  const leave = async (): Promise<void> => {
    await leaveSocket(socket);
    execFileSync('/bin/sh', ['-c', 'mkfifo "$0"', pipe]);
    mkdirSync(join(spool, '..'), { recursive: true });
    for (const file of [spool, kept]) writeFileSync(file, 'x');
    groups.push('prx-worker-1');
  };
  const left = () => ({
    socket: existsSync(socket),
    pipe: existsSync(pipe),
    spool: existsSync(spool),
    groups: groups.length > 0,
  });
  /** Over the turns of the event loop that a sweep takes. */
  const settle = async (): Promise<void> => {
    await clock.armed(MINUTE_MS);
  };
  return { custody, clock, leave, left, settle, socket, kept, stateDir };
}

describe('[promise:nothing-outlives] what the dead leave', () => {
  test('goes without a new start: each minute, and files each ten', async () => {
    const { custody, clock, leave, left, settle, kept } = await createHome();
    await custody.start();
    clock.advance(2000);
    await settle();
    await leave();
    clock.advance(MINUTE_MS);
    await settle();
    expect(left()).toEqual({ socket: false, pipe: true, spool: true, groups: false });
    for (let minute = 2; minute <= 10; minute += 1) {
      clock.advance(MINUTE_MS);
      await settle();
    }
    expect(left()).toEqual({ socket: false, pipe: false, spool: false, groups: false });
    expect(existsSync(kept)).toBe(true);
    custody.stop();
  });

  test('all of it goes when a person asks, and is named', async () => {
    const { custody, leave, left } = await createHome();
    await leave();
    const { removed } = await custody.sweep();
    expect([...removed].sort()).toEqual([
      `artifacts/${session}/pipe-0123456789abcdef`,
      'cgroup prx-worker-1',
      `run/gateway-${gateway.pid}.sock`,
      `spool/${session}`,
    ]);
    expect(left()).toEqual({ socket: false, pipe: false, spool: false, groups: false });
  });

  test('temporary files of a host that was killed go, those of a live one and of others stay', async () => {
    const { custody, stateDir } = await createHome();
    const self = realProcesses.findIdentity(process.pid);
    const dead = [toHostFolderName(gateway), `${toProbeFolderPrefix(gateway)}Ab1_x`];
    const kept = [
      toHostFolderName({ pid: process.pid, startTicks: self?.startTicks ?? 0 }),
      `${dead[0]}.old`,
      toHostFolderName({ pid: 5_000_002, startTicks: 7 }),
    ];
    for (const name of [...dead, ...kept.slice(0, 2)])
      mkdirSync(join(stateDir, name, '1'), { recursive: true });
    writeFileSync(join(stateDir, dead[0] ?? '', '1', 'big'), 'x');
    symlinkSync(join(stateDir, 'run'), join(stateDir, kept[2] ?? ''));
    const { removed } = await custody.sweep();
    const found = removed.filter((each) => each.includes('prx-tools')).sort();
    expect(found).toEqual(dead.map((name) => join(stateDir, name)));
    expect(kept.filter((name) => !existsSync(join(stateDir, name)))).toEqual([]);
  });

  const asRoot = process.getuid?.() === 0 ? test : test.skip;
  asRoot('a folder of such a name that somebody else made is not touched', async () => {
    const { custody, stateDir } = await createHome();
    const path = join(stateDir, toHostFolderName(gateway));
    mkdirSync(path);
    chownSync(path, 1500, 1500);
    const { removed } = await custody.sweep();
    expect(removed.filter((each) => each.includes('prx-tools'))).toEqual([]);
    expect(existsSync(path)).toBe(true);
  });

  test('the socket of a process that was killed goes with its exit', async () => {
    const { custody, socket } = await createHome();
    const { registry } = custody.ports;
    await registry.add({ kind: 'gateway', session: undefined, identity: gateway });
    await leaveSocket(socket);
    registry.remove({ ...gateway, startTicks: 8 });
    expect(existsSync(socket)).toBe(true);
    registry.remove(gateway);
    expect(existsSync(socket)).toBe(false);
  });
});
