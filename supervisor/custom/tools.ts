/** The user's own tools: what their files said when they were last read (at the start, at a reload,
 *  when a sandbox came), and which of them an agent may use. A file that says nothing of use costs
 *  its tool and nothing else. */
import type { Logger } from '../../base/logger.ts';
import { toCustomToolName } from '../../protocol/custom-names.ts';
import type { CustomFile, CustomTools, Description } from '../../protocol/custom-tools.ts';
import { noNetwork } from '../../protocol/network.ts';
import type { StatusView } from '../../protocol/resources.ts';
import type { SandboxLevel } from '../../protocol/sandbox-levels.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { isToolName, type ToolSpec } from '../../protocol/tools.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import type { AgentConfig, Config } from '../config.ts';
import { type CustomToolFacts, isCustomOffered } from '../effects/custom-policy.ts';
import type { CustomGate, SandboxStanding } from '../effects/ports.ts';
import { agentOf } from '../settings.ts';
import { type DescribePorts, describeTools } from './describe.ts';
import { listToolFiles, type ToolFiles, toFilePath } from './files.ts';

export interface CustomToolBook extends Pick<CustomGate, 'find' | 'names'> {
  /** Reads the files that this configuration names; nothing changes. Never rejects. */
  read(config: Config): Promise<CustomReading>;
  /** From now on these. The files of which something else is known now, or nothing any more. */
  use(reading: CustomReading): readonly string[];
  /** The manifest with the tools that its agent may use. */
  extend(manifest: AgentManifest): AgentManifest;
  /** The policy with the files of the tools that this agent may use. */
  show(policy: SandboxPolicy, agent: string): SandboxPolicy;
  /** Empty where none are configured. */
  status(): Pick<StatusView, 'custom_tools'>;
}

interface Tool extends CustomFile, CustomToolFacts {
  readonly spec: ToolSpec;
}

export interface CustomReading {
  readonly roots: readonly string[];
  readonly tools: ReadonlyMap<string, Tool>;
  readonly status: NonNullable<StatusView['custom_tools']>;
}

export interface CustomToolDeps extends DescribePorts {
  readonly logger: Logger;
  readonly config: () => Config;
  readonly standing: () => SandboxStanding;
  /** At which files are run to say what their tools are. */
  readonly startLevel: () => SandboxLevel;
}

/** To load one file, and all of them. */
const FILE_MS = 5000;
const ALL_MS = 20_000;
const NOTHING: CustomReading = { roots: [], tools: new Map(), status: [] };

export function createCustomTools(deps: CustomToolDeps): CustomToolBook {
  let known = NOTHING;

  function listOffered(agent: AgentConfig): readonly Tool[] {
    const { level, network } = deps.standing();
    return [...known.tools.values()]
      .filter(({ spec }) => isCustomToolListed(agent.listedTools, spec.name))
      .filter(({ spec }) =>
        isCustomOffered(deps.config().policy, { tool: spec.name, level, network }),
      );
  }

  return {
    async read(config) {
      const { paths } = config.raw.custom_tools;
      if (paths.length === 0) return NOTHING;
      const found = listToolFiles(paths, config.file);
      const order = {
        policy: toDescribePolicy(config, found.roots, deps.startLevel()),
        files: [...found.files],
        heapBytes: toHeapBytes(config),
        ...{ timeoutMs: FILE_MS, totalMs: ALL_MS },
      };
      const said = found.files.length === 0 ? [] : await describeTools(deps, order);
      const reading = toReading(found, said);
      for (const { file, problem } of reading.status) {
        if (problem !== undefined) deps.logger.warn('custom_tools.refused', { file, problem });
      }
      deps.logger.info('custom_tools.read', { tools: [...reading.tools.keys()] });
      return reading;
    },
    use(reading) {
      const changed = findChangedFiles(known, reading);
      known = reading;
      return changed;
    },
    find(tool) {
      const found = known.tools.get(tool);
      return found === undefined ? undefined : { effect: found.effect, digest: found.digest };
    },
    names: (agent) => listOffered(agent).map(({ spec }) => spec.name),
    extend(manifest) {
      const agent = agentOf(deps.config(), manifest.agent);
      const own = listOffered(agent).map(({ spec }) => spec);
      return own.length === 0 ? manifest : { ...manifest, tools: [...manifest.tools, ...own] };
    },
    show(policy, agent) {
      const tools = listOffered(agentOf(deps.config(), agent));
      if (tools.length === 0) return policy;
      const custom: CustomTools = {
        roots: [...known.roots],
        tools: tools.map(({ spec, root, path, digest }) => ({
          name: spec.name,
          ...{ root, path, digest },
        })),
        heapBytes: toHeapBytes(deps.config()),
      };
      // Who could write a tool file could give himself whatever its tool is allowed.
      const protectedPaths = [...policy.protectedPaths, ...known.roots];
      return { ...policy, protectedPaths, custom };
    },
    status: () => (known.status.length === 0 ? {} : { custom_tools: [...known.status] }),
  };
}

