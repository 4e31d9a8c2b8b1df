/** The built command line of a bench, as a person runs it. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Bench } from './harness.ts';

export interface Told {
  readonly code: number | null;
  /** What came on standard output and standard error. */
  readonly out: string;
}

/** @param input  on its standard input, which then ends. */
export async function runCli(bench: Bench, args: readonly string[], input = ''): Promise<Told> {
  const config = join(bench.dir, 'config.toml');
  const child = spawn(process.execPath, [join(bench.dir, 'dist/cli.js'), ...args], {
    env: {
      ...{ PATH: process.env['PATH'], HOME: bench.dir },
      ...{ PRX_CONFIG: config, PRX_STATE_DIR: bench.stateDir },
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(bench.uid === undefined ? {} : { uid: bench.uid, gid: bench.uid }),
  });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
  }
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, out };
}
