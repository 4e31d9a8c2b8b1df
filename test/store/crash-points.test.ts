/** A SIGKILL before each system call that changes the journal: between a write and the sync behind
 *  it, between a sync and its answer, in a checkpoint, in a removal. One life of a real process
 *  leaves an image of its files before each such call (fixtures/io-shim.c); each image is then
 *  opened like the state directory of a process that was killed there. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realProcesses } from '../../base/process.ts';
import { exportOffline, verifyOffline } from '../../store/offline.ts';
import { type Folder, makeFolder, open } from './setup.ts';
import { renamed, sessionId } from './setup-events.ts';

const program = fileURLToPath(new URL('./fixtures/short-life.ts', import.meta.url));
const source = fileURLToPath(new URL('./fixtures/io-shim.c', import.meta.url));
const canCompile = existsSync('/usr/bin/gcc') || existsSync('/usr/local/bin/gcc');

interface Fact {
  readonly session: string;
  readonly seq: number;
  readonly data: { readonly name?: string };
}

let folder: Folder;

beforeAll(() => {
  folder = makeFolder();
  const shim = join(folder.path, 'shim.so');
  if (canCompile) execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', shim, source, '-ldl']);
});

afterAll(() => folder.remove());

/** Lives once. @returns the folders of its images, in order. */
async function takeImages(seed: string): Promise<readonly string[]> {
  const [stateDir, images] = [join(folder.path, seed), join(folder.path, `${seed}-images`)];
  for (const path of [stateDir, images]) mkdirSync(path);
  const running = await realProcesses.start({
    command: process.execPath,
    args: [program, stateDir, seed],
    env: {
      LD_PRELOAD: join(folder.path, 'shim.so'),
      PRX_SHIM_IMAGES: images,
      PRX_SHIM_FROM: stateDir,
    },
    ownSession: false,
  });
  let errors = '';
  running.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  running.stdout.resume();
  expect({ ...(await running.exited), errors }).toEqual({ code: 0, signal: undefined, errors: '' });
  const count = readdirSync(images).length;
  return Array.from({ length: count }, (_, index) => join(images, `${index + 1}`));
}

function readFacts(image: string): { readonly acked: readonly Fact[]; readonly asked: string } {
  const path = join(image, 'acks');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : [];
  const facts = lines.map((line) => JSON.parse(line) as Fact & { readonly asked?: string });
  return {
    acked: facts.filter(({ asked }) => asked === undefined),
    asked: facts.flatMap(({ asked }) => asked ?? []).join(),
  };
}

function readJournal(stateDir: string): readonly Fact[] {
  const found: Fact[] = [];
  exportOffline({ stateDir, clock: realClock, aside: false }, (line) => {
    const fact = JSON.parse(line) as Fact & { readonly type: string };
    if (fact.session !== 'system' && fact.type !== 'record') found.push(fact);
  });
  return found;
}

const toPlace = ({ session, seq, data }: Fact): string => JSON.stringify([session, seq, data]);

/** Whole, gapless, with all that was acknowledged, and each claim at most once. */
function check(image: string): readonly string[] {
  const { acked, asked } = readFacts(image);
  const report = verifyOffline({ stateDir: image, clock: realClock });
  const found = readJournal(image);
  const problems = report.problems.map(({ problem }) => problem);
  const places = new Set(found.map(toPlace));
  const isGone = (session: string): boolean => asked.includes('delete') && session === sessionId(3);
  for (const fact of acked) {
    if (!places.has(toPlace(fact)) && !isGone(fact.session)) problems.push(`lost ${toPlace(fact)}`);
  }
  const next = new Map<string, number>();
  for (const { session, seq } of found) {
    const expected = (next.get(session) ?? 0) + 1;
    if (seq !== expected) problems.push(`${session} has ${seq} where ${expected} was to come`);
    next.set(session, seq);
  }
  const claims = found.filter(({ session }) => session !== sessionId(9));
  const keys = claims.flatMap(({ data }) => (data.name?.startsWith('key-') ? [data.name] : []));
  if (new Set(keys).size !== keys.length) problems.push('a claim was taken twice');
  return problems;
}

/** Starts on the image, and sends every claim again, as a client does that had no answer. */
async function goOn(image: string): Promise<readonly string[]> {
  const stateDir = `${image}-again`;
  cpSync(image, stateDir, { recursive: true });
  const store = await open(stateDir);
  for (let step = 1; step <= 14; step += 1) {
    const key = `key-${step}`;
    const unique = { scope: 'test', key, digest: key };
    await store.append({ events: [renamed(key, 1)], unique });
  }
  await store.close();
  const problems = [...check(stateDir)];
  const names = readJournal(stateDir).filter(({ session }) => session !== sessionId(9));
  for (let step = 1; step <= 14; step += 1) {
    const count = names.filter(({ data }) => data.name === `key-${step}`).length;
    if (count !== 1) problems.push(`key-${step} stands ${count} times`);
  }
  return problems;
}

(canCompile ? describe : describe.skip)('a kill before any call that changes the journal', () => {
  it.each(['one', 'two'])(
    'leaves a whole prefix with all that was acknowledged, life %s (FAULTS 51)',
    async (seed) => {
      const images = await takeImages(seed);
      const whole = images.filter((image) => readFacts(image).acked.length > 0);
      expect(whole.length).toBeGreaterThan(100);
      const problems = whole.flatMap((image) => check(image).map((each) => `${image}: ${each}`));
      expect(problems).toEqual([]);
      // And what was never answered is asked for again: done once.
      for (let at = 0; at < whole.length; at += 12) {
        const image = whole[at] ?? '';
        expect([image, await goOn(image)]).toEqual([image, []]);
      }
    },
  );
});