/** Pure. */
export function toReading(found: ToolFiles, said: readonly Description[]): CustomReading {
  const { roots, files } = found;
  const named = files.map((file, index) => {
    const description = said[index] ?? { kind: 'refused', problem: 'nothing was said of it' };
    return { file, path: toFilePath(roots, file), description };
  });
  const owners = Map.groupBy(named, ({ description }) =>
    description.kind === 'tool' ? description.name : undefined,
  );
  const tools = new Map<string, Tool>();
  const status = named.map(({ file, path, description }) => {
    if (description.kind === 'refused') return { file: path, problem: description.problem };
    const { description: text, parameters, effect, digest } = description;
    const others = (owners.get(description.name) ?? []).filter((each) => each.path !== path);
    const clash = findClash(
      description.name,
      others.map((each) => each.path),
    );
    if (clash !== undefined) return { file: path, problem: clash };
    const name = toCustomToolName(description.name);
    tools.set(name, { ...file, effect, digest, spec: { name, description: text, parameters } });
    return { file: path, tool: name, effect, digest };
  });
  return { roots, tools, status: [...status, ...found.problems] };
}

function findChangedFiles(before: CustomReading, after: CustomReading): readonly string[] {
  const [earlier, later] = [before, after].map(
    ({ status }) => new Map(status.map((each) => [each.file, JSON.stringify(each)])),
  );
  const files = new Set([...(earlier?.keys() ?? []), ...(later?.keys() ?? [])]);
  return [...files].filter((file) => earlier?.get(file) !== later?.get(file));
}

/** A name that stands for two things would be a guess which one is meant. */
function findClash(name: string, others: readonly string[]): string | undefined {
  if (isToolName(name)) {
    return `its name '${name}' is that of a built-in tool; give it another name`;
  }
  if (others.length === 0) return undefined;
  const where = others.join(', ');
  return `its name '${name}' is also that of the tool in ${where}; none of them is used`;
}

/** Nothing but the files themselves. */
function toDescribePolicy(
  { raw }: Config,
  roots: readonly string[],
  level: SandboxLevel,
): SandboxPolicy {
  const { sandbox } = raw.security;
  return {
    backend: level,
    workspace: '',
    readOnlyPaths: [],
    writablePaths: [],
    hiddenPaths: [],
    protectedPaths: [],
    envAllowlist: [],
    env: {},
    timeoutMs: FILE_MS,
    memoryLimitBytes: sandbox.memory_limit_mb * 2 ** 20,
    cpuMs: 0,
    diskBytes: 0,
    filesMax: 0,
    maxPids: sandbox.max_pids,
    backgroundMax: 0,
    backgroundTimeoutMs: 0,
    maxOutputBytes: sandbox.max_output_bytes,
    tmpBytes: sandbox.max_disk_mb * 2 ** 20,
    network: noNetwork,
    custom: { roots: [...roots], tools: [], heapBytes: 0 },
  };
}

function toHeapBytes({ raw }: Config): number {
  return raw.custom_tools.memory_limit_mb * 2 ** 20;
}

/** May an agent with this list of tools ask for this one? `custom` stands for all of them. */
function isCustomToolListed(tools: readonly string[] | undefined, tool: string): boolean {
  return tools === undefined || tools.includes('custom') || tools.includes(tool);
}
