/** Runs mutations, each in a scratch copy of the tree and never in the tree itself. A finder must
 *  pass there first without any mutation: one that fails anyway finds nothing. */
import {
  chmodSync,
  constants,
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, sep } from 'node:path';
import { z } from 'zod';
import { realClock } from '../../base/clock.ts';
import { realProcesses } from '../../base/process.ts';
import { countOriginals, type Finder, type Mutation, mutate } from './mutation.ts';

export type Verdict = 'found' | 'SURVIVED' | 'not applicable' | 'finder broken';

export interface Result {
  readonly mutation: Mutation;
  readonly verdict: Verdict;
  /** What failed, or why nothing can be said. */
  readonly detail: string;
}

export interface Bench {
  /** The tree that is copied. */
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A finder that takes longer is ended: of a mutant it then counts as found, because a test that
 *  hangs is no pass. */
const DEADLINE_MS = 120_000;
/** Sooner than in a run of the tests: that a mutant hangs is found by the test's name. */
const TEST_MS = 60_000;
/** Of the output of a finder, for whoever wants to know why. */
const TEXT_CHARS_MAX = 8000;
const NOT_COPIED = ['node_modules', '.git', 'coverage'];

/** Takes mutations from `next` until there are none. */
export async function work(
  bench: Bench,
  next: () => Mutation | undefined,
  onResult: (result: Result) => void,
): Promise<void> {
  const scratch = copyTree(bench.root);
  const passing = new Map<string, Promise<Trial>>();
  try {
    for (let mutation = next(); mutation !== undefined; mutation = next()) {
      onResult({ mutation, ...(await judge(mutation, { ...bench, root: scratch }, passing)) });
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function copyTree(root: string): string {
  const scratch = mkdtempSync(join(tmpdir(), 'prx-mutate-'));
  // Some tests start a program of the tree as another user.
  chmodSync(scratch, 0o755);
  cpSync(root, scratch, {
    recursive: true,
    mode: constants.COPYFILE_FICLONE,
    preserveTimestamps: true,
    filter: (path) => !NOT_COPIED.includes(relative(root, path).split(sep)[0] ?? ''),
  });
  symlinkSync(join(root, 'node_modules'), join(scratch, 'node_modules'));
  return scratch;
}

async function judge(
  mutation: Mutation,
  bench: Bench,
  passing: Map<string, Promise<Trial>>,
): Promise<Omit<Result, 'mutation'>> {
  const { finder, file } = mutation;
  const path = join(bench.root, file);
  const text = readFileSync(path, 'utf8');
  const count = countOriginals(text, mutation);
  if (count !== 1) return { verdict: 'not applicable', detail: `its line stands ${count} times` };
  const key = JSON.stringify(finder);
  const before = passing.get(key) ?? tryFinder(finder, bench);
  passing.set(key, before);
  const { isPassed, detail } = await before;
  if (!isPassed) return { verdict: 'finder broken', detail: `it fails unmutated: ${detail}` };
  writeFileSync(path, mutate(text, mutation));
  try {
    const trial = await tryFinder(finder, bench);
    return { verdict: trial.isPassed ? 'SURVIVED' : 'found', detail: trial.detail };
  } finally {
    writeFileSync(path, text);
  }
}

interface Trial {
  readonly isPassed: boolean;
  readonly detail: string;
}

async function tryFinder(finder: Finder, bench: Bench): Promise<Trial> {
  if (finder.kind === 'simulation') return simulate(finder.runs, bench);
  return runTest(finder, bench);
}

async function simulate(runs: number, bench: Bench): Promise<Trial> {
  const args = ['--seed', 'mutation', '--runs', String(runs), '--jobs', '1'];
  const { code, text } = await runNode(['test/simulation/main.ts', ...args], bench);
  const broken = text.split('\n').find((line) => line.startsWith('SEED='));
  return { isPassed: code === 0, detail: broken ?? text.slice(-200).trim() };
}

const reportSchema = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  testResults: z.array(
    z.object({
      message: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
});

const JEST = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];

async function runTest(
  { file, name }: Extract<Finder, { kind: 'test' }>,
  bench: Bench,
): Promise<Trial> {
  const output = join(bench.root, 'mutation-report.json');
  rmSync(output, { force: true });
  const args = [
    file,
    '-w',
    '1',
    `--testTimeout=${TEST_MS}`,
    '--forceExit',
    '-t',
    toPattern(name),
    '--json',
    `--outputFile=${output}`,
  ];
  const { code, text } = await runNode([...JEST, 'node_modules/jest/bin/jest.js', ...args], bench);
  const report = findReport(output);
  if (report === undefined) return { isPassed: false, detail: `no report: ${text.slice(-300)}` };
  const { numPassedTests: passed, testResults } = report;
  const failed = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === 'failed')
    .map(({ fullName }) => fullName);
  if (code === 0 && passed === 0) return { isPassed: false, detail: 'no test has this name' };
  const said = failed.length > 0 ? failed.join('; ') : (testResults[0]?.message ?? '');
  return { isPassed: code === 0, detail: said.slice(0, 400) };
}

function findReport(path: string): z.infer<typeof reportSchema> | undefined {
  try {
    return reportSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    // It did not come so far.
    return undefined;
  }
}

/** Of a name as it stands in the source, where a table fills its places. */
function toPattern(name: string): string {
  const escaped = name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return escaped.replaceAll(/%[a-z%]|\\\$[a-zA-Z]+/g, '.*');
}

/** Ends all that it started, whatever became of it. */
async function runNode(
  args: readonly string[],
  { root, env }: Bench,
): Promise<{ readonly code: number | undefined; readonly text: string }> {
  const running = await realProcesses.start({
    command: process.execPath,
    args,
    cwd: root,
    env,
    ownSession: true,
  });
  let text = '';
  for (const stream of [running.stdout, running.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      text = (text + chunk).slice(-TEXT_CHARS_MAX);
    });
  }
  const end = (): void => void running.killGroup('SIGKILL');
  const timer = realClock.setTimer(DEADLINE_MS, end);
  const { code } = await running.exited;
  timer.cancel();
  end();
  return { code, text };
}
