/** What servers of others are held to (invariants 9 to 11), and the kernel's limit behind the watch
 *  over a session. */
import { byTest, type Mutation } from './mutation.ts';

export const foreignMutations: readonly Mutation[] = [
  {
    id: '9.mcp-server-whole-tree',
    line: 'an MCP server that is over its memory with all that it started is ended',
    file: 'sandbox/mcp/host.ts',
    original: '      onBreach: () => stdio.end(toTooMuch(watch.finish().breach)),\n',
    replacement: '      onBreach: () => undefined,\n',
    finder: byTest(
      'sandbox/mcp',
      'with memory that its children hold at level %s: all of it is ended, by name',
    ),
  },
  {
    id: '9.host-limit-takes-one',
    line: 'the kernel ends one process of a host at its limit, not the host',
    file: 'supervisor/children/cgroup.ts',
    original: "...(bytes === undefined || kind === 'host'\n",
    replacement: '...(bytes === undefined\n',
    finder: byTest(
      'supervisor/children/cgroup',
      'a host’s limit takes one process, not the group, and leaves the count of processes',
    ),
  },
  {
    id: '9.killed-by-the-kernel-is-memory',
    line: 'a call in which the kernel killed for want of memory says so',
    file: 'sandbox/launch/one-shot.ts',
    original: 'wasKilled = code === KILLED_CODE;',
    replacement: 'wasKilled = false;',
    finder: byTest(
      'integration/cgroups',
      'memory that no watch sees ends the call as memory at the kernel’s limit, not its host',
    ),
  },
  {
    id: '10.mcp-redirect',
    line: 'a redirect of an MCP server leads to nothing that may not be spoken to',
    file: 'sandbox/mcp/http.ts',
    original: '  checkAllowed(reach.within, String(url));\n',
    replacement: '',
    finder: byTest(
      'sandbox/mcp-http',
      'leads to nothing that may not be spoken to, and the server stays',
    ),
  },
  {
    id: '11.mcp-answer',
    line: 'a secret that went to an MCP server is taken out of its answer',
    file: 'sandbox/mcp/http.ts',
    original: '    .pipeThrough(redactBytes(prints));\n',
    replacement: ';\n',
    finder: byTest('sandbox/mcp-http', 'goes with each request, and comes back in nothing'),
  },
];
