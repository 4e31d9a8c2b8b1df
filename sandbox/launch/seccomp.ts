/** The system call filter, as classic BPF made of data: no library, no build step, readable in one
 *  page and tested by an interpreter. Everything is allowed that is not refused here; namespaces,
 *  capabilities and mounts are the wall, this narrows what of the kernel can be reached at all. */
import { assert } from '../../base/assert.ts';
import {
  absentCalls,
  type CallNumbers,
  inspectedCalls,
  lendingCalls,
  refusedCalls,
  sharedObjectCalls,
  unseenMemoryCalls,
} from './syscalls.ts';

export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

const LOAD = 0x20;
const AND = 0x54;
const JUMP = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;

const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const refuse = (errno: number): number => 0x00050000 | errno;
const EPERM = refuse(1);
const EINVAL = refuse(22);
const ENOSYS = refuse(38);
const EOPNOTSUPP = refuse(95);
const ESOCKTNOSUPPORT = refuse(94);
const EAFNOSUPPORT = refuse(97);

/** Offsets in struct seccomp_data. */
const NUMBER = 0;
const ARCH = 4;
const argument = (index: number): number => 16 + 8 * index;

const archs = {
  x64: { audit: 0xc000003e, index: 0 },
  arm64: { audit: 0xc00000b7, index: 1 },
} as const;

/** x32 calls are x64 calls with this bit. */
const X32_BIT = 0x40000000;
const NAMESPACE_FLAGS = 0x7e020000;
const CLONE_NEWTIME = 0x80;
const SET_ID_BITS = 0o6000;
/** O_CREAT and the own bit of O_TMPFILE (it also holds O_DIRECTORY, which comes without a mode). */
const CREATE_FLAGS = 0o100 | 0o20000000;
const FILE_TYPE = 0o170000;
const CHARACTER_DEVICE = 0o020000;
const BLOCK_DEVICE = 0o060000;
const TERMINAL_INJECTIONS = [0x5412, 0x541c];
/** Takes room on the disk without writing: a hundred gigabytes between two looks at the disk. What
 *  asks for it writes instead where a file system cannot do it, as many cannot. */
const RESERVATIONS = [0x40305828, 0x4030582a, 0x40305839];
/** Modes of fallocate that give room back. */
const PUNCH_OR_COLLAPSE = 0x02 | 0x08;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
const FAMILIES = [2, 10, 16];
/** A pair is of unix sockets, and one that takes datagrams (a raw one is another word for it) sends
 *  to any name that it is given: the host's sockets are then in reach after all. The other types
 *  are connected once and for all. */
const SOCKET_TYPE = 0xf;
const DATAGRAM_TYPES = [2, 3];
/** Larger queues, up to net.core.wmem_max, which is 4 MiB since Linux 6.17: more than the watch
 *  takes a socket to hold (footprint.ts). The call says yes and changes nothing, as the kernel
 *  itself does to who asks for more than it gives. */
const SOL_SOCKET = 1;
const BUFFER_OPTIONS = [7, 8];
const DONE = 0x00050000;
/** Leaves the sender's pages in the queue, however few bytes of them were sent. */
const SO_ZEROCOPY = 60;
/** Leaves a device node where the name was. */
const RENAME_WHITEOUT = 0x04;
/** Numbers of a list that are compared one by one. */
const PART_MAX = 12;

const load = (k: number): Instruction => ({ code: LOAD, jt: 0, jf: 0, k });
const and = (k: number): Instruction => ({ code: AND, jt: 0, jf: 0, k });
const ret = (k: number): Instruction => ({ code: RETURN, jt: 0, jf: 0, k });
const test = (code: number, k: number, jt: number, jf: number): Instruction => ({
  code,
  jt,
  jf,
  k: k >>> 0,
});

/** `answer` for the calls whose number is in the list; else falls through. In order, and a part is
 *  passed over in one step: the kernel runs the filter for each call it knows when it is set, and
 *  for each that a process makes if what it answers depends on more than the number. */
function answerList(numbers: readonly number[], answer: number): Instruction[] {
  const sorted = [...numbers].sort((a, b) => (a >>> 0) - (b >>> 0));
  const program: Instruction[] = [];
  for (let end = sorted.length; end > 0; end -= PART_MAX) {
    const part = sorted.slice(Math.max(0, end - PART_MAX), end);
    const isLast = end === sorted.length;
    program.unshift(
      ...(isLast ? [] : [test(JUMP_AT_LEAST, (part.at(-1) ?? 0) + 1, part.length + 2, 0)]),
      ...part.map((number, i) => test(JUMP_EQUAL, number, part.length - i, 0)),
      { code: JUMP, jt: 0, jf: 0, k: program.length + 1 },
      ret(answer),
    );
  }
  return program;
}

/** Runs `body` for one call. The body may fall through; it leaves the number reloaded. */
function inspect(number: number, body: readonly Instruction[]): Instruction[] {
  if (number < 0) return [];
  return [test(JUMP_EQUAL, number, 0, body.length + 1), ...body, load(NUMBER)];
}

/** EPERM when any of `bits` is set in the low half of the argument. */
function refuseBits(index: number, bits: number): Instruction[] {
  return [load(argument(index)), test(JUMP_ANY_BIT, bits, 0, 1), ret(EPERM)];
}

/** EPERM when the argument's low half is one of `values`. Only that half: the kernel takes no
 *  more of it, so a comparison of all 64 bits could be passed by (CVE-2019-10063). */
function refuseValues(index: number, values: readonly number[]): Instruction[] {
  return [load(argument(index)), ...answerList(values, EPERM)];
}

