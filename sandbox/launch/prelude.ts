/** What root does before it stops being root: in a private mount namespace, stage the workspace
 *  and our own files under one folder that the tools' user can reach, then drop to that user and
 *  become bubblewrap. Files of root get the tool's uid by an idmapped mount, so nothing on disk
 *  changes owner or mode. The three calls this needs have no command in util-linux before 2.39;
 *  perl-base, which every Debian and Ubuntu has, can make them. */
import { assert } from '../../base/assert.ts';
import type { Identity, StageKind } from './identity.ts';

export interface StageItem {
  readonly kind: StageKind;
  readonly source: string;
  /** File name on the stage. */
  readonly name: string;
}

/** Covered by the stage inside the private namespace: no workspace and no program lives there. */
export const STAGE = '/sys';

/** Lines on standard output before the payload's own: `unmapped NAME REASON`, `missing NAME
 *  REASON`, or `fail WHAT REASON` and exit 70. */
const PRELUDE_SCRIPT = String.raw`
use strict;
my ($unshare, $mount, $uid, $gid, $stage, $size, $count, @rest) = @ARGV;
$_ += 0 for $unshare, $mount, $uid, $gid;
my ($empty, $none, $root, $tmpfs) = ('', 'none', '/', 'tmpfs');
$| = 1;
sub fail { print "fail $_[0] $!\n"; exit 70 }

syscall($unshare, 0x20000) == 0 or fail('unshare');
syscall($mount, $none, $root, 0, 0x44000, 0) == 0 or fail('private');

my $userns;
sub userns {
  return $userns if $userns;
  pipe(my $ready, my $tell) && pipe(my $wait, my $free) or fail('pipe');
  my $pid = fork;
  defined $pid or fail('fork');
  if ($pid == 0) {
    close $free;
    syswrite $tell, syscall($unshare, 0x10000000) == 0 ? 'y' : 'n';
    sysread $wait, my $byte, 1;
    kill 'KILL', $$;
  }
  # Its death must be the end of what we read.
  close $tell;
  close $wait;
  sysread($ready, my $byte, 1) or $! = 3, fail('userns');
  for (['uid_map', $uid], ['gid_map', $gid]) {
    my ($file, $id) = @$_;
    open my $map, '>', "/proc/$pid/$file" or next;
    my $all = "0 $id 1\n1 1 " . ($id - 1) . "\n" . ($id + 1) . ' ' . ($id + 1) . ' ';
    syswrite($map, $all . (4294967294 - $id) . "\n") or syswrite($map, "0 $id 1\n");
  }
  open $userns, '<', "/proc/$pid/ns/user" or fail('userns');
  close $free;
  waitpid $pid, 0;
  return $userns;
}

sub attr {
  my ($fd, $set, $ns) = @_;
  my $attr = pack('Q4', $set, 0, 0, $ns);
  return syscall(442, $fd, $empty, 0x9000, $attr, 32) == 0;
}

my @trees;
for (1 .. $count) {
  my ($kind, $source, $name) = splice @rest, 0, 3;
  my $fd = syscall(428, -100, $source, 0x88001);
  if ($fd < 0) { print "missing $name $!\n"; next }
  my $flags = 6 | ($kind =~ /read-only/ ? 1 : 0);
  my $done = 0;
  if ($kind =~ /^map/) {
    $done = attr($fd, 0x100000 | $flags, fileno userns());
    if (!$done) { print "unmapped $name $!\n"; $flags |= 1 }
  }
  $done or attr($fd, $flags, 0) or fail("attributes of $name");
  push @trees, [$fd, $name, -d $source];
}

my $options = "mode=0755,size=$size";
syscall($mount, $tmpfs, $stage, $tmpfs, 6, $options) == 0 or fail('stage');
mkdir "$stage/$_" for qw(slots etc pipes);
for (@trees) {
  my ($fd, $name, $folder) = @$_;
  my $place = "$stage/$name";
  my $above = $stage;
  for my $part (split m{/}, $name =~ m{^(.*)/} ? $1 : '') { $above .= "/$part"; mkdir $above }
  if ($folder) { mkdir $place } else { open my $file, '>', $place }
  syscall(429, $fd, $empty, -100, $place, 4) == 0 or fail("place of $name");
}

$) = "$gid $gid";
$( = $gid;
($<, $>) = ($uid, $uid);
my @groups = split ' ', $);
$< == $uid && $> == $uid && !(grep { $_ != $gid } @groups) or fail('drop');
chdir '/';
exec { $rest[0] } @rest;
fail("exec $rest[0]");
`;

/** Numbers of unshare and mount; those of open_tree and its kin are the same everywhere. The
 *  module that could tell them to perl costs 8 ms to load. */
const syscallNumbers: Readonly<Record<string, readonly [number, number]>> = {
  x64: [272, 165],
  arm64: [97, 40],
};

/** Whether the prelude knows this processor. */
export function canStage(arch: string): boolean {
  return Object.hasOwn(syscallNumbers, arch);
}

/** The command line that stages, drops, and becomes `command`. Pure. */
export function toPreludeCommand(options: {
  readonly perl: string;
  /** As the runtime names it: x64, arm64. */
  readonly arch: string;
  readonly identity: Identity;
  readonly stageBytes: number;
  readonly items: readonly StageItem[];
  readonly command: readonly string[];
}): string[] {
  const { identity, items, command } = options;
  assert(identity.uid !== 0 && identity.gid !== 0, 'the prelude drops root');
  const numbers = syscallNumbers[options.arch];
  assert(numbers !== undefined, 'staging was decided where its calls are known');
  return [
    ...[options.perl, '-e', PRELUDE_SCRIPT, ...numbers.map(String)],
    ...[String(identity.uid), String(identity.gid)],
    ...[STAGE, String(options.stageBytes), String(items.length)],
    ...items.flatMap(({ kind, source, name }) => [kind, source, name]),
    ...command,
  ];
}

export interface PreludeReport {
  /** Names that are shown with their real owners, hence read-only. */
  readonly unmapped: readonly { readonly name: string; readonly reason: string }[];
  readonly missing: readonly string[];
  readonly failure: string | undefined;
}

/** Reads what the prelude said before the payload's first line. Pure. */
export function parsePreludeReport(lines: readonly string[]): PreludeReport {
  const words = lines.map((line) => line.split(' '));
  const of = (kind: string) => words.filter(([first]) => first === kind);
  return {
    unmapped: of('unmapped').map(([, name = '', ...reason]) => ({
      name,
      reason: reason.join(' '),
    })),
    missing: of('missing').map(([, name = '']) => name),
    failure: of('fail')[0]?.slice(1).join(' '),
  };
}
