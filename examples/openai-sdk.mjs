// The openai SDK, unmodified, as a client of a session.
//
//   prx-supervisor start --detach --listen 127.0.0.1:7433
//   OPENAI_BASE_URL=http://127.0.0.1:7433/v1 \
//   OPENAI_API_KEY="$(cat ~/.local/state/prx-supervisor/api-token)" node examples/openai-sdk.mjs
import OpenAI from 'openai';

const client = new OpenAI();

const stream = client.chat.completions.stream({
  model: 'default',
  messages: [{ role: 'user', content: '!uname -s' }],
});
stream.on('content', (text) => process.stdout.write(text));
await stream.finalChatCompletion();
process.stdout.write('\n');

// In the background: the answer is there whatever happens to this program or to the supervisor.
const { id } = await client.responses.create({
  model: 'default',
  input: '~slow 5',
  background: true,
});
for await (const event of await client.responses.retrieve(id, { stream: true })) {
  if (event.type === 'response.output_text.delta') process.stdout.write(event.delta);
}
process.stdout.write('\n');
const next = await client.responses.create({ previous_response_id: id, input: '!echo on' });
console.log(next.output_text);
