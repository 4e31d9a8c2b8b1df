// Work handed out over MCP: the protocol's own SDK starts `prx-supervisor mcp`, gives a task to a new
// session, and reads what came of it. Any MCP client does the same with its configuration.
//
//   prx-supervisor start --detach
//   node examples/mcp-client.mjs '!uname -s'
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [prompt = '!date'] = process.argv.slice(2);
const client = new Client({ name: 'mcp-example', version: '1' });
const server = { command: 'prx-supervisor', args: ['mcp'], env: process.env };
await client.connect(new StdioClientTransport(server));

const result = await client.callTool({ name: 'prompt_session', arguments: { prompt } });
for (const { text } of result.content) console.log(text);
await client.close();
