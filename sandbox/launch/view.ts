/** What the policy's paths are on this machine, who the tools are, and what must be staged for
 *  them. Reads the disk once, at the start of a session. */
import { basename, dirname } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import { toForeignNotice, toOwnNotice, toReadOnlyNotice } from './advice.ts';
import {
  findHider,
  isInside,
  type PathFact,
  type RuntimeMount,
  SANDBOX_HOME,
  type SystemEntry,
  toEnvironment,
  type View,
} from './arguments.ts';
import { type EtcPlan, etcMount, planEtc } from './etc.ts';
import { type GuardedPath, surveyGuarded } from './guards.ts';
import { decideIdentity, decideStageKind, type Identity } from './identity.ts';
import { type PreludeReport, STAGE, type StageItem } from './prelude.ts';
import { NODE, type RuntimeFiles, toToolTarget } from './runtime-files.ts';
import { findPath, isWritable, type SurveyedPath, surveyRoots, surveySettings } from './survey.ts';

export interface ViewPlan {
  /** The workspace as it is on disk. */
  readonly workspace: string;
  /** False: the name above exists inside only. */
  readonly hasWorkspace: boolean;
  readonly identity: Identity;
  readonly system: readonly SystemEntry[];
  /** What stands on the stage. */
  readonly items: readonly StageItem[];
  readonly etc: EtcPlan;
  readonly searchProgram: string | undefined;
  readonly nodeProgram: string;
  /** The runtime as the cell finds it. */
  readonly runtime: string;
  /** The view, once the prelude has said what it could map. */
  toViews(report: PreludeReport, isFiltered: boolean): Views;
  toNotices(report: PreludeReport): string[];
}

export interface Views {
  readonly view: View;
  /** The same, with the hosts' own programs in it. */
  readonly fileHostView: View;
  /** The same as that, with the files of custom tools. */
  readonly toolHostView: View;
}

export interface ViewInput {
  readonly policy: SandboxPolicy;
  readonly files: RuntimeFiles;
  /** Whether root can prepare a stage here. */
  readonly canStage: boolean;
}

interface Shown {
  readonly surveyed: SurveyedPath;
  readonly access: 'write' | 'read-only' | 'resolver' | 'tool' | 'file-host' | 'custom';
  readonly name: string;
  readonly target: string;
}

const WORKSPACE = 'workspace';
/** Where there is no workspace: the home inside, whose files go with the sandbox. */
const NOWHERE: SurveyedPath = {
  path: SANDBOX_HOME,
  realPath: SANDBOX_HOME,
  kind: 'folder',
  owner: { uid: 0, gid: 0 },
};

/** Throws WORKSPACE_REFUSED when the workspace is no folder, SANDBOX_UNAVAILABLE when root has no
 *  way to become another user with it. */
export function planView(input: ViewInput): ViewPlan {
  const { policy, files, canStage } = input;
  const workspace = findWorkspace(policy.workspace);
  const host = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const identity = decideIdentity(host, workspace.owner);
  if (identity.drops && !canStage) throw noStage();
  const listed = surveyListed(policy);
  const settings = surveySettings();
  const system = surveyRoots();
  const shown: Shown[] = [
    ...(policy.workspace === '' ? [] : [toShownWorkspace(workspace)]),
    ...listed.writable.map((fact, i) => toShown(fact, 'write', `writable-${i}`)),
    ...listed.readOnly.map((fact, i) => toShown(fact, 'read-only', `read-only-${i}`)),
    ...surveyRuntime(files),
    ...surveyCustom(policy),
    ...(policy.network.mode === 'full' ? surveyResolver() : []),
  ];
  const { items, sourceOf } = identity.drops ? stageThem(shown) : stageTheirFolders(shown);
  return {
    workspace: workspace.realPath,
    hasWorkspace: workspace !== NOWHERE,
    identity,
    system,
    items,
    etc: planEtc(settings, listEtcPlaces(policy, listed)),
    searchProgram: files.search?.target,
    nodeProgram: files.interpreter.target,
    runtime: shown.filter((item) => item.target === NODE).map(sourceOf)[0] ?? process.execPath,
    toViews: (report, isFiltered) => {
      const refusal = findRefusal(report, { identity, workspace, policy });
      const paths = settings.map(({ path }) => path);
      const facts = { policy, workspace, shown, system, settings: paths, report, refusal };
      return toViews({ ...facts, isFiltered, sourceOf });
    },
    toNotices: (report) => {
      const refusal = findRefusal(report, { identity, workspace, policy });
      return [...(refusal === undefined ? [] : [refusal]), ...listed.refused];
    },
  };
}

interface Place {
  readonly identity: Identity;
  readonly workspace: SurveyedPath;
  readonly policy: SandboxPolicy;
}

