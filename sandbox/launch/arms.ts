/** The two arms of a level's probe: one small program tries to get out. Without the level it must
 *  succeed in everything, or it would prove nothing; within the level it must fail in everything
 *  that the level promises to hold. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import { findIdentity, spawnQuick } from '../../base/process.ts';
import { toProbeFolderPrefix } from '../../protocol/host-folders.ts';
import type { OfferedLevel } from '../../protocol/sandbox-levels.ts';
import type { Backend } from './backend.ts';
import { killProcess, listProcesses, readCommandLine } from './process-tree.ts';
import { readText } from './prove.ts';
import { quote } from './quote.ts';

const escapes = ['read', 'write', 'connect', 'signal', 'leave'] as const;
export type Escape = (typeof escapes)[number];

/** What may not succeed at each level. */
const held: Readonly<Record<OfferedLevel, readonly Escape[]>> = {
  bubblewrap: escapes,
  unshare: escapes,
  landlock: escapes,
  'limits-only': ['leave'],
};

/** Says what it could do. The one it leaves behind has another group and nothing of ours in its
 *  environment; it waits until that one runs. */
const ARMS_SCRIPT = String.raw`
my ($folder, $port, $victim, $mark) = @ARGV;
my (@did, $socket);
push @did, 'read' if open my $from, '<', "$folder/canary";
push @did, 'write' if open my $to, '>', "$folder/written";
push @did, 'connect' if socket($socket, 2, 1, 0)
  && connect($socket, pack 'S n C4 x8', 2, $port, 127, 0, 0, 1);
push @did, 'signal' if kill 0, $victim;
pipe my $started, my $start;
if (!fork) {
  setpgrp;
  %ENV = ();
  close $_ for *STDIN, *STDOUT, *STDERR;
  exec $^X, '-e', 'sleep 20', $mark;
}
close $start;
sysread $started, my $byte, 1;
print "did: @did\n";
`;

export interface Arena {
  /** A folder that belongs to the workspace's place; made for this. */
  readonly workspace: string;
  /** What succeeded. Throws SANDBOX_UNAVAILABLE when it could not be tried. */
  attack(backend: Backend): Promise<readonly Escape[]>;
  close(): void;
}

/** Where this process may try something out; by the name a sweep knows whose it was. */
export function toOwnProbePrefix(): string {
  const own = findIdentity(process.pid);
  if (own === undefined) throw untried('there is no /proc here');
  return join(tmpdir(), toProbeFolderPrefix(own));
}

/** What the arms reach for, on the real machine. */
export async function openArena(mark: string): Promise<Arena> {
  const base = mkdtempSync(toOwnProbePrefix());
  const [workspace, canaries] = [join(base, 'workspace'), join(base, 'canaries')];
  for (const folder of [workspace, canaries]) mkdirSync(folder);
  chmodSync(base, 0o755);
  chmodSync(canaries, 0o777);
  writeFileSync(join(canaries, 'canary'), 'canary', { mode: 0o644 });
  const server = createServer((socket) => socket.destroy());
  const port = await listen(server);
  return {
    workspace,
    async attack(backend) {
      // Of the tools' own user, or nobody could signal it in any case.
      const victim = await startVictim(backend.uid);
      try {
        const words = [canaries, String(port), String(victim.pid), mark].map(quote);
        const script = `exec perl -e ${quote(ARMS_SCRIPT)} ${words.join(' ')}\n`;
        const command = await backend.run(script);
        const said = readText(command.stderr);
        const text = await readText(command.stdout);
        await command.ended;
        const did = /^did:(.*)$/m.exec(text)?.[1];
        if (did === undefined) throw untried(await said);
        return escapes.filter((name) => did.split(' ').includes(name) || hasLeft(name, mark));
      } finally {
        victim.kill();
        for (const pid of findMarked(mark)) killProcess(pid);
        rmSync(join(canaries, 'written'), { force: true });
      }
    },
    close() {
      server.close();
      rmSync(base, { recursive: true, force: true });
    },
  };
}

/** Throws SANDBOX_UNAVAILABLE when the level lets something out, or when it cannot be known.
 *  @param without  what the same attack could do without it. */
export function checkArms(
  level: OfferedLevel,
  without: readonly Escape[],
  within: readonly Escape[],
): void {
  const unproven = held[level].filter((name) => !without.includes(name));
  if (unproven.length > 0) {
    throw untried(`without it, this did not succeed either: ${unproven.join(', ')}`);
  }
  const escaped = held[level].filter((name) => within.includes(name));
  if (escaped.length === 0) return;
  const reason = `level ${level} was built, and did not hold: ${escaped.join(', ')}`;
  const mend = 'use level bubblewrap';
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  throw new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}

function untried(said: string): PrxError {
  const reason = `its self-test could not be made: ${said.trim().slice(-300) || 'it said nothing'}`;
  const mend = 'use level bubblewrap';
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}

function hasLeft(name: Escape, mark: string): boolean {
  return name === 'leave' && findMarked(mark).length > 0;
}

function findMarked(mark: string): number[] {
  return listProcesses().filter((pid) => readCommandLine(pid).endsWith(`sleep 20\0${mark}\0`));
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Ends with our pipe to it. */
async function startVictim(uid: number) {
  const drops = process.getuid?.() === 0 && uid !== 0;
  const { child, pid } = await spawnQuick({
    command: '/bin/sh',
    args: ['-c', 'read line'],
    env: {},
    ownSession: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    ...(drops ? { uid, gid: uid } : {}),
  });
  child.stdin?.on('error', () => undefined);
  return { pid, kill: () => void child.kill('SIGKILL') };
}
