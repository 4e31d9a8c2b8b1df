/**
 * Builds dist/: one bundle per process we start, so that a start reads one file instead of hundreds.
 *
 * Each file carries its own V8 code cache (setup/self-loading.mjs): a worker is ready in 31 ms
 * instead of 38, also where NODE_COMPILE_CACHE cannot work, which is under the permission model and
 * in a sandbox with another user id. Everything is bundled but what ships a binary.
 *
 * Bundles are CommonJS, because vm.Script is what can take a code cache: no top-level await.
 * Runs in less than 3 s; started by setup.mjs, `npm run build` and `npm pack`.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { rolldown } from 'rolldown';
import { fillCodeCaches } from './setup/fill-code-cache.mjs';
import { toSelfLoading } from './setup/self-loading.mjs';
import { listSources } from './setup/stamps.mjs';
import { writeAtomic } from './setup/write-atomic.mjs';

const root = dirname(import.meta.dirname);
const dist = join(root, 'dist');

/**
 * What to run once after the build, so that the code cache holds the functions a start needs; each
 * of these ends by itself, since its standard input is empty. Others are compiled and not run.
 */
const starts = {
  cli: [['--version'], ['--help'], ['ps'], ['status']],
  supervisor: [['{}']],
  worker: [['--warm-up']],
  gateway: [[]],
  monitor: [[]],
  sandbox: [[], ['--run', '{}']],
  policy: [['{}']],
  mcp: [[]],
  files: [[]],
  custom: [[]],
};

/** One file each: they are handed into a place where nothing lies beside them. */
const selfContained = new Set(['worker', 'files', 'custom', 'writer', 'reader', 'piscina-worker']);

/**
 * Modules: what other programs import, and the thread that itself imports the user's modules, which
 * a vm.Script cannot. `tools` has the zod that is installed with us, for its types are that one's.
 */
const modules = {
  client: { source: 'api/client.ts', external: [] },
  tools: { source: 'protocol/define-tool.ts', external: ['zod'] },
  'custom-thread': { source: 'sandbox/inside/custom-thread-main.ts', external: [] },
};

/** Finds its binary beside itself; and three optional speed-ups that are loaded only if present. */
const external = [/^@vscode\/ripgrep/, /^@napi-rs\/nice/, 'bufferutil', 'utf-8-validate'];

/** Of dist/, with files of their own. */
const folders = new Set(['dashboard', 'types']);

/** A chunk of an earlier build may still be wanted by a process that runs: kept for a day. */
const staleChunkAgeMs = 24 * 3600 * 1000;

/** piscina starts its thread from a file beside its own, which in a bundle is another name. */
const piscinaThreadFile = {
  name: 'piscina-thread-file',
  transform(code, id) {
    if (!/\/piscina\/dist\/index\.js$/.test(id)) return null;
    const moved = code.replace("(__dirname, 'worker.js')", "(__dirname, 'piscina-worker.js')");
    if (moved === code) throw new Error(`${id}: the thread file is no longer where we look for it`);
    return { code: moved, map: null };
  },
};

/** `worker/main.ts` becomes dist/worker.js, and `store/writer-main.ts` dist/writer.js. */
function findEntries() {
  const mains = listSources(root)
    .filter((path) => /(^|[/-])main\.ts$/.test(path))
    .filter((path) => !Object.values(modules).some(({ source }) => source === path))
    .map((source) => {
      const folder = basename(dirname(source));
      return { name: basename(source, '.ts').replace(/-?main$/, '') || folder, source };
    });
  const entries = [
    ...mains,
    { name: 'piscina-worker', source: 'node_modules/piscina/dist/worker.js' },
  ];
  const twice = entries.find(
    ({ name }, index) => entries.findIndex((e) => e.name === name) < index,
  );
  if (twice !== undefined) throw new Error(`two entry points want dist/${twice.name}.js`);
  return entries;
}