/** Why the workspace cannot be written, with the mend. */
function findRefusal(report: PreludeReport, place: Place): string | undefined {
  const { identity, workspace, policy } = place;
  if (workspace === NOWHERE) return undefined;
  const { realPath } = workspace;
  if (policy.protectedPaths.some((path) => findPath(path)?.realPath === realPath)) {
    return toOwnNotice(realPath);
  }
  const unmapped = report.unmapped.find(({ name }) => name === WORKSPACE);
  if (unmapped !== undefined) return toReadOnlyNotice(workspace.realPath, unmapped.reason);
  if (identity.drops || isWritable(workspace.realPath)) return undefined;
  return toForeignNotice(workspace.realPath, identity.uid);
}

function findWorkspace(path: string): SurveyedPath {
  if (path === '') return NOWHERE;
  const found = findPath(path);
  if (found?.kind === 'folder') return found;
  const what = found === undefined ? 'does not exist or cannot be reached' : 'is not a folder';
  throw new PrxError('WORKSPACE_REFUSED', `the workspace ${path} ${what}; create it first`);
}

interface Listed {
  readonly readOnly: readonly SurveyedPath[];
  readonly writable: readonly SurveyedPath[];
  readonly refused: readonly string[];
}

function surveyListed(policy: SandboxPolicy): Listed {
  const hidden = surveyHidden(policy).map((fact) => fact.path);
  const refused: string[] = [];
  const survey = (paths: readonly string[]): SurveyedPath[] =>
    paths.flatMap((path) => {
      const found = findPath(path);
      if (found === undefined) return [];
      const hider = findHider(found.realPath, hidden) ?? findHider(found.path, hidden);
      if (hider === undefined) return [found];
      refused.push(`The listed path ${path} is not shown: it lies in ${hider}, which is hidden.`);
      return [];
    });
  return {
    readOnly: survey(policy.readOnlyPaths),
    writable: survey(policy.writablePaths),
    refused,
  };
}

/** Under both its names, as listed and as it really is. */
function surveyHidden(policy: SandboxPolicy): PathFact[] {
  return policy.hiddenPaths.flatMap((path) => {
    const found = findPath(path);
    if (found === undefined) return [];
    const names = new Set([found.path, found.realPath]);
    return [...names].map((name) => ({ path: name, source: found.realPath, kind: found.kind }));
  });
}

function toShownWorkspace(surveyed: SurveyedPath): Shown {
  return { surveyed, access: 'write', name: WORKSPACE, target: surveyed.realPath };
}

function toShown(surveyed: SurveyedPath, access: Shown['access'], name: string): Shown {
  return { surveyed, access, name, target: surveyed.path };
}

function surveyRuntime(files: RuntimeFiles): Shown[] {
  const tools = [...(files.search === undefined ? [] : [files.search]), files.interpreter];
  return [
    ...tools.map((file) => ({ file, access: 'tool' as const })),
    ...files.hosts.map((file) => ({ file, access: 'file-host' as const })),
  ].flatMap(({ file, access }, index) => {
    const surveyed = findPath(file.path);
    if (surveyed === undefined) return [];
    return [{ surveyed, access, name: `runtime-${index}`, target: file.target }];
  });
}

/** Written down by who owns the machine, so what lies in a home is shown too, under other names. */
function surveyCustom({ custom }: SandboxPolicy): Shown[] {
  return (custom?.roots ?? []).flatMap((root, index): Shown[] => {
    const surveyed = findPath(root);
    if (surveyed === undefined) return [];
    const target = toToolTarget(root, index);
    return [{ surveyed, access: 'custom', name: `custom-${index}`, target }];
  });
}

function toStageItem(item: Shown): StageItem {
  const kind = decideStageKind(item.surveyed.owner.uid, item.access);
  return { kind, source: item.surveyed.realPath, name: item.name };
}

interface Staging {
  readonly items: readonly StageItem[];
  /** Where the cell finds it. */
  readonly sourceOf: (item: Shown) => string;
}

function stageThem(shown: readonly Shown[]): Staging {
  return { items: shown.map(toStageItem), sourceOf: ({ name }) => `${STAGE}/${name}` };
}

/** Who is not root needs no mapping, and so the folders that hold them will do: what was replaced
 *  since (a workspace that was cloned anew) is found by its name. */
function stageTheirFolders(shown: readonly Shown[]): Staging {
  const folders = [...new Set(shown.map(toHolder))];
  return {
    items: folders.map((source, index) => ({ kind: 'write', source, name: `folder-${index}` })),
    sourceOf: (item) => {
      const folder = toHolder(item);
      const below = item.surveyed.realPath.slice(folder.length);
      return `${STAGE}/folder-${folders.indexOf(folder)}${below}`;
    },
  };
}

/** Of what stands in the root folder itself: the root has all mounts of the machine below it. */
function toHolder({ surveyed: { realPath } }: Shown): string {
  const folder = dirname(realPath);
  return folder === '/' ? realPath : folder;
}

