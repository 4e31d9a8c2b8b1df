/** Which process runs a tool: told by its name. */
import { isMcpToolName } from '../../protocol/mcp-names.ts';
import type { HostPort } from '../effects/ports.ts';
import type { McpSession } from './pool.ts';

export function routeTools(host: HostPort, mcp: McpSession): HostPort {
  return {
    prepare: (tool) => (isMcpToolName(tool) ? mcp.prepare(tool) : host.prepare(tool)),
    run: (run, live) => (isMcpToolName(run.tool) ? mcp.run(run) : host.run(run, live)),
    policyDigest: (tool) => (isMcpToolName(tool) ? undefined : host.policyDigest(tool)),
    cancel(effect) {
      host.cancel(effect);
      mcp.cancel(effect);
    },
  };
}