/** Set-id bits count only where a file is made: else the mode is whatever the register held. */
function refuseCreation(flagsIndex: number): Instruction[] {
  const bits = refuseBits(flagsIndex + 1, SET_ID_BITS);
  return [load(argument(flagsIndex)), test(JUMP_ANY_BIT, CREATE_FLAGS, 0, bits.length), ...bits];
}

function refuseNode(modeIndex: number): Instruction[] {
  return [
    ...refuseBits(modeIndex, SET_ID_BITS),
    load(argument(modeIndex)),
    and(FILE_TYPE),
    ...answerList([CHARACTER_DEVICE, BLOCK_DEVICE], EPERM),
  ];
}

function allowFamilies(families: readonly number[]): Instruction[] {
  const count = families.length;
  return [
    load(argument(0)),
    ...families.map((family, i) => test(JUMP_EQUAL, family, count - i, 0)),
    ret(EAFNOSUPPORT),
  ];
}

/** EPERM when the argument's low half names somebody else. */
function allowOnlyZero(index: number): Instruction[] {
  return [load(argument(index)), test(JUMP_EQUAL, 0, 1, 0), ret(EPERM)];
}

const queueOptions = [
  ...[load(argument(2)), ...answerList(BUFFER_OPTIONS, DONE)],
  ...answerList([SO_ZEROCOPY], EOPNOTSUPP),
];
const keepQueues = [
  ...[load(argument(1)), test(JUMP_EQUAL, SOL_SOCKET, 0, queueOptions.length)],
  ...queueOptions,
];

export interface FilterOptions {
  /** As the runtime names it. */
  readonly arch: string;
  /** Refuses memory that a watch of process sizes cannot see. */
  readonly refuseUnseenMemory: boolean;
  /** True: the processes and objects of others are in reach. Refuses what would reach them. */
  readonly isShared?: boolean;
  /** True: no socket at all, because there is no network of its own to confine it to. */
  readonly isOffline?: boolean;
}

/** The program, or undefined for a processor whose numbers are not known here. Pure. */
export function toFilter(options: FilterOptions): Instruction[] | undefined {
  const { arch, isShared = false, isOffline = false } = options;
  if (arch !== 'x64' && arch !== 'arm64') return undefined;
  const { audit, index } = archs[arch];
  const pick = (table: Readonly<Record<string, CallNumbers>>): number[] =>
    Object.values(table)
      .map((numbers) => numbers[index])
      .filter((number) => number >= 0);
  const call = (name: keyof typeof inspectedCalls): number => inspectedCalls[name][index];
  const unseen = options.refuseUnseenMemory ? pick(unseenMemoryCalls) : [];
  const shared = isShared ? pick(sharedObjectCalls) : [];
  return [
    ...[load(ARCH), test(JUMP_EQUAL, audit, 1, 0), ret(KILL_PROCESS), load(NUMBER)],
    ...(arch === 'x64' ? [test(JUMP_AT_LEAST, X32_BIT, 0, 1), ret(ENOSYS)] : []),
    ...answerList(pick(absentCalls), ENOSYS),
    ...answerList(pick(lendingCalls), EINVAL),
    ...answerList([...pick(refusedCalls), ...unseen, ...shared], EPERM),
    ...inspect(call('clone'), refuseBits(0, NAMESPACE_FLAGS)),
    ...inspect(call('unshare'), refuseBits(0, NAMESPACE_FLAGS | CLONE_NEWTIME)),
    ...inspect(call('ioctl'), refuseValues(1, [...TERMINAL_INJECTIONS, ...RESERVATIONS])),
    ...inspect(call('prctl'), [
      load(argument(0)),
      test(JUMP_EQUAL, PR_SET_PDEATHSIG, 0, 3),
      load(argument(1)),
      test(JUMP_EQUAL, SIGKILL, 1, 0),
      ret(EPERM),
    ]),
    ...inspect(call('socket'), allowFamilies(isOffline ? [] : FAMILIES)),
    ...inspect(call('socketpair'), [
      ...[load(argument(1)), and(SOCKET_TYPE)],
      ...answerList(DATAGRAM_TYPES, ESOCKTNOSUPPORT),
    ]),
    ...inspect(call('setsockopt'), keepQueues),
    ...(isShared ? inspect(call('prlimit64'), allowOnlyZero(0)) : []),
    ...inspect(call('chmod'), refuseBits(1, SET_ID_BITS)),
    ...inspect(call('fchmod'), refuseBits(1, SET_ID_BITS)),
    ...inspect(call('fchmodat'), refuseBits(2, SET_ID_BITS)),
    ...inspect(call('fchmodat2'), refuseBits(2, SET_ID_BITS)),
    ...inspect(call('open'), refuseCreation(1)),
    ...inspect(call('openat'), refuseCreation(2)),
    ...inspect(call('creat'), refuseBits(1, SET_ID_BITS)),
    ...inspect(call('fallocate'), [
      load(argument(1)),
      test(JUMP_ANY_BIT, PUNCH_OR_COLLAPSE, 1, 0),
      ret(EOPNOTSUPP),
    ]),
    ...inspect(call('mknod'), refuseNode(1)),
    ...inspect(call('mknodat'), refuseNode(2)),
    ...inspect(call('renameat2'), refuseBits(4, RENAME_WHITEOUT)),
    ret(ALLOW),
  ];
}

/** The bytes that bubblewrap's --seccomp reads: eight for each instruction. */
export function toFilterBytes(program: readonly Instruction[]): Buffer {
  assert(program.length > 0 && program.length <= 4096, 'the kernel takes 1 to 4096 instructions');
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, jt, jf, k }, i) => {
    assert(jt <= 255 && jf <= 255, 'a jump reaches 255 instructions');
    bytes.writeUInt16LE(code, i * 8);
    bytes.writeUInt8(jt, i * 8 + 2);
    bytes.writeUInt8(jf, i * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, i * 8 + 4);
  });
  return bytes;
}
