/** The most that a tree of processes can hold in memory that no size of a process shows: what the
 *  kernel keeps for it. Not what it does hold, which nobody says: watch.ts counts it as far as the
 *  machine misses it. */
import { closeSync, openSync, readSync } from 'node:fs';
import {
  isUnreadable,
  listNames,
  listTreePids,
  readFields,
  readLink,
  readText,
  type TreeView,
} from './footprint.ts';

const KIB = 1024;
/** An open file, with its place in the cache of names, which cannot be given up meanwhile. */
const FILE_BYTES = 2 * KIB;
/** A queue may hold twice net.core.wmem_default (208 KiB, and seccomp.ts keeps it so), and the
 *  kernel's own with it. */
const SOCKET_BYTES = 512 * KIB;
/** Those of TCP grow by themselves, to 4 MiB and more; of each byte in them the kernel keeps up to
 *  another one. */
const QUEUED_FACTOR = 2;
const PIPE_BYTES = 64 * KIB;
/** What the kernel keeps at most behind one descriptor of these: 16,384 events that were not read,
 *  each with a name; an entry for each file that a process may have open. */
const KEPT_BYTES: ReadonlyMap<string, number> = new Map([
  ['anon_inode:inotify', 16_384 * 576],
  ['anon_inode:[eventpoll]', 1024 * 256],
]);
/** Descriptors on their way through a socket are in nobody's list, nor are those that are on their
 *  way through these: so many one user may have sent (limits.ts), and each may be a full socket. */
const SENT_BYTES = 4096 * SOCKET_BYTES;
/** What the kernel keeps for one mapping, and again for each process that it was inherited from. */
const MAPPING_BYTES = 512;
const INHERITED_BYTES = 64;
const LOCK_BYTES = 256;
/** Of a system call filter of the longest kind, also as the processor runs it. */
const FILTER_BYTES = 640 * KIB;
/** Shared memory without a file; it is kept when its pages leave every process's tables. */
const SHARED_MEMORY = '/dev/zero (deleted)';

/** Descriptors, mappings and locks that are looked at. A tree with more is taken to hold whatever
 *  is missing: while they are counted it goes on taking. */
const ENTRIES_MAX = 100_000;
const CHUNK_BYTES = 64 * KIB;

/** @param enough  more than this is not counted. */
export function readHideable(view: TreeView, enough: number): number {
  const tally = createTally(enough);
  const pids = listTreePids(view);
  const queued = readQueues(`${view.proc}/${pids[0]}/net`);
  tally.add(UNHELD, queued.get(UNHELD) ?? 0);
  tally.addEach('locks', countLocks(`${view.proc}/locks`), LOCK_BYTES);
  const filters = readFields('/proc/self/status', ['Seccomp_filters']) + 1;
  for (const pid of pids) {
    const path = `${view.proc}/${pid}`;
    if (isUnreadable(path)) return enough;
    addDescriptors(tally, path, queued);
    if (tally.isFull()) return enough;
    const maps = readText(`${path}/maps`);
    const bytes = MAPPING_BYTES + INHERITED_BYTES * pids.length;
    tally.addEach(`${path}/maps`, countLines(maps), bytes);
    if (maps.includes(SHARED_MEMORY))
      for (const [id, size] of readShared(maps)) tally.add(id, size);
    tally.add(`${path}/locked`, readFields(`${path}/status`, ['VmLck']) * KIB);
    for (const task of listNames(`${path}/task`)) {
      const more = readFields(`${path}/task/${task}/status`, ['Seccomp_filters']) - filters;
      tally.add(`${path}/filters/${task}`, more * FILTER_BYTES);
    }
    if (tally.isFull()) return enough;
  }
  return tally.sum();
}

type Tally = ReturnType<typeof createTally>;

/** Of what several processes have the largest counts, once. */
function createTally(enough: number) {
  const seen = new Map<string, number>();
  let sum = 0;
  let entries = 0;
  const add = (id: string, bytes: number): void => {
    const more = bytes - (seen.get(id) ?? 0);
    if (more <= 0) return;
    seen.set(id, bytes);
    sum += more;
  };
  return {
    add,
    addEach(id: string, count: number, bytes: number): void {
      entries += count;
      add(id, count * bytes);
    },
    isFull: () => sum >= enough || entries > ENTRIES_MAX,
    sum: () => Math.min(sum, enough),
  };
}

function addDescriptors(tally: Tally, path: string, queued: ReadonlyMap<string, number>): void {
  for (const fd of listNames(`${path}/fd`)) {
    if (tally.isFull()) return;
    const target = readLink(`${path}/fd/${fd}`);
    // It has no name of its own: shared by two processes it counts twice.
    tally.addEach(`${path}/fd/${fd}`, 1, FILE_BYTES + (KEPT_BYTES.get(target) ?? 0));
    if (target.startsWith('pipe:')) tally.add(target, PIPE_BYTES);
    if (!target.startsWith('socket:')) continue;
    tally.add(target, SOCKET_BYTES + (queued.get(target) ?? 0));
    const isSending = readFields(`${path}/fdinfo/${fd}`, ['scm_fds']) > 0;
    if (isSending) tally.add('sent', SENT_BYTES);
  }
}

/** Of TCP connections that were closed, or not yet taken: no descriptor leads to them. */
const UNHELD = 'socket:[0]';
const QUEUES = / (\w\w) ([0-9A-F]{8}):([0-9A-F]{8}) \w+:\w+ \w+ +\d+ +\d+ (\d+) /g;
/** Those that carry something, or may: not what is only remembered of them. */
const CARRYING = new Set(['01', '04', '08', '09', '0B']);

/** What the queues of TCP take, by the names that descriptors have under /proc. */
function readQueues(net: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const text of ['tcp', 'tcp6'].map((name) => readText(`${net}/${name}`))) {
    for (const [, state = '', sent = '0', received = '0', inode] of text.matchAll(QUEUES)) {
      const queued = (Number.parseInt(sent, 16) + Number.parseInt(received, 16)) * QUEUED_FACTOR;
      const name = `socket:[${inode}]`;
      const bytes = queued + (name === UNHELD && CARRYING.has(state) ? SOCKET_BYTES : 0);
      if (bytes > 0) found.set(name, (found.get(name) ?? 0) + bytes);
    }
  }
  return found;
}

/** As far as the count matters. Where /proc is the machine's, everybody's: those are few. */
function countLocks(path: string): number {
  let count = 0;
  try {
    const fd = openSync(path, 'r');
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      while (count <= ENTRIES_MAX) {
        const length = readSync(fd, chunk);
        if (length === 0) break;
        count += countLines(chunk.toString('latin1', 0, length));
      }
    } finally {
      closeSync(fd);
    }
  } catch {
    // The sandbox is gone.
  }
  return count;
}

/** Bytes by inode. */
function readShared(maps: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of maps.split('\n')) {
    if (!line.endsWith(SHARED_MEMORY)) continue;
    const [, from = '0', to = '0', inode = ''] =
      /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)/.exec(line) ?? [];
    const bytes = Number.parseInt(to, 16) - Number.parseInt(from, 16);
    found.set(inode, (found.get(inode) ?? 0) + bytes);
  }
  return found;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}
