// An editor in forty lines: the Agent Client Protocol's own SDK in front of `prx-supervisor acp`.
// What the agent wants to do beyond its policy is asked here, as an editor would ask.
//
//   prx-supervisor start --detach
//   node examples/acp-client.mjs '!uname -s'
import { spawn } from 'node:child_process';
import { Readable, Writable } from 'node:stream';
import { client, methods, ndJsonStream } from '@agentclientprotocol/sdk';

const [prompt = '!date'] = process.argv.slice(2);
const program = spawn('prx-supervisor', ['acp'], { stdio: ['pipe', 'pipe', 'inherit'] });

const editor = client({ name: 'acp-example' })
  .onNotification(methods.client.session.update, ({ params: { update } }) => show(update))
  .onRequest(methods.client.session.requestPermission, ({ params }) => {
    const once = params.options.find(({ kind }) => kind === 'allow_once');
    console.log(`[allowed once: ${params.toolCall.title}]`);
    return { outcome: { outcome: 'selected', optionId: once.optionId } };
  });

function show(update) {
  if (update.sessionUpdate === 'agent_message_chunk') process.stdout.write(update.content.text);
  if (update.sessionUpdate === 'tool_call') console.log(`[${update.title}]`);
}

const stream = ndJsonStream(Writable.toWeb(program.stdin), Readable.toWeb(program.stdout));
const { agent } = editor.connect(stream);
await agent.request(methods.agent.initialize, { protocolVersion: 1 });
const { sessionId } = await agent.request(methods.agent.session.new, {
  cwd: process.cwd(),
  mcpServers: [],
});
const { stopReason } = await agent.request(methods.agent.session.prompt, {
  sessionId,
  prompt: [{ type: 'text', text: prompt }],
});
console.log(`\n${sessionId} ended its turn: ${stopReason}`);
// The session goes on without us: prx-supervisor attach takes it up in a terminal.
program.stdin.end();
