/** The least that a process could do for the crowd: a bare node:http server that writes each event
 *  to every connection. Told how many events, in turn; stamps each as it writes it. */
import { createServer, type ServerResponse } from 'node:http';
import { nowSharedMs } from './stats.ts';

export interface FloorOrder {
  readonly tokens: number;
  readonly everyMs: number;
  readonly filler: string;
}

const frames: string[] = [];
const readers = new Set<ServerResponse>();

function emit(text: string): void {
  const seq = frames.length + 1;
  const frame = `id: ${seq}\nevent: model.delta\ndata: {"seq":${seq},"type":"model.delta","text":"${text}"}\n\n`;
  frames.push(frame);
  const bytes = Buffer.from(frame);
  for (const reader of readers) reader.write(bytes);
}

const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const frame of frames.slice(Number(request.headers['last-event-id']))) response.write(frame);
  readers.add(response);
  response.once('close', () => readers.delete(response));
});
server.listen(process.argv[2], () => process.send?.('listening'));
process.on('disconnect', () => process.exit());
process.on('message', ({ tokens, everyMs, filler }: FloorOrder) => {
  const timer = setInterval(() => {
    emit(`<${nowSharedMs().toFixed(3)}>${filler}`);
    if (frames.length <= tokens) return;
    clearInterval(timer);
    process.send?.('said');
  }, everyMs);
});
emit('first');
