/** System call numbers by processor: [x64, arm64]; -1: there is no such call. From the kernel's
 *  uapi headers; numbers never change once given. */

export type CallNumbers = readonly [x64: number, arm64: number];

/** Refused with EPERM whatever the arguments: other processes' memory, kernel objects that no
 *  namespace holds, mounts, namespaces, the clock, modules, old and rare entry points. */
export const refusedCalls: Readonly<Record<string, CallNumbers>> = {
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  pidfd_getfd: [438, 438],
  kcmp: [312, 272],
  process_madvise: [440, 440],
  perf_event_open: [298, 241],
  bpf: [321, 280],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  statmount: [457, 457],
  listmount: [458, 458],
  open_tree_attr: [467, 467],
  chroot: [161, 51],
  setns: [308, 268],
  swapon: [167, 224],
  swapoff: [168, 225],
  reboot: [169, 142],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  acct: [163, 89],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  syslog: [103, 116],
  lookup_dcookie: [212, 18],
  nfsservctl: [180, 42],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  settimeofday: [164, 170],
  adjtimex: [159, 171],
  iopl: [172, -1],
  ioperm: [173, -1],
  modify_ldt: [154, -1],
  uselib: [134, -1],
  _sysctl: [156, -1],
  ustat: [136, -1],
  sysfs: [139, -1],
  move_pages: [279, 239],
  migrate_pages: [256, 238],
  mbind: [237, 235],
  set_mempolicy: [238, 237],
  set_mempolicy_home_node: [450, 450],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  fanotify_init: [300, 262],
  fanotify_mark: [301, 263],
  vhangup: [153, 58],
  memfd_secret: [447, 447],
};

/** Memory that no process's size shows while it is not mapped: refused where only sizes are
 *  watched. Of what semget and msgget make, a namespace may hold by default 32,000 sets of 32,000
 *  semaphores (64 GiB), and as much in messages without content. */
export const unseenMemoryCalls: Readonly<Record<string, CallNumbers>> = {
  memfd_create: [319, 279],
  shmget: [29, 194],
  semget: [64, 190],
  msgget: [68, 186],
};

/** Refused where these are the host's, because there is no namespace for them: System V and POSIX
 *  queues, semaphores and shared memory. */
export const sharedObjectCalls: Readonly<Record<string, CallNumbers>> = {
  shmat: [30, 196],
  shmctl: [31, 195],
  shmdt: [67, 197],
  semop: [65, 193],
  semctl: [66, 191],
  semtimedop: [220, 192],
  msgsnd: [69, 189],
  msgrcv: [70, 188],
  msgctl: [71, 187],
  mq_open: [240, 180],
  mq_unlink: [241, 181],
};

/** Answered ENOSYS, upon which whoever asks falls back to the older call. The first two, because
 *  their arguments lie in memory, where a filter cannot look. vmsplice lends pages to a pipe, which
 *  keeps them when they are unmapped, and of a huge page the whole for one byte: 2 MiB in each of
 *  the 16 slots of a pipe that counts as 64 KiB. A domain of Landlock keeps 64 Ki rules
 *  without a descriptor, for each thread (1.2 GiB were seen behind 120); ours come first. Of what
 *  io_setup gives, the whole machine has 65,536 by default, and one call may take them all. */
export const absentCalls: Readonly<Record<string, CallNumbers>> = {
  clone3: [435, 435],
  openat2: [437, 437],
  vmsplice: [278, 75],
  landlock_create_ruleset: [444, 444],
  io_setup: [206, 0],
};

/** Answered EINVAL, as where a file cannot do it, upon which whoever asks reads and writes. They
 *  leave pages of a file or a pipe in a queue that counts the bytes only: a page for each byte,
 *  even when the file is gone (1.3 GiB were seen in four connections). */
export const lendingCalls: Readonly<Record<string, CallNumbers>> = {
  sendfile: [40, 71],
  splice: [275, 76],
};

/** Looked into. */
export const inspectedCalls = {
  clone: [56, 220],
  unshare: [272, 97],
  ioctl: [16, 29],
  prctl: [157, 167],
  prlimit64: [302, 261],
  socket: [41, 198],
  socketpair: [53, 199],
  setsockopt: [54, 208],
  chmod: [90, -1],
  fchmod: [91, 52],
  fchmodat: [268, 53],
  fchmodat2: [452, 452],
  open: [2, -1],
  openat: [257, 56],
  creat: [85, -1],
  mknod: [133, -1],
  mknodat: [259, 33],
  renameat2: [316, 276],
  fallocate: [285, 47],
} as const satisfies Readonly<Record<string, CallNumbers>>;
