/** Builds the sandbox where bubblewrap is not installed: takes the same arguments, by the same
 *  words, and does what they say with the kernel's own calls. One program in perl, because that is
 *  what such a machine has (perl-base is part of every Debian and Ubuntu); `mount` of util-linux
 *  would be forty processes for a call, and has no way to load a filter. Fails closed: a word that
 *  it does not know, or a call that the kernel refuses, ends it before the command. */
import { assert } from '../../base/assert.ts';

/** Only the words that arguments.ts and worker-launch.ts say. The first process of the sandbox
 *  starts the command only after it armed its death signal and its parent was seen alive after
 *  that; bubblewrap has a gap there (its issue 633). */
const BUILDER_SCRIPT = String.raw`
use strict;
my %nr;
@nr{qw(unshare mount umount pivot prctl seccomp capset hostname setsid)} = map { $_ + 0 }
  splice @ARGV, 0, 9;
my ($empty, $none) = ('', 'none');
my ($NEWROOT, $OLDROOT) = ('/newroot', '/oldroot');
my $report;
sub fail { print STDERR "sandbox: $_[0]: $!\n"; exit 1 }
sub sys { my ($name, @args) = @_; return syscall($nr{$name}, @args) >= 0 }
sub prctl { my ($n, $v) = map { $_ + 0 } @_; return syscall($nr{prctl}, $n, $v, 0, 0, 0) >= 0 }
sub spill { open my $to, '>', $_[0] or return 0; return defined syswrite $to, $_[1] }
sub adopt { open my $fd, "$_[0]&=", $_[1] + 0 or fail("descriptor $_[1]"); return $fd }

# What is to be done: words become operations; the rest is the command.
my (%opt, @ops, %env, @command, $perms, $size);
my %space = (user => 0x10000000, pid => 0x20000000, net => 0x40000000, ipc => 0x8000000,
  uts => 0x4000000, cgroup => 0x2000000);
my @words = @ARGV;
while (@words) {
  my $word = shift @words;
  if ($word eq '--') { @command = @words; last }
  elsif ($word eq '--args') {
    my $fd = adopt('<', shift @words);
    local $/;
    unshift @words, split /\0/, scalar readline $fd;
    close $fd;
  }
  elsif ($word =~ /^--unshare-(\w+)$/ && $space{$1}) { $opt{spaces} |= $space{$1} }
  elsif ($word =~ /^--(new-session|die-with-parent|disable-userns|as-pid-1|clearenv)$/) {
    $opt{$1} = 1;
  }
  elsif ($word =~ /^--(hostname|chdir|seccomp|json-status-fd|block-fd|cap-drop)$/) {
    $opt{$1} = shift @words;
  }
  elsif ($word eq '--setenv') { my ($name, $value) = splice @words, 0, 2; $env{$name} = $value }
  elsif ($word eq '--perms') { $perms = oct shift @words }
  elsif ($word eq '--size') { $size = shift @words }
  elsif ($word =~ /^--(ro-bind|bind|dev-bind)(-try)?$/) {
    push @ops, [$1, $2 ? 1 : 0, splice @words, 0, 2];
  }
  elsif ($word eq '--symlink') { push @ops, ['symlink', splice @words, 0, 2] }
  elsif ($word =~ /^--(proc|dev|remount-ro|dir)$/) { push @ops, [$1, shift @words] }
  elsif ($word eq '--tmpfs') {
    push @ops, ['tmpfs', shift @words, $perms, $size];
    ($perms, $size) = ();
  }
  else { $! = 22; fail("the word $word") }
}
@command or fail('no command');
$opt{spaces} & $space{user} or fail('no namespace of users');
($opt{'cap-drop'} || 'ALL') eq 'ALL' or fail('capabilities are dropped all or not at all');
$report = adopt('>', $opt{'json-status-fd'}) if defined $opt{'json-status-fd'};
my $block = defined $opt{'block-fd'} ? adopt('<', $opt{'block-fd'}) : undef;
my $filter;
if (defined $opt{seccomp}) {
  my $fd = adopt('<', $opt{seccomp});
  local $/;
  $filter = readline $fd;
  close $fd;
  length $filter && length($filter) % 8 == 0 or fail('the filter');
}

my ($uid, $gid) = ($>, $) + 0);
$uid != 0 or fail('root is not confined by a namespace of users');
sub map_user {
  spill('/proc/self/setgroups', 'deny') or fail('setting up groups');
  spill('/proc/self/uid_map', "$uid $uid 1\n") or fail('setting up uid map');
  spill('/proc/self/gid_map', "$gid $gid 1\n") or fail('setting up gid map');
}
sub drop_capabilities {
  for my $capability (0 .. 63) { prctl(24, $capability) or last }
  my ($head, $sets) = (pack('L2', 0x20080522, 0), "\0" x 24);
  sys('capset', $head, $sets) or fail('dropping capabilities');
}
my ($spaces, $mounts) = ($opt{spaces}, 0x20000);
sys('unshare', $spaces | $mounts) or fail('No permissions to create new namespace');
map_user();
pipe(my $armed, my $arm) && pipe(my $go, my $let) && pipe(my $end, my $tell) or fail('pipe');
my $child = fork;
defined $child or fail('fork');

if ($child) {
  close $_ for $arm, $go, $tell;
  close $block if $block;
  drop_capabilities();
  prctl(38, 1) or fail('no new privileges');
  prctl(1, 9) or fail('death signal') if $opt{'die-with-parent'};
  sysread $armed, my $byte, 1;
  syswrite $report, qq({ "child-pid": $child }\n) if $report;
  syswrite $let, 'x';
  close $let;
  my $got = sysread $end, my $code, 4;
  waitpid $child, 0;
  my $status = $?;
  # Its own end is as-pid-1's answer; else only what it told: no more is known of one killed.
  my $exit = $opt{'as-pid-1'} ? (($status & 127) ? undef : $status >> 8)
    : $got ? unpack('l', $code) : undef;
  syswrite $report, qq({ "exit-code": $exit }\n) if $report && defined $exit;
  exit(defined $exit ? $exit : 1);
}

close $_ for $armed, $let, $end;
prctl(1, 9) or fail('death signal');
syswrite $arm, 'x';
close $arm;
my $may = sysread $go, my $byte, 1;
$may or exit 1;
# The cell lives by its pipe, not by its parent.
prctl(1, 0) if !$opt{'die-with-parent'};
close $report if $report;

sub attributes {
  my ($path, $recursive, $set) = @_;
  my $attr = pack('Q4', $set, 0, 0, 0);
  return syscall(442, -100, $path, $recursive ? 0x8000 : 0, $attr, 32) >= 0;
}
sub mounted {
  my ($source, $path, $type, $flags, $data) = @_;
  return sys('mount', "$source", "$path", "$type", $flags + 0, "$data");
}
sub folders {
  my ($path, $mode) = @_;
  my $made = '';
  for my $name (grep { length } split m{/}, $path) {
    $made .= "/$name";
    -d $made or mkdir $made, 0755 or fail("folder $made");
  }
  chmod $mode, $path if defined $mode;
}
sub parent { return $_[0] =~ m{^(.*)/[^/]*$} ? $1 : '' }
sub bind {
  my ($kind, $try, $source, $target) = @_;
  my $place = $NEWROOT . ($target eq '/' ? '' : $target);
  my $from = $OLDROOT . ($source eq '/' ? '' : $source);
  if (!-e $from) { return if $try; fail("source $source") }
  if (-d _) { folders($place) }
  elsif (!-e $place) {
    folders(parent($place));
    open my $file, '>', $place or fail("file $target");
  }
  mounted($from, $place, $none, 0x5000, $empty) or fail("bind $target");
  my $set = 2 | ($kind eq 'dev-bind' ? 0 : 4) | ($kind eq 'ro-bind' ? 1 : 0);
  attributes($place, 1, $set) or fail("attributes of $target");
}
sub devices {
  my $dev = "$NEWROOT$_[0]";
  folders($dev);
  mounted('tmpfs', $dev, 'tmpfs', 2, 'mode=0755') or fail('dev');
  for my $name (qw(null zero full random urandom tty)) {
    open my $file, '>', "$dev/$name" or fail("device $name");
    mounted("$OLDROOT/dev/$name", "$dev/$name", $none, 0x1000, $empty) or fail("device $name");
  }
  symlink "/proc/self/fd/$_->[1]", "$dev/$_->[0]" for ['stdin', 0], ['stdout', 1], ['stderr', 2];
  symlink '/proc/self/fd', "$dev/fd";
  symlink '/proc/kcore', "$dev/core";
  mkdir "$dev/shm", 0755;
  mkdir "$dev/pts", 0755;
  mounted('devpts', "$dev/pts", 'devpts', 10, 'newinstance,ptmxmode=0666,mode=620') or fail('pts');
  symlink 'pts/ptmx', "$dev/ptmx";
}
my %do = (
  'bind' => \&bind, 'ro-bind' => \&bind, 'dev-bind' => \&bind,
  symlink => sub {
    my (undef, $to, $path) = @_;
    folders(parent("$NEWROOT$path"));
    symlink $to, "$NEWROOT$path" or fail("link $path");
  },
  dir => sub { folders("$NEWROOT$_[1]") },
  dev => sub { devices($_[1]) },
  proc => sub {
    folders("$NEWROOT$_[1]");
    mounted('proc', "$NEWROOT$_[1]", 'proc', 14, $empty) or fail('mount proc');
  },
  tmpfs => sub {
    my (undef, $path, $mode, $bytes) = @_;
    folders("$NEWROOT$path");
    my $data = sprintf 'mode=0%o', defined $mode ? $mode : 0755;
    $data .= ",size=$bytes" if $bytes;
    mounted('tmpfs', "$NEWROOT$path", 'tmpfs', 6, $data) or fail("tmpfs $path");
  },
  'remount-ro' => sub {
    attributes($NEWROOT . ($_[1] eq '/' ? '' : $_[1]), 0, 1) or fail("read-only $_[1]");
  },
);

my $umask = umask 0;
mounted($none, '/', $none, 0x8C000, $empty) or fail('private mounts');
mounted('tmpfs', '/tmp', 'tmpfs', 6, 'mode=0755') or fail('base');
chdir '/tmp' or fail('base');
mkdir 'newroot', 0755;
mkdir 'oldroot', 0755;
my ($here, $old) = ('.', 'oldroot');
sys('pivot', $here, $old) or fail('pivot');
chdir '/';
mounted('newroot', $NEWROOT, $none, 0x5000, $empty) or fail('root');
if ($spaces & $space{net}) {
  my ($socket, $up) = (undef, pack 'a16 s x22', 'lo', 0x41);
  socket($socket, 2, 2, 0) && ioctl($socket, 0x8914, $up) or fail('loopback');
}
if (defined $opt{hostname}) {
  my $name = $opt{hostname};
  sys('hostname', $name, length $name) or fail('host name');
}
$do{$_->[0]}->($_->[0], @$_[1 .. $#$_]) for @ops;
if ($opt{'disable-userns'}) {
  # No process in here ever has the capability to raise it again.
  spill("$OLDROOT/proc/sys/user/max_user_namespaces", '0') or fail('disabling namespaces of users');
}
sys('umount', $OLDROOT, 2) or fail('the old root');
chdir $NEWROOT or fail('root');
sys('pivot', $here, $here) or fail('root');
sys('umount', $here, 2) or fail('root');
chdir '/';
chdir($opt{chdir} || '/') or fail("folder $opt{chdir}");
umask $umask;
syscall($nr{setsid}) if $opt{'new-session'};
drop_capabilities();
prctl(38, 1) or fail('no new privileges');
if ($block) {
  my $got = sysread $block, my $start, 1;
  $got or exit 1;
  close $block;
}
%ENV = () if $opt{clearenv};
@ENV{keys %env} = values %env;
$ENV{PWD} = $opt{chdir} if defined $opt{chdir};
if (defined $filter) {
  my $program = pack('S x6 P', length($filter) / 8, $filter);
  sys('seccomp', 1, 0, $program) or fail('the filter');
}
if ($opt{'as-pid-1'}) { exec { $command[0] } @command; fail("exec $command[0]") }
pipe(my $started, my $start) or fail('pipe');
my $first = fork;
defined $first or fail('fork');
if ($first == 0) {
  exec { $command[0] } @command;
  print STDERR "sandbox: exec $command[0]: $!\\n"; # Before the byte: it ends us all.
  syswrite $start, 'x';
  exit 1;
}
close $start;
sysread($started, my $failed, 1) and exit 1;
while ((my $pid = wait) > 0) {
  next if $pid != $first;
  syswrite $tell, pack('l', ($? & 127) ? 128 + ($? & 127) : $? >> 8);
  last;
}
exit 0;
`;

/** In the order the script takes them: unshare, mount, umount2, pivot_root, prctl, seccomp,
 *  capset, sethostname, setsid. mount_setattr is 442 everywhere. */
const callNumbers: Readonly<Record<string, readonly number[]>> = {
  x64: [272, 165, 166, 155, 157, 317, 126, 170, 112],
  arm64: [97, 40, 39, 41, 167, 277, 91, 161, 157],
};

/** Whether the builder knows this processor. */
export function canBuild(arch: string): boolean {
  return Object.hasOwn(callNumbers, arch);
}

/** The command that takes bubblewrap's arguments. Pure. */
export function toBuilderCommand(perl: string, arch: string): string[] {
  const numbers = callNumbers[arch];
  assert(numbers !== undefined, 'building was decided where its calls are known');
  return [perl, '-e', BUILDER_SCRIPT, ...numbers.map(String)];
}
