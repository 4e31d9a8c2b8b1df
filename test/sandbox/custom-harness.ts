/** Tool files of a test: written to a folder of their own, described by the real sandbox program,
 *  and shown to a real host. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realClock } from '../../base/clock.ts';
import { realProcesses } from '../../base/process.ts';
import { toCustomToolName } from '../../protocol/custom-names.ts';
import type { CustomTools, Description } from '../../protocol/custom-tools.ts';
import { noNetwork } from '../../protocol/network.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { describeTools } from '../../supervisor/custom/describe.ts';
import { listToolFiles } from '../../supervisor/custom/files.ts';
import { findPrograms, toHostSpec } from '../../supervisor/launch.ts';
import { programs as built } from '../programs.ts';

const MIB = 2 ** 20;

export interface ToolFolder {
  readonly folder: string;
  /** By the name of its file. */
  readonly said: ReadonlyMap<string, Description>;
  /** For a session with all of the tools. */
  readonly custom: CustomTools;
  write(name: string, text: string): void;
  close(): void;
}

/** @param texts  by file name. */
export async function openToolFolder(
  texts: Readonly<Record<string, string>>,
  options: { readonly uid?: number; readonly heapMib?: number; readonly timeoutMs?: number } = {},
): Promise<ToolFolder> {
  const { uid, heapMib = 64, timeoutMs = 60_000 } = options;
  const base = mkdtempSync(join(tmpdir(), 'prx-tools-'));
  // As in a home: nobody else can come here.
  const folder = join(base, 'tools');
  mkdirSync(folder);
  chmodSync(base, 0o700);
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  for (const [name, text] of Object.entries(texts)) write(name, text);
  if (uid !== undefined) for (const path of [base, folder]) chownSync(path, uid, uid);
  const { roots, files } = listToolFiles([folder], undefined);
  const heapBytes = heapMib * MIB;
  const policy = toPolicy({ roots: [...roots], tools: [], heapBytes });
  const programs = findPrograms(built.supervisor, process.execPath);
  const spec = toHostSpec(programs, { PATH: process.env['PATH'] });
  const user = uid === undefined ? {} : { uid, gid: uid };
  const said = await describeTools(
    {
      spec: { ...spec, process: { ...spec.process, ...user } },
      processes: realProcesses,
      clock: realClock,
    },
    { policy, files: [...files], heapBytes, timeoutMs, totalMs: 120_000 },
  );
  const named = files.map((file, index) => ({ file, description: said[index] }));
  return {
    folder,
    said: new Map(
      named.flatMap(({ file, description }) =>
        description === undefined ? [] : [[file.path, description]],
      ),
    ),
    custom: {
      roots: [...roots],
      tools: named.flatMap(({ file, description }) =>
        description?.kind === 'tool'
          ? [{ ...file, name: toCustomToolName(description.name), digest: description.digest }]
          : [],
      ),
      heapBytes,
    },
    write,
    close: () => rmSync(base, { recursive: true, force: true }),
  };
}

function toPolicy(custom: CustomTools): SandboxPolicy {
  return {
    backend: 'bubblewrap',
    workspace: '',
    readOnlyPaths: [],
    writablePaths: [],
    hiddenPaths: [],
    protectedPaths: [],
    envAllowlist: [],
    env: {},
    timeoutMs: 60_000,
    memoryLimitBytes: 0,
    cpuMs: 0,
    diskBytes: 0,
    filesMax: 0,
    maxPids: 256,
    backgroundMax: 0,
    backgroundTimeoutMs: 0,
    maxOutputBytes: 65_536,
    tmpBytes: 64 * MIB,
    network: noNetwork,
    custom,
  };
}

/** The text of a tool file with this body of `run`. */
export function toTool(name: string, run: string, more = ''): string {
  return `
    import { writeFileSync, readFileSync } from 'node:fs';
    import { defineTool, z } from 'prx-supervisor/tools';
    ${more}
    export default defineTool({
      name: ${JSON.stringify(name)},
      description: 'A tool of a test.',
      effect: 'read',
      schema: z.object({ text: z.string().default('') }),
      async run(input, { signal, workspace, log }) { ${run} },
    });
  `;
}
