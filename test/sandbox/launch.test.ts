import { describe, expect, test } from '@jest/globals';
import {
  toAdvice,
  toForeignNotice,
  toMissingAdvice,
  toReadOnlyNotice,
} from '../../sandbox/launch/advice.ts';
import {
  decideIdentity,
  decideStageKind,
  TOOL_GID,
  TOOL_UID,
} from '../../sandbox/launch/identity.ts';
import { decideRlimits } from '../../sandbox/launch/limits.ts';
import { createPool, type ParkedSandbox } from '../../sandbox/launch/one-shot.ts';
import { parsePreludeReport, toPreludeCommand } from '../../sandbox/launch/prelude.ts';
import { probe } from '../../sandbox/launch/probe.ts';

describe('the tools are', () => {
  test.each([
    ['the supervisor when that is not root', [1000, 1001], [0, 0], [1000, 1001, false]],
    ['the owner of the workspace under root', [0, 0], [1500, 1600], [1500, 1600, true]],
    ['the dedicated user for a root workspace', [0, 0], [0, 0], [TOOL_UID, TOOL_GID, true]],
    ['never in group root', [0, 0], [1500, 0], [1500, TOOL_GID, true]],
  ] as const)('%s', (_, host, owner, [uid, gid, drops]) => {
    const decided = decideIdentity(
      { uid: host[0], gid: host[1] },
      { uid: owner[0], gid: owner[1] },
    );
    expect(decided).toEqual({ uid, gid, drops });
  });

  test.each([
    [0, 'write', 'map'],
    [1500, 'write', 'write'],
    [0, 'read-only', 'read-only'],
    [0, 'tool', 'map-read-only'],
    [0, 'file-host', 'map-read-only'],
  ] as const)('owner %s, access %s: staged as %s', (owner, access, kind) => {
    expect(decideStageKind(owner, access)).toBe(kind);
  });
});

describe('prelude', () => {
  const identity = { uid: 60800, gid: 60800, drops: true };
  const base = { perl: '/usr/bin/perl', arch: 'x64', identity, stageBytes: 10, command: ['a'] };

  test('the command line carries numbers, user, stage, items, command', () => {
    const items = [{ kind: 'map', source: '/w', name: 'workspace' }] as const;
    const [perl, flag, , ...rest] = toPreludeCommand({ ...base, items });
    expect([perl, flag, ...rest]).toEqual([
      ...['/usr/bin/perl', '-e', '272', '165', '60800', '60800', '/sys', '10', '1'],
      ...['map', '/w', 'workspace', 'a'],
    ]);
  });

  test('refuses to stay root, and a processor it does not know', () => {
    const root = { ...identity, uid: 0 };
    expect(() => toPreludeCommand({ ...base, items: [], identity: root })).toThrow('drops root');
    expect(() => toPreludeCommand({ ...base, items: [], arch: 'mips' })).toThrow('known');
  });

  test('its report', () => {
    const lines = ['unmapped workspace Invalid argument', 'missing writable-0 No such file', 'x'];
    expect(parsePreludeReport(lines)).toEqual({
      unmapped: [{ name: 'workspace', reason: 'Invalid argument' }],
      missing: ['writable-0'],
      failure: undefined,
    });
    expect(parsePreludeReport(['fail stage Operation not permitted']).failure).toBe(
      'stage Operation not permitted',
    );
  });
});

describe('advice', () => {
  test.each([
    ['bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted', 'AppArmor'],
    ['bwrap: setting up uid map: Permission denied', 'AppArmor'],
    ['bwrap: No permissions to creating new namespace', 'seccomp=unconfined'],
    ['bwrap: setting up uid map: Operation not permitted', 'CAP_SETFCAP'],
    ["bwrap: Can't mount proc on /newroot/proc: Operation not permitted", 'systempaths'],
    ['bwrap: Creating new namespace failed: nesting depth (ENOSPC)', 'max_user_namespaces'],
    ['fail unshare Operation not permitted', 'CAP_SYS_ADMIN'],
    ["bwrap: Can't chdir to /home/u/closed: Permission denied", 'chmod u+rwx'],
    ['something else', 'by hand'],
  ])('%s', (said, mend) => {
    expect(toAdvice(said)).toEqual({ reason: said, mend: expect.stringContaining(mend) });
  });

  test('a missing bubblewrap names the command of the package manager at hand', () => {
    expect(toMissingAdvice((name) => name === 'dnf').mend).toBe(
      'as root: dnf install -y bubblewrap',
    );
    expect(toMissingAdvice(() => false).mend).toBe('install the package bubblewrap');
  });

  test('a read-only workspace says why and what to do', () => {
    expect(toReadOnlyNotice('/w', 'EINVAL')).toMatch(/\/w is read-only.*EINVAL.*Mend: /);
    expect(toForeignNotice('/w', 7)).toMatch(/uid 7.*Mend: /);
  });
});

test('limits stay below our own hard limits', () => {
  const hard = new Map([
    ['Max open files', 1024],
    ['Max processes', Number.POSITIVE_INFINITY],
  ]);
  const some = { maxPids: 64, memoryLimitBytes: 1, diskBytes: 5000 };
  expect(decideRlimits(some, hard)).toEqual({
    processes: 64,
    fileBytes: 5000,
    openFiles: 1024,
    dataBytes: 2 * 1024 ** 3,
  });
  const none = { maxPids: 0, memoryLimitBytes: 0, diskBytes: 0 };
  expect(decideRlimits(none, hard)).toMatchObject({
    processes: 0,
    fileBytes: 16 * 1024 ** 3,
    dataBytes: 0,
  });
});

describe('pool of parked sandboxes', () => {
  interface Fake extends ParkedSandbox {
    usable: boolean;
    discarded: boolean;
  }
  function createFakes() {
    const made: Fake[] = [];
    const park = async (): Promise<ParkedSandbox> => {
      const fake: Fake = {
        usable: true,
        discarded: false,
        isUsable: () => fake.usable,
        placed: Promise.resolve(),
        release: () => {
          throw new Error('not released here');
        },
        discard: () => {
          fake.discarded = true;
        },
      };
      made.push(fake);
      return fake;
    };
    return { made, pool: createPool(park, 2) };
  }

  test('fills to its count, hands out the oldest, starts one when empty', async () => {
    const { made, pool } = createFakes();
    await pool.refill();
    expect(made.length).toBe(2);
    expect(await pool.take()).toBe(made[0]);
    expect(await pool.take()).toBe(made[1]);
    expect(await pool.take()).toBe(made[2]);
  });

  test('one that died while parked is not handed out', async () => {
    const { made, pool } = createFakes();
    await pool.refill();
    const [first] = made;
    if (first !== undefined) first.usable = false;
    expect(await pool.take()).toBe(made[1]);
    await pool.refill();
    expect(made.length).toBe(4);
  });

  test('closing discards all, also one that is being built', async () => {
    const { made, pool } = createFakes();
    const filling = pool.refill();
    pool.close();
    await filling;
    expect(made.map((fake) => fake.discarded)).toEqual([true]);
  });
});

describe('probe', () => {
  test('a failed start is the answer, with its mend', async () => {
    const create = async () => {
      throw new Error('no luck');
    };
    const ports = { create, uid: 5, mark: 'm', clean: () => undefined };
    expect(await probe(['bubblewrap'], ports)).toEqual({
      level: 'none',
      uid: 5,
      reason: 'no luck',
      mend: 'see the reason',
    });
  });
});
