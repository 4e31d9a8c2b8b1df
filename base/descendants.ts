/** Who stands below a process, by the kernel's own lists of children (0.2 ms for a few; all of
 *  /proc takes 2 ms). A list that is read while a child exits may miss another, which the next look
 *  sees: nothing that must be complete rests on one look alone. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type ListChildren = (pid: number) => readonly number[];

/** The process and all below it, parents before children. */
export function listTree(listChildren: ListChildren, root: number): number[] {
  const tree = new Set([root]);
  for (const pid of tree) for (const child of listChildren(pid)) tree.add(child);
  return [...tree];
}

/** For one look. Where the kernel keeps no lists (CONFIG_PROC_CHILDREN), by one look at all
 *  processes.
 *  @param proc  what shows them: /proc.
 *  @param first  a process that is asked for; whether it has a list says whether there are any. */
export function toChildLister(proc: string, first: number): ListChildren {
  if (read(join(proc, String(first), 'task', String(first), 'children')) === undefined) {
    const childrenOf = readAllChildren(proc);
    return (pid) => childrenOf.get(pid) ?? [];
  }
  return (pid) => {
    const tasks = join(proc, String(pid), 'task');
    // Each thread has its own.
    const lists = list(tasks).map((thread) => read(join(tasks, thread, 'children')) ?? '');
    return lists.flatMap((text) => text.split(' ').filter(Boolean).map(Number));
  };
}

function readAllChildren(proc: string): ReadonlyMap<number, readonly number[]> {
  const childrenOf = new Map<number, number[]>();
  for (const name of list(proc)) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(join(proc, name, 'stat'));
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (!Number.isSafeInteger(parent)) continue;
    const siblings = childrenOf.get(parent);
    if (siblings === undefined) childrenOf.set(parent, [Number(name)]);
    else siblings.push(Number(name));
  }
  return childrenOf;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It died while we looked, or is not ours to read.
    return undefined;
  }
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    // It died while we looked.
    return [];
  }
}
