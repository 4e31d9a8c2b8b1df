/** A worker that measures: its input is JSON {tool, arguments, count, atOnce}; it asks for so many
 *  calls, so many at once, and tells what each took, ms, in the arguments of a last call. */
const waiting = new Map();
let asked = 0;

function send(message) {
  const body = JSON.stringify({ jsonrpc: '2.0', ...message });
  process.stdout.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

function ask(method, params) {
  asked += 1;
  send({ id: asked, method, params });
  return new Promise((resolve) => waiting.set(asked, resolve));
}

async function runTurn({ turn, input }) {
  const { tool, arguments: value, count, atOnce } = JSON.parse(input.content[0].text);
  const took = [];
  const wrong = [];
  let left = count;
  let step = 0;
  const callTool = async (name, what, call) => {
    const params = { turn, step, call, name, arguments: JSON.stringify(what) };
    const startMs = performance.now();
    const result = await ask('tool/call', params);
    took.push(performance.now() - startMs);
    if (result?.status !== 'ok') wrong.push(result?.output ?? 'no answer');
  };
  const startMs = performance.now();
  while (left > 0) {
    step += 1;
    const size = Math.min(atOnce, left);
    left -= size;
    await Promise.all(Array.from({ length: size }, (_, call) => callTool(tool, value, call + 1)));
  }
  const allMs = performance.now() - startMs;
  step += 1;
  await callTool('shell', { command: `: ${JSON.stringify({ took, allMs, wrong: wrong[0] })}` }, 1);
  return { outcome: 'completed', steps: step };
}

function answer(message) {
  const { id, method, params } = message;
  if (method === undefined) {
    waiting.get(id)?.(message.result);
    waiting.delete(id);
  } else if (method === 'worker/ping') {
    send({ id, result: { loopLagMs: 0, rssBytes: process.memoryUsage.rss() } });
  } else if (method === 'worker/collect') {
    send({ id, result: { rssBytes: process.memoryUsage.rss() } });
  } else if (method === 'turn/run') {
    void runTurn(params).then((result) => send({ id, result }));
  } else if (id !== undefined) {
    send({ id, result: {} });
  }
}

let rest = Buffer.alloc(0);
process.stdin.on('data', (chunk) => {
  rest = Buffer.concat([rest, chunk]);
  for (;;) {
    const head = rest.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = Number(/Content-Length: (\d+)/i.exec(rest.toString('latin1', 0, head))[1]);
    if (rest.length < head + 4 + length) return;
    const body = rest.toString('utf8', head + 4, head + 4 + length);
    rest = rest.subarray(head + 4 + length);
    answer(JSON.parse(body));
  }
});
process.stdin.on('end', () => process.exit(0));
send({ method: 'worker/ready', params: { pid: process.pid, confinement: ['none'] } });
