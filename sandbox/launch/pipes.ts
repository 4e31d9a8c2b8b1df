/** Real pipes for a command's output. The runtime connects children by socket pairs, and a socket
 *  cannot be opened again by name: `echo x > /dev/stderr`, which scripts do, would fail. So we
 *  make FIFOs, open both ends, and take their names away. */
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { PrxError } from '../../base/errors.ts';
import { spawnQuick } from '../../base/process.ts';
import type { Random } from '../../base/random.ts';

export interface OutputPipe {
  readonly output: Readable;
  /** The writer's descriptor, for the child; ours is closed by `closeWriter` after the start. */
  readonly writerFd: number;
  closeWriter(): void;
}

export interface PipeSource {
  take(): Promise<OutputPipe>;
}

export interface PipeSourceSpec {
  /** Where unborn pipes stand for a moment; only we can reach it. */
  readonly folder: string;
  readonly mkfifo: string;
  readonly random: Random;
  /** How many one start of mkfifo (about 1 ms) makes. */
  readonly batch: number;
}

export function createPipeSource(spec: PipeSourceSpec): PipeSource {
  const { folder, mkfifo, random } = spec;
  const names: string[] = [];
  let making: Promise<void> | undefined;

  async function makeBatch(): Promise<void> {
    const batch = Array.from({ length: spec.batch }, () => join(folder, `pipe-${random.hex(8)}`));
    const { exited } = await spawnQuick({
      command: mkfifo,
      // Anyone may open it again by /proc/self/fd, which is the purpose; nobody by its name.
      args: ['-m', '666', '--', ...batch],
      env: {},
      ownSession: false,
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    const { code } = await exited;
    if (code !== 0) throw new PrxError('SPAWN_FAILED', `mkfifo in ${folder} ended with ${code}`);
    names.push(...batch);
  }

  return {
    async take() {
      while (names.length === 0) {
        making ??= makeBatch().finally(() => {
          making = undefined;
        });
        await making;
      }
      const name = names.pop() ?? '';
      return openPipe(name);
    },
  };
}

function openPipe(name: string): OutputPipe {
  const readerFd = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
  const writerFd = openSync(name, constants.O_WRONLY);
  unlinkSync(name);
  let open = true;
  return {
    output: new Socket({ fd: readerFd, readable: true, writable: false }),
    writerFd,
    closeWriter() {
      if (open) closeSync(writerFd);
      open = false;
    },
  };
}
