/** What the figures were measured on: without it they say nothing. */
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

export function describeMachine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const user = process.getuid?.() === 0 ? 'root' : 'an unprivileged user';
  return [
    `${availableParallelism()} cores (${model})`,
    memory,
    `Linux ${release()}`,
    `Node ${process.version}`,
    `as ${user}`,
  ].join(' · ');
}

/** Over 1, 5 and 15 minutes; above the number of cores the figures measure the neighbours. */
export function describeLoad(): string {
  return `load average ${loadavg()
    .map((load) => load.toFixed(2))
    .join(' ')}`;
}