interface ViewParts {
  readonly policy: SandboxPolicy;
  readonly workspace: SurveyedPath;
  readonly shown: readonly Shown[];
  readonly system: readonly SystemEntry[];
  readonly settings: readonly string[];
  readonly report: PreludeReport;
  /** Why the workspace is read-only; undefined: it is not. */
  readonly refusal: string | undefined;
  readonly isFiltered: boolean;
  readonly sourceOf: (item: Shown) => string;
}

function toViews(parts: ViewParts): Views {
  const { policy, workspace, shown, system, settings } = parts;
  const { report, refusal, isFiltered, sourceOf } = parts;
  const facts = (access: Shown['access']): PathFact[] =>
    shown
      .filter((item) => item.access === access && item.name !== WORKSPACE)
      .filter((item) => !report.missing.includes(item.name))
      .map((item) => ({ path: item.target, source: sourceOf(item), kind: item.surveyed.kind }));
  const [source = workspace.realPath] = shown
    .filter((item) => item.name === WORKSPACE)
    .map(sourceOf);
  const guards = workspace === NOWHERE ? [] : surveyGuarded(workspace.realPath);
  const guarded = (how: GuardedPath['how']): PathFact[] =>
    guards
      .filter((guard) => guard.how === how)
      .map(({ path, kind }) => ({
        path: `${workspace.realPath}/${path}`,
        source: `${source}/${path}`,
        kind,
      }));
  const resolver = facts('resolver').map(({ source, path }) => ({
    source: `${source}/${basename(findResolver()?.realPath ?? path)}`,
    target: path,
  }));
  const tools = [etcMount, ...facts('tool').map(toRuntimeMount), ...resolver];
  const view: View = {
    workspace: { path: workspace.realPath, source, kind: 'folder' },
    workspaceAccess: toAccess(workspace, refusal),
    readOnly: facts('read-only'),
    writable: facts('write'),
    hidden: surveyHidden(policy),
    protected: [...surveyProtected(policy, workspace.realPath, source), ...guarded('read-only')],
    pinned: guarded('pinned'),
    system,
    settings,
    runtime: tools,
    env: toEnvironment({ allowlist: policy.envAllowlist, env: policy.env }),
    tmpBytes: policy.tmpBytes,
    network: policy.network.mode,
    isFiltered,
  };
  const own = [...tools, ...facts('file-host').map(toRuntimeMount)];
  const custom = [...own, ...facts('custom').map(toRuntimeMount)];
  return {
    view,
    fileHostView: { ...view, runtime: own },
    toolHostView: { ...view, runtime: custom },
  };
}

function toAccess(workspace: SurveyedPath, refusal: string | undefined): View['workspaceAccess'] {
  if (workspace === NOWHERE) return 'none';
  return refusal === undefined ? 'write' : 'read-only';
}

function toRuntimeMount(fact: PathFact): RuntimeMount {
  return { source: fact.source, target: fact.path };
}

const RESOLVER = '/etc/resolv.conf';

/** Who uses the machine's network asks the machine's name servers. */
function findResolver(): SurveyedPath | undefined {
  return findPath(RESOLVER);
}

/** The folder of it: a machine that changes its network replaces the file. */
function surveyResolver(): Shown[] {
  const found = findResolver();
  const folder = found === undefined ? undefined : findPath(dirname(found.realPath));
  if (folder === undefined) return [];
  return [{ surveyed: folder, access: 'resolver', name: 'resolver', target: RESOLVER }];
}

/** What is mounted over something in /etc. */
function listEtcPlaces(policy: SandboxPolicy, listed: Listed): Pick<PathFact, 'path' | 'kind'>[] {
  const listedToo = [...listed.readOnly, ...listed.writable];
  if (policy.network.mode !== 'full' || findResolver() === undefined) return listedToo;
  return [...listedToo, { path: RESOLVER, kind: 'file' }];
}

/** Protected paths of the workspace, found through the workspace's own source. */
function surveyProtected(policy: SandboxPolicy, workspace: string, source: string): PathFact[] {
  if (policy.workspace === '') return [];
  return policy.protectedPaths.flatMap((path) => {
    const found = findPath(path);
    if (found === undefined || !isInside(found.realPath, workspace)) return [];
    const inner = `${source}${found.realPath.slice(workspace.length)}`;
    return [{ path: found.realPath, source: inner, kind: found.kind }];
  });
}

function noStage(): PrxError {
  const reason = 'the supervisor is root, tools never run as root, and perl is not installed here';
  const mend = 'install perl, or run the supervisor as the user who owns the workspace';
  const message = `no sandbox: ${reason}; mend: ${mend}`;
  return new PrxError('SANDBOX_UNAVAILABLE', message, { data: { reason, mend } });
}
