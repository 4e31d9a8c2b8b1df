/** The process that stands over a command where there is no pid namespace, in perl as the builder
 *  is: whatever the command starts becomes its child, however often it forks, so its list of
 *  children is complete and it leaves nobody behind; it ends with the host. At level `landlock`
 *  the command may, before it starts, no longer open, reach or signal what it was not given.
 *  Fails closed: what the kernel refuses ends it before the command. */
import { assert } from '../../base/assert.ts';

/** Without a code: the command did not run, or the keeper was killed; then nobody knows. */
const KEEPER_SCRIPT = String.raw`
use strict;
my ($prctl, $seccomp, $setsid, $parent, $count, $net, $hex, @rest) = @ARGV;
$_ += 0 for $prctl, $seccomp, $setsid, $parent, $count, $net;
my $keeper = $$;
sub lost { syswrite STDERR, "sandbox: $_[0]: $!\n"; kill 'KILL', $$; exit 70 }
sub prctl { my ($n, $v) = @_; return syscall($prctl, $n, $v, 0, 0, 0) == 0 }

# perl goes on waiting after a signal, so what a signal means is done in its handler. One that
# comes just before the wait begins is seen a second later.
$SIG{$_} = sub { finish(143) } for qw(TERM INT HUP);
$SIG{ALRM} = sub { getppid == $parent ? alarm 1 : finish(143) };
prctl(36, 1) && prctl(1, 15) or lost('keeping');
getppid == $parent or lost('the host is gone');
pipe(my $started, my $start) or lost('pipe');
my $child = fork;
defined $child or lost('fork');
confine() if $child == 0;
close $start;
my $failed = sysread $started, my $byte, 1;
lost('the command did not start') if $failed;

alarm 1;
while ((my $pid = wait) > 0) {
  finish(($? & 127) ? 128 + ($? & 127) : $? >> 8) if $pid == $child;
}
lost('the command is gone');

# Who was being forked during one look is found by the next.
sub finish {
  my ($code) = @_;
  $SIG{$_} = 'IGNORE' for qw(TERM INT HUP ALRM);
  for (1 .. 2000) {
    kill 'KILL', below($$);
    my $pid;
    do { $pid = waitpid -1, 1 } while $pid > 0;
    exit $code if $pid < 0;
    select undef, undef, undef, 0.002;
  }
  lost('it starts processes faster than they can be ended');
}

sub below {
  my ($pid) = @_;
  my @found;
  opendir my $tasks, "/proc/$pid/task" or return;
  for my $task (grep { /^[0-9]+$/ } readdir $tasks) {
    open my $from, '<', "/proc/$pid/task/$task/children" or next;
    push @found, map { ($_, below($_)) } split ' ', (readline $from) || '';
  }
  return @found;
}

sub refuse { my $why = "sandbox: $_[0]: $!\n"; syswrite STDERR, $why; syswrite $start, 'x'; exit 70 }

sub confine {
  $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM);
  prctl(1, 9) or refuse('death signal');
  getppid == $keeper or exit 70;
  syscall($setsid);
  prctl(38, 1) or refuse('no new privileges');
  landlock(splice @rest, 0, 2 * $count) if $count;
  if (length $hex) {
    my $filter = pack 'H*', $hex;
    my $program = pack 'S x6 P', length($filter) / 8, $filter;
    syscall($seccomp, 1, 0, $program) == 0 or refuse('the filter');
  }
  exec { $rest[0] } @rest;
  refuse("exec $rest[0]");
}

# Everything that is handled is denied but for the rules: files, TCP, abstract sockets, signals.
sub landlock {
  my $none = 0;
  my $abi = syscall(444, $none, 0, 1);
  $abi >= 6 or refuse("Landlock of version 6 is needed, this kernel has $abi");
  my $handled = pack 'Q3', 0xffff, $net, 3;
  my $ruleset = syscall(444, $handled, 24, 0);
  $ruleset >= 0 or refuse('Landlock');
  while (my ($access, $path) = splice @_, 0, 2) {
    sysopen my $place, $path, 0x280000 or refuse("opening $path");
    my $allowed = $access & (-d $place ? 0xffff : 0xc007);
    my $rule = pack 'Q l', $allowed, fileno $place;
    syscall(445, $ruleset, 1, $rule, 0) == 0 or refuse("a rule for $path");
  }
  syscall(446, $ruleset, 0) == 0 or refuse('Landlock');
}
`;

/** prctl, seccomp, setsid. Those of Landlock are the same everywhere. */
const callNumbers: Readonly<Record<string, readonly number[]>> = {
  x64: [157, 317, 112],
  arm64: [167, 277, 157],
};

/** What may be done at and below a path. */
export interface AccessRule {
  readonly access: keyof typeof accessBits;
  readonly path: string;
}

/** Of the kernel's 16: all but device nodes and calls to devices; execute, read, list. */
const accessBits = {
  write: 0xffff & ~((1 << 6) | (1 << 11) | (1 << 15)),
  read: 0b1101,
  device: 0b0110,
} as const;

const TCP_BIND_AND_CONNECT = 3;

/** Whether the keeper knows this processor. */
export function canKeep(arch: string): boolean {
  return Object.hasOwn(callNumbers, arch);
}

export interface KeeperOptions {
  readonly perl: string;
  /** As the runtime names it: x64, arm64. */
  readonly arch: string;
  /** Who starts it. */
  readonly parentPid: number;
  /** Empty: nothing is denied (limits-only). */
  readonly rules: readonly AccessRule[];
  /** Denies TCP; other sockets are the filter's business. */
  readonly deniesTcp: boolean;
  /** The system call filter; empty: none. */
  readonly filter: Buffer;
}

/** The command line that keeps `command`. Pure. */
export function toKeeperCommand(options: KeeperOptions, command: readonly string[]): string[] {
  const { perl, arch, parentPid, rules, deniesTcp, filter } = options;
  const numbers = callNumbers[arch];
  assert(numbers !== undefined, 'keeping was decided where its calls are known');
  return [
    ...[perl, '-e', KEEPER_SCRIPT, ...numbers.map(String), String(parentPid)],
    ...[String(rules.length), String(deniesTcp ? TCP_BIND_AND_CONNECT : 0), filter.toString('hex')],
    ...rules.flatMap(({ access, path }) => [String(accessBits[access]), path]),
    ...command,
  ];
}
