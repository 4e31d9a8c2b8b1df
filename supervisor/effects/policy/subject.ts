/** What rules look at in a tool call: the commands it may run, the paths and the domains it names.
 *  Found by the names of the arguments, so that a tool that comes later, or from elsewhere, is
 *  judged like ours. */
import { readlinkSync } from 'node:fs';
import { isAbsolute, join, normalize, relative } from 'node:path';
import { systemCode } from '../../../base/errors.ts';
import { type CanonicalHost, parseHost } from '../../../base/hostnames.ts';
import { listPatchPaths } from '../../../protocol/patch.ts';
import { walksFolders } from '../../../protocol/tools.ts';
import { type ShellPart, toShellParts } from './command-parts.ts';

export interface PathPart {
  readonly kind: 'path';
  /** Relative to the workspace when inside it, `.` for itself; else absolute. */
  readonly path: string;
  /** The same behind all symbolic links, as far as they exist; undefined: that cannot be known. */
  readonly realPath: string | undefined;
  /** The call also reads what lies below. */
  readonly isTree: boolean;
  /** It is a folder around the workspace. */
  readonly holdsWorkspace: boolean;
}

export interface DomainPart {
  readonly kind: 'domain';
  /** undefined: it cannot be read, and may be any. */
  readonly host: CanonicalHost | undefined;
  readonly port: number;
}

/** `whole`: the call names nothing that a rule could look at but the tool itself. */
export type Part = ShellPart | PathPart | DomainPart | { readonly kind: 'whole' };

export interface Subject {
  readonly tool: string;
  readonly arguments: unknown;
  readonly workspace: string;
}

/** At least one part. What a process is told on its input is judged as a command: it may be a
 *  shell. Reads symbolic links of the workspace and nothing else. */
export function toParts(subject: Subject): readonly Part[] {
  const { tool, workspace } = subject;
  const command = readText(subject, tool === 'process_input' ? 'text' : 'command');
  const url = readText(subject, 'url');
  const parts: Part[] = [
    ...(command === undefined ? [] : toShellParts(command)),
    ...listPaths(subject).map((path) => toPathPart(tool, workspace, path)),
    ...(url === undefined ? [] : [toDomainPart(url)]),
  ];
  return parts.length === 0 ? [{ kind: 'whole' }] : parts;
}

/** The paths a call names, as it wrote them. Without one, a tool that walks a tree walks the
 *  workspace. */
function listPaths(subject: Subject): readonly string[] {
  if (subject.tool === 'apply_patch') return listPatchPaths(readText(subject, 'patch') ?? '');
  const path = readText(subject, 'path');
  if (path !== undefined) return [path];
  return walksFolders(subject.tool) ? ['.'] : [];
}

function readText({ arguments: args }: Subject, name: string): string | undefined {
  if (typeof args !== 'object' || args === null || !Object.hasOwn(args, name)) return undefined;
  const value: unknown = Reflect.get(args, name);
  return typeof value === 'string' ? value : undefined;
}

function toPathPart(tool: string, workspace: string, path: string): PathPart {
  const absolute = normalize(isAbsolute(path) ? path : join(workspace, path)).replace(
    /(.)\/$/,
    '$1',
  );
  const real = findReal(absolute);
  const realWorkspace = findReal(workspace);
  return {
    kind: 'path',
    path: toShown(workspace, absolute),
    realPath:
      real === undefined || realWorkspace === undefined ? undefined : toShown(realWorkspace, real),
    isTree: walksFolders(tool),
    holdsWorkspace: isHolding(absolute, workspace) || isHolding(real, realWorkspace),
  };
}

function isHolding(folder: string | undefined, workspace: string | undefined): boolean {
  if (folder === undefined || workspace === undefined) return true;
  return folder !== workspace && `${workspace}/`.startsWith(folder.replace(/\/?$/, '/'));
}

function toShown(workspace: string, absolute: string): string {
  const inner = relative(workspace, absolute);
  if (inner === '') return '.';
  return inner === '..' || inner.startsWith('../') ? absolute : inner;
}

/** As the kernel has it. */
const LINKS_MAX = 40;

/** Where a path ends behind its links; what does not exist yet keeps its name. Undefined: that
 *  cannot be known. So it is with /proc: its links mean the process that asks, and that is another
 *  one inside the sandbox (`/proc/self/cwd` there is the workspace). */
function findReal(absolute: string): string | undefined {
  const names = absolute.split('/').filter((name) => name !== '');
  let path = '/';
  for (let links = 0; links <= LINKS_MAX; ) {
    const name = names.shift();
    if (name === undefined) return path;
    const next = join(path, name);
    if (next === '/proc') return undefined;
    const target = readLink(next);
    if (target === 'closed') return undefined;
    if (target === 'none') path = next;
    else {
      links += 1;
      if (isAbsolute(target.to)) path = '/';
      names.unshift(...target.to.split('/').filter((each) => each !== ''));
    }
  }
  return undefined;
}

function readLink(path: string): { readonly to: string } | 'none' | 'closed' {
  try {
    return { to: readlinkSync(path) };
  } catch (error) {
    return ['EINVAL', 'ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '') ? 'none' : 'closed';
  }
}

const HTTP_PORT = 80;
const HTTPS_PORT = 443;

function toDomainPart(url: string): DomainPart {
  const parsed = URL.parse(url);
  const port = Number(parsed?.port) || (parsed?.protocol === 'http:' ? HTTP_PORT : HTTPS_PORT);
  return { kind: 'domain', host: parseHost(parsed?.hostname ?? ''), port };
}
