/** The folder in which a sandbox host without namespaces keeps the temporary files of its commands,
 *  and those in which a probe tries what a level holds. A name is the identity of its process, so
 *  that whoever finds it knows whether it is used. */

export interface HostIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

const NAME = /^prx-tools-(\d+)-(\d+)(?:\.probe-\w+)?$/;

export function toHostFolderName({ pid, startTicks }: HostIdentity): string {
  return `prx-tools-${pid}-${startTicks}`;
}

/** A random part follows it. */
export function toProbeFolderPrefix(identity: HostIdentity): string {
  return `${toHostFolderName(identity)}.probe-`;
}

/** Undefined: it is none of ours. */
export function parseHostFolderName(name: string): HostIdentity | undefined {
  const [, pid, startTicks] = NAME.exec(name) ?? [];
  if (pid === undefined) return undefined;
  return { pid: Number(pid), startTicks: Number(startTicks) };
}