async function bundle(entry) {
  const build = await rolldown({
    input: { [entry.name]: join(root, entry.source) },
    platform: 'node',
    external,
    plugins: [piscinaThreadFile],
    transform: {
      define: {
        'import.meta.main': '(require.main === module)',
        'process.env.NODE_ENV': '"production"',
      },
    },
    onLog: report,
  });
  const { output } = await build.generate({
    format: 'cjs',
    codeSplitting: !selfContained.has(entry.name),
    chunkFileNames: `chunk-${entry.name}-[name]-[hash].js`,
    comments: false,
    // import() of a real file from a vm.Script is experimental and says so; require() of ESM is not.
    dynamicImportInCjs: false,
    // Names stay: they are what makes the stack trace of a minified bundle readable.
    minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } },
  });
  await build.close();
  for (const file of output) writeAtomic(join(dist, file.fileName), toSelfLoading(file.code));
  return output.map((file) => file.fileName);
}

/** What `import 'prx-supervisor/client'` loads, and the others. Their declarations are made by
 *  `npm pack`, which has the seconds for it. */
async function bundleModule([name, { source, external }]) {
  const build = await rolldown({
    input: join(root, source),
    platform: 'node',
    external,
    onLog: report,
  });
  const { output } = await build.generate({ format: 'esm', codeSplitting: false });
  await build.close();
  for (const file of output) writeAtomic(join(dist, `${name}.mjs`), file.code);
  return [`${name}.mjs`];
}

/** The web page: its own folder, which the supervisor serves as it is. */
async function bundleDashboard() {
  const source = join(root, 'dashboard');
  const folder = join(dist, 'dashboard');
  const build = await rolldown({
    input: join(source, 'main.tsx'),
    platform: 'browser',
    onLog: report,
  });
  const { output } = await build.generate({ format: 'esm', codeSplitting: false, minify: true });
  await build.close();
  mkdirSync(folder, { recursive: true });
  for (const file of output) writeAtomic(join(folder, 'app.js'), file.code);
  for (const name of ['index.html', 'style.css']) {
    writeAtomic(join(folder, name), readFileSync(join(source, name), 'utf8'));
  }
  return ['app.js', 'index.html', 'style.css'].map((name) => join('dashboard', name));
}

function report(level, log) {
  // `import.meta.resolve` and the like inside libraries, in branches that we never take.
  if (log.code === 'EMPTY_IMPORT_META' && /node_modules/.test(log.id ?? log.message)) return;
  process.stderr.write(`build: ${level}: ${log.message}\n`);
}

function removeStale(written) {
  for (const name of readdirSync(dist)) {
    if (written.has(name) || name.startsWith('.') || folders.has(name)) continue;
    const path = join(dist, name);
    const ageMs = Date.now() - statSync(path).mtimeMs;
    if (!name.startsWith('chunk-') || ageMs > staleChunkAgeMs) rmSync(path, { recursive: true });
  }
}

const startedMs = performance.now();
mkdirSync(dist, { recursive: true });
const entries = findEntries();
const outcomes = await Promise.allSettled([
  ...entries.map(bundle),
  bundleDashboard(),
  ...Object.entries(modules).map(bundleModule),
]);
const written = new Set(['package.json', ...outcomes.flatMap(({ value = [] }) => value)]);
writeAtomic(join(dist, 'package.json'), '{ "type": "commonjs" }\n');
removeStale(written);
const bundledMs = performance.now();
const bundled = entries.filter((_, index) => outcomes[index].status === 'fulfilled');
const runs = bundled.flatMap(({ name }) => (starts[name] ?? []).map((args) => [name, ...args]));
await fillCodeCaches(dist, runs);
const bytes = [...written].reduce((sum, name) => sum + readFileSync(join(dist, name)).length, 0);
process.stderr.write(
  `build: ${written.size} files, ${(bytes / 1e6).toFixed(1)} MB, ` +
    `bundled in ${Math.round(bundledMs - startedMs)} ms, ` +
    `code caches filled in ${Math.round(performance.now() - bundledMs)} ms\n`,
);
for (const { reason } of outcomes.filter(({ status }) => status === 'rejected')) {
  process.stderr.write(`build: ${stripVTControlCharacters(reason.message)}\n`);
  process.exitCode = 1; // After the rest: whoever works on another program can go on.
}
