/** What files of the user's own tools say of them: each is loaded in a sandbox without a workspace
 *  and without a network, on a thread of its own, and gives its description or the reason why it
 *  has none. Nothing that a file does is more than its own refusal. */
import type { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import {
  type CustomFile,
  type DescribeAnswer,
  type DescribeOrder,
  type Description,
  describeOrderSchema,
} from '../protocol/custom-tools.ts';
import { type SandboxPolicy, sandboxPolicySchema } from '../protocol/sandbox-methods.ts';
import type { Backend } from './launch/backend.ts';
import { createToolHosts, type ToolHosts } from './tools/tool-hosts.ts';

export interface DescribePorts {
  /** The order, JSON. */
  readonly text: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly createBackend: (policy: SandboxPolicy) => Promise<Backend>;
}

const orderSchema = describeOrderSchema.extend({ policy: sandboxPolicySchema });
type Order = z.infer<typeof orderSchema>;

/** Behind the limit of a thread: its end and its answer. */
const MARGIN_MS = 5000;

/** @returns the answer, JSON. */
export async function describeOrdered(ports: DescribePorts): Promise<string> {
  const order = orderSchema.parse(JSON.parse(ports.text));
  const answer: DescribeAnswer = { files: await describeAll(order, ports) };
  return JSON.stringify(answer);
}

async function describeAll(order: Order, ports: DescribePorts): Promise<Description[]> {
  const { clock, logger } = ports;
  const { files, totalMs } = order;
  const startedMs = clock.nowMs();
  let backend: Backend;
  try {
    backend = await ports.createBackend(order.policy);
  } catch (error) {
    return files.map(() => toRefusal(`it was not read: ${toPrxError(error).message}`));
  }
  const hosts = createToolHosts({ backend, clock, logger });
  try {
    const said: Description[] = [];
    for (const file of files) {
      const isLate = clock.nowMs() - startedMs > totalMs;
      const late = `it was not read: the files before it took more than ${totalMs / 1000} s`;
      said.push(isLate ? toRefusal(late) : await describeOne(file, { order, backend, hosts }));
    }
    return said;
  } finally {
    hosts.close();
    await backend.close();
  }
}

interface Place {
  readonly order: DescribeOrder & { readonly policy: SandboxPolicy };
  readonly backend: Backend;
  readonly hosts: ToolHosts;
}

async function describeOne(
  { root: index, path }: CustomFile,
  { order, backend, hosts }: Place,
): Promise<Description> {
  const { heapBytes, timeoutMs, policy } = order;
  const root = backend.toToolPath(policy.custom?.roots[index] ?? '', index);
  const file = path === '' ? root : `${root}/${path}`;
  const params = { file, root, heapBytes, timeoutMs };
  try {
    return await hosts.use(async (host) => {
      try {
        const options = { timeoutMs: timeoutMs + MARGIN_MS };
        return await host.connection.request('custom/describe', params, options);
      } catch (error) {
        host.isSpent = true;
        throw error;
      }
    });
  } catch (error) {
    return toRefusal(`its process ended while it was read: ${toPrxError(error).message}`);
  }
}

function toRefusal(problem: string): Description {
  return { kind: 'refused', problem };
}
