/** The worker process. The first import takes stdout away from everyone else. It lives as long as
 *  the pipe to its supervisor: at end of file, or at the first violation of the protocol, it
 *  exits at once, whatever it was doing; the next worker goes on from the journal. */
import './stdio.ts';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { config } from 'zod';
import { realClock } from '../base/clock.ts';
import { createStreamTransport } from '../protocol/transport.ts';
import { readConfinement } from './confinement.ts';
import { serveWorker } from './session.ts';
import { framesIn, framesOut } from './stdio.ts';
import { warmUp } from './warm-up.ts';

/** The supervisor sent something that is not the protocol (EX_PROTOCOL of sysexits). */
const EXIT_PROTOCOL = 76;

// A schema compiled to code pays off after hundreds of messages; a worker sees a few dozen.
config({ jitless: true });

const connection = serveWorker({
  transport: createStreamTransport(framesIn, framesOut),
  clock: realClock,
  pid: process.pid,
  confinement: readConfinement(process),
  readRssBytes: () => process.memoryUsage.rss(),
  collect: collectGarbage,
  onWarm: () => void warmUp(realClock),
});

/** The flag is set when it is needed: at the start it would make the bundle's code cache void. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

// The build runs this once, so that the code cache of the bundle holds what a turn needs.
if (process.argv.includes('--warm-up')) void warmUp(realClock).then(() => process.exit(0));

// No top-level await: the process is shipped as a CommonJS bundle.
void connection.closed.then((reason) => {
  if (process.argv.includes('--warm-up')) return;
  if (reason.kind !== 'protocol') process.exit(0);
  const { code, message } = reason.error;
  const line = { level: 'error', room: 'worker', event: 'worker.protocol_violated', code, message };
  process.stderr.write(`${JSON.stringify(line)}\n`);
  process.exit(EXIT_PROTOCOL);
});
