/** The scratch place of one run: a copy of this installation (so that every process of the run
 *  has its path in its command line, and a rebuild meanwhile changes nothing), a state dir, a
 *  config with small limits, and workspaces. Never the user's own state dir. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PrxError } from '../base/errors.ts';

export interface Home {
  readonly dir: string;
  readonly stateDir: string;
  /** The supervisor's TMPDIR: empty when all is over. */
  readonly tmpDir: string;
  readonly configFile: string;
  readonly supervisor: string;
  readonly logFile: string;
  /** Makes a workspace and returns its path. */
  createWorkspace(name: string): string;
  remove(): void;
}

/** @param here  folder of the running program: dist/, or chaos/ in the source tree
 *  @throws INTERNAL when this installation has no built programs. */
export function createHome(here: string): Home {
  const root = dirname(here);
  if (!existsSync(join(root, 'dist/supervisor.js'))) {
    const message = `this installation has no dist/supervisor.js below ${root}`;
    throw new PrxError('INTERNAL', `${message}; run npm run build, or install it again`);
  }
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'prx-chaos-')));
  cpSync(join(root, 'dist'), join(dir, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(dir, 'package.json'));
  const packages = findPackages(root);
  if (packages !== undefined) symlinkSync(packages, join(dir, 'node_modules'));
  const stateDir = join(dir, 'state');
  const tmpDir = join(dir, 'tmp');
  for (const path of [stateDir, tmpDir, join(dir, 'work')]) mkdirSync(path, { mode: 0o700 });
  return {
    dir,
    stateDir,
    tmpDir,
    configFile: join(dir, 'config.toml'),
    supervisor: join(dir, 'dist/supervisor.js'),
    logFile: join(dir, 'supervisor.log'),
    createWorkspace(name) {
      const path = join(dir, 'work', name);
      mkdirSync(path);
      return path;
    },
    remove: () => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }),
  };
}

/** The packages that are not bundled lie beside us, or further up where we are one ourselves. */
function findPackages(root: string): string | undefined {
  for (let at = root; ; at = dirname(at)) {
    const path = join(at, 'node_modules');
    if (existsSync(join(path, '@vscode/ripgrep'))) return path;
    if (at === dirname(at)) return undefined;
  }
}

const RESIDENT_MAX = 8;
/** A call of this run is killed after this long, seconds. */
const CALL_SECS_MAX = 10;

/** Limits so small that queueing, hibernation, time limits and retries happen all the time. */
export function writeConfig(home: Home, modelUrl: string): void {
  writeFileSync(
    home.configFile,
    `[agent]
model = "chaos"
session_timeout_secs = 120
stream_buffer_size = 16
[agent.limits]
max_concurrent_sessions = ${RESIDENT_MAX}
[agent.worker]
heartbeat_interval_secs = 1
max_restart_attempts = 1000
restart_window_secs = 2
idle_hibernate_secs = 1
warm_pool = 1
[agent.loop]
compaction_threshold_tokens = 60000
compaction_strategy = "truncate"
[provider]
base_url = "${modelUrl}"
connect_timeout_secs = 5
first_token_timeout_secs = 3
idle_timeout_secs = 2
total_timeout_secs = 60
max_retries = 10
retry_base_ms = 50
retry_max_ms = 1000
[security.tool_policy]
default = "allow"
tools.write_file = "supervised"
[security.approval]
timeout_secs = 20
[security.sandbox]
timeout_secs = ${CALL_SECS_MAX}
max_output_bytes = 8192
[log]
level = "info"
`,
  );
}
