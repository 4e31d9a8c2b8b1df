/** The levels of isolation, by name. Their order is their strength: what is refused below a minimum
 *  and what a person is asked about follow from it. */

/** Strongest first. */
export const sandboxLevels = ['bubblewrap', 'unshare', 'landlock', 'limits-only', 'none'] as const;
export type SandboxLevel = (typeof sandboxLevels)[number];

/** Those that a machine offers or not; `none` is not offered, it is asked for. */
export const offeredLevels = ['bubblewrap', 'unshare', 'landlock', 'limits-only'] as const;
export type OfferedLevel = (typeof offeredLevels)[number];

/** False for any text that is not the name of a level a machine can offer. */
export function isOfferedLevel(text: string): text is OfferedLevel {
  return offeredLevels.some((level) => level === text);
}

export function isWeaker(level: SandboxLevel, minimum: SandboxLevel): boolean {
  return sandboxLevels.indexOf(level) > sandboxLevels.indexOf(minimum);
}

/** Whether a tool is kept from what it was not given. False for what is not the name of a level. */
export function isConfining(level: string): boolean {
  return isOfferedLevel(level) && level !== 'limits-only';
}

/** Whether what of a workspace starts something later (git's configuration, hooks, settings of
 *  editors) is kept from tools; where not, a person is asked. False for any other text. */
export function guardsWorkspace(level: string): boolean {
  return level === 'bubblewrap' || level === 'unshare';
}

/** Whether it has mounts of its own: then what is not shown does not exist inside, files can be
 *  given to one call alone, and a network can be one of its own. False for any other text. */
export function hasOwnRoot(level: string): level is 'bubblewrap' | 'unshare' {
  return level === 'bubblewrap' || level === 'unshare';
}

/** The levels at which tools may run, strongest first; empty: at none of them, because what the
 *  configuration asks for is below its own minimum. Unset, the minimum is what `backend` names,
 *  for "auto" the strongest. Pure. */
export function toAcceptedLevels(
  backend: SandboxLevel | 'auto',
  minimum: SandboxLevel | undefined,
): readonly SandboxLevel[] {
  const asked = backend === 'auto' ? offeredLevels : [backend];
  const floor = minimum ?? (backend === 'auto' ? 'bubblewrap' : backend);
  return asked.filter((level) => !isWeaker(level, floor));
}

/** Which to ask a machine about, strongest first. Pure. */
export function toAskedLevels(backend: SandboxLevel | 'auto'): readonly OfferedLevel[] {
  return offeredLevels.filter((level) => backend === 'auto' || backend === level);
}
