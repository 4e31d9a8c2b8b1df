/** The ends of simulated pipes and sockets as streams. */
import { Duplex, Writable, type WritableOptions } from 'node:stream';
import { createPipe, type Pipe, type PipeDeps } from './pipe.ts';

/** A connected socket: two pipes. */
export interface Link {
  readonly ours: Duplex;
  readonly theirs: Duplex;
  hangUp(): void;
  release(): void;
}

interface LinkDeps extends PipeDeps {
  readonly isHeld: () => boolean;
}

export function createLink(deps: LinkDeps): Link {
  const { isHeld } = deps;
  let open = true;
  const toUs = createPipe(deps, { isHeld, take: (chunk) => void ours.push(chunk ?? null) });
  const toThem = createPipe(deps, { isHeld, take: (chunk) => void theirs.push(chunk ?? null) });
  const createEnd = (pipe: Pipe): Duplex =>
    new Duplex({ read: () => undefined, ...toSink(() => open, pipe) }).on('error', () => undefined);
  const ours = createEnd(toThem);
  const theirs = createEnd(toUs);
  return {
    ours,
    theirs,
    hangUp() {
      open = false;
      toUs.end();
      toThem.end();
    },
    release() {
      toUs.release();
      toThem.release();
    },
  };
}

/** The writing end of a pipe; broken when the other end is gone. */
export function createWritable(isOpen: () => boolean, pipe: Pipe): Writable {
  return new Writable(toSink(isOpen, pipe)).on('error', () => undefined);
}

function toSink(isOpen: () => boolean, pipe: Pipe): Pick<WritableOptions, 'write' | 'final'> {
  return {
    write(chunk: Buffer, _encoding, done) {
      if (isOpen()) {
        pipe.write(chunk);
        done();
      } else done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    },
    final(done) {
      pipe.end();
      done();
    },
  };
}
