/** The folder in which a sandbox host without namespaces keeps the temporary files of its commands.
 *  Its name is the identity of the host, so that whoever finds it knows whether it is used. */

export interface HostIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

const NAME = /^prx-tools-(\d+)-(\d+)$/;

export function toHostFolderName({ pid, startTicks }: HostIdentity): string {
  return `prx-tools-${pid}-${startTicks}`;
}

/** Undefined: it is none of ours. */
export function parseHostFolderName(name: string): HostIdentity | undefined {
  const [, pid, startTicks] = NAME.exec(name) ?? [];
  if (pid === undefined) return undefined;
  return { pid: Number(pid), startTicks: Number(startTicks) };
}
