/** The filter as data, run by a small interpreter of classic BPF. */
import { describe, expect, test } from '@jest/globals';
import { type Instruction, toFilter, toFilterBytes } from '../../sandbox/launch/seccomp.ts';
import {
  absentCalls,
  inspectedCalls,
  lendingCalls,
  refusedCalls,
  sharedObjectCalls,
  unseenMemoryCalls,
} from '../../sandbox/launch/syscalls.ts';

const ALLOW = 0x7fff0000;
const DONE = 0x00050000;
const EPERM = 0x00050001;
const EINVAL = 0x00050016;
const ENOSYS = 0x00050026;
const EOPNOTSUPP = 0x0005005f;
const ESOCKTNOSUPPORT = 0x0005005e;
const EAFNOSUPPORT = 0x00050061;
const KILL = 0x80000000;
const audits = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
type Arch = keyof typeof audits;

interface Call {
  readonly number: number;
  readonly args?: readonly number[];
  readonly audit?: number;
}

function interpret(program: readonly Instruction[], words: ReadonlyMap<number, number>): number {
  let a = 0;
  for (let at = 0; at < program.length; at += 1) {
    const step = program[at];
    if (step === undefined) break;
    const { code, jt, jf, k } = step;
    if (code === 0x06) return k >>> 0;
    if (code === 0x20) a = (words.get(k) ?? 0) >>> 0;
    else if (code === 0x54) a = (a & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += a === k ? jt : jf;
    else if (code === 0x35) at += a >= k ? jt : jf;
    else if (code === 0x45) at += (a & k) !== 0 ? jt : jf;
    else throw new Error(`unknown code ${code}`);
  }
  throw new Error('fell off the end');
}

function run(arch: Arch, call: Call, refuseUnseenMemory = true, more = {}): number {
  const program = toFilter({ arch, refuseUnseenMemory, ...more });
  if (program === undefined) throw new Error('no filter');
  const words = new Map([
    [0, call.number],
    [4, call.audit ?? audits[arch]],
  ]);
  // The high half is garbage on purpose: only the low half may count.
  call.args?.forEach((value, i) => {
    words.set(16 + 8 * i, value);
    words.set(20 + 8 * i, 0xdead);
  });
  return interpret(program, words);
}

describe.each(['x64', 'arm64'] as const)('filter on %s', (arch) => {
  const index = arch === 'x64' ? 0 : 1;
  const numberOf = (name: keyof typeof inspectedCalls): number => inspectedCalls[name][index];

  test('where others are in reach: not their objects, not their limits; no socket offline', () => {
    const shared = { isShared: true, isOffline: true };
    const at = (name: keyof typeof inspectedCalls, args: readonly number[], more = {}) =>
      run(arch, { number: numberOf(name), args }, true, more);
    for (const numbers of Object.values(sharedObjectCalls)) {
      expect(run(arch, { number: numbers[index] })).toBe(ALLOW);
      expect(run(arch, { number: numbers[index] }, true, shared)).toBe(EPERM);
    }
    expect([at('prlimit64', [7]), at('prlimit64', [7], shared)]).toEqual([ALLOW, EPERM]);
    expect(at('prlimit64', [0], shared)).toBe(ALLOW);
    for (const family of [1, 2, 10, 16]) expect(at('socket', [family], shared)).toBe(EAFNOSUPPORT);
    expect(at('socket', [2])).toBe(ALLOW);
  });

  test('another processor kills; the lists answer; read and write pass', () => {
    expect(run(arch, { number: 0, audit: 0x40000003 })).toBe(KILL);
    for (const numbers of Object.values(refusedCalls)) {
      if (numbers[index] >= 0) expect(run(arch, { number: numbers[index] })).toBe(EPERM);
    }
    for (const numbers of Object.values(absentCalls)) {
      expect(run(arch, { number: numbers[index] })).toBe(ENOSYS);
    }
    for (const numbers of Object.values(lendingCalls)) {
      expect(run(arch, { number: numbers[index] })).toBe(EINVAL);
    }
    const [read, execve] = arch === 'x64' ? [0, 59] : [63, 221];
    for (const number of [read, execve]) expect(run(arch, { number })).toBe(ALLOW);
  });

  test('what no list names passes', () => {
    const lists = [refusedCalls, absentCalls, lendingCalls, unseenMemoryCalls, inspectedCalls];
    const named = new Set(lists.flatMap((list) => Object.values(list).map((at) => at[index])));
    const others = Array.from({ length: 600 }, (_, number) => number).filter((n) => !named.has(n));
    expect(others.filter((number) => run(arch, { number }) !== ALLOW)).toEqual([]);
    expect(others.length).toBeGreaterThan(400);
  });

  test.each([
    ['clone', [0x01200011], ALLOW],
    ['clone', [0x10000000 | 17], EPERM],
    ['clone', [0x00020000], EPERM],
    ['clone', [0x40000000], EPERM],
    ['unshare', [0x200], ALLOW],
    ['unshare', [0x80], EPERM],
    ['unshare', [0x20000000], EPERM],
    ['ioctl', [0, 0x5401], ALLOW],
    ['ioctl', [0, 0x5412], EPERM],
    ['ioctl', [0, 0x541c], EPERM],
    ['ioctl', [0, 0x40305828], EPERM],
    ['ioctl', [0, 0x40305839], EPERM],
    ['fallocate', [5, 0], EOPNOTSUPP],
    ['fallocate', [5, 0x11], EOPNOTSUPP],
    ['fallocate', [5, 0x03], ALLOW],
    ['prctl', [1, 9], ALLOW],
    ['prctl', [1, 0], EPERM],
    ['prctl', [15, 0], ALLOW],
    ['socket', [2], ALLOW],
    ['socket', [10], ALLOW],
    ['socket', [16], ALLOW],
    ['socket', [1], EAFNOSUPPORT],
    ['socket', [40], EAFNOSUPPORT],
    ['socketpair', [1, 1 | 0o2000000], ALLOW],
    ['socketpair', [1, 5], ALLOW],
    ['socketpair', [1, 2], ESOCKTNOSUPPORT],
    ['socketpair', [1, 2 | 0o2004000], ESOCKTNOSUPPORT],
    ['socketpair', [1, 3], ESOCKTNOSUPPORT],
    ['setsockopt', [0, 1, 7], DONE],
    ['setsockopt', [0, 1, 8], DONE],
    ['setsockopt', [0, 1, 2], ALLOW],
    ['setsockopt', [0, 1, 60], EOPNOTSUPP],
    ['setsockopt', [0, 0, 60], ALLOW],
    ['setsockopt', [0, 6, 7], ALLOW],
    ['fchmod', [0, 0o755], ALLOW],
    ['fchmod', [0, 0o4755], EPERM],
    ['fchmodat', [0, 0, 0o2755], EPERM],
    ['fchmodat2', [0, 0, 0o4755], EPERM],
    ['openat', [0, 0, 0o101, 0o644], ALLOW],
    ['openat', [0, 0, 0o101, 0o4755], EPERM],
    ['openat', [0, 0, 0o20200001, 0o2755], EPERM],
    ['openat', [0, 0, 0, 0o6777], ALLOW],
    ['openat', [0, 0, 0o200000, 0o6777], ALLOW],
    ['mknodat', [0, 0, 0o010644], ALLOW],
    ['mknodat', [0, 0, 0o020644], EPERM],
    ['mknodat', [0, 0, 0o060644], EPERM],
    ['mknodat', [0, 0, 0o104644], EPERM],
    ['renameat2', [0, 0, 0, 0, 3], ALLOW],
    ['renameat2', [0, 0, 0, 0, 4], EPERM],
    ['renameat2', [0, 0, 0, 0, 6], EPERM],
  ] as const)('%s(%j)', (name, args, answer) => {
    expect(run(arch, { number: numberOf(name), args })).toBe(answer);
  });

  test.each(['memfd_create', 'shmget', 'semget', 'msgget'])(
    '%s: memory that no size shows is refused where it is asked for',
    (name) => {
      const number = unseenMemoryCalls[name]?.[index] ?? -1;
      expect([run(arch, { number }), run(arch, { number }, false)]).toEqual([EPERM, ALLOW]);
    },
  );

  test('a pipe or a socket is lent no pages, no thread keeps rules (regression)', () => {
    const numbers = { x64: [278, 444, 40, 275], arm64: [75, 444, 71, 76] }[arch];
    const answers = numbers.map((number) => run(arch, { number }));
    expect(answers).toEqual([ENOSYS, ENOSYS, EINVAL, EINVAL]);
  });

  test('fits the kernel: eight bytes each, jumps in reach', () => {
    const program = toFilter({ arch, refuseUnseenMemory: true }) ?? [];
    expect(toFilterBytes(program).length).toBe(program.length * 8);
    expect(program.length).toBeLessThan(300);
  });
});

test('calls that only x64 has, and x32', () => {
  expect(run('x64', { number: 0x40000000 + 1 })).toBe(ENOSYS);
  expect(run('x64', { number: 90, args: [0, 0o4755] })).toBe(EPERM);
  expect(run('x64', { number: 2, args: [0, 0o101, 0o4755] })).toBe(EPERM);
  expect(run('x64', { number: 85, args: [0, 0o4755] })).toBe(EPERM);
  expect(run('x64', { number: 133, args: [0, 0o020600] })).toBe(EPERM);
});

test('an unknown processor has no filter', () => {
  expect(toFilter({ arch: 'riscv64', refuseUnseenMemory: true })).toBeUndefined();
});
