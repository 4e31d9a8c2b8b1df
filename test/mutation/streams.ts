/** Invariants 2 and 9, for clients: from its cursor on each has every event once, and one that does
 *  not read costs little. */
import { byTest, type Mutation } from './mutation.ts';

export const streamMutations: readonly Mutation[] = [
  {
    id: '2.last-event-id',
    line: 'a stream goes on behind the event that its client names',
    file: 'api/routes/events.ts',
    original: 'since: lastEventId(headers, naturalSchema) ?? query.since ?? 0,',
    replacement: 'since: query.since ?? 0,',
    finder: byTest('api/streams', 'starts behind %s'),
  },
  {
    id: '2.socket-cursor',
    line: 'a WebSocket goes on behind the event that its client names',
    file: 'api/routes/socket.ts',
    original: 'const position = { since, ',
    replacement: 'const position = { since: Math.min(since, 0), ',
    finder: byTest('api/websocket', 'starts behind since'),
  },
  {
    id: '2.cursor-of-each-event',
    line: 'an event of all sessions carries the cursor behind itself, not that behind its page',
    file: 'supervisor/follow-all.ts',
    original: 'cursor: page.cursors[at] ?? page.cursor',
    replacement: 'cursor: page.cursor',
    finder: byTest(
      'supervisor/follow-all',
      'goes on behind any of its events, also within what was read at once',
    ),
  },
  {
    id: '2.live-without-gap',
    line: 'who lacks more than is kept does not become live',
    file: 'api/broadcast.ts',
    original: 'return missed.length === newest - seq ? missed : undefined;',
    replacement: 'return missed;',
    finder: byTest('api/broadcast', 'takes nobody in who is behind what it has kept, or gone'),
  },
  {
    id: '2.live-without-double',
    line: 'who became live with a part of what comes is given the rest',
    file: 'api/broadcast.ts',
    original: 'const lacking = seq <= before ? batch : batch.filter(({ id }) => Number(id) > seq);',
    replacement: 'const lacking = seq <= before + batch.length ? batch : [];',
    finder: byTest('api/broadcast', 'has one follower, and gives each reader what it has not'),
  },
  {
    id: '2.behind-what-was-written',
    line: 'who falls back reads on behind what was written to it',
    file: 'api/broadcast.ts',
    original: '  reader.seq = lastOf(batch, reader.seq);\n',
    replacement: '',
    finder: byTest('api/broadcast', 'lets go who takes no more, and goes on with the others'),
  },
  {
    id: '9.full-leaves',
    line: 'who takes no more is not live any more',
    file: 'api/broadcast.ts',
    original: "    if (!give(reader, lacking)) leave('full');\n",
    replacement: "    if (!give(reader, lacking) && reader.signal.aborted) leave('full');\n",
    finder: byTest('api/broadcast', 'lets go who takes no more, and goes on with the others'),
  },
  {
    id: '9.newest-frames',
    line: 'of what was sent live a little is kept',
    file: 'api/broadcast.ts',
    original: 'cast.recent.length > RECENT_FRAMES_MAX || ',
    replacement: '',
    finder: byTest('api/broadcast', 'gives who comes back at once what it missed: %s'),
  },
  {
    id: '9.kernel-refuses',
    line: 'a live client holds what the kernel did not take, and is given nothing more',
    file: 'api/sse.ts',
    original: 'socket === null ? !response.writableNeedDrain : socket.writableLength === 0;',
    replacement: '!writable.writableNeedDrain;',
    finder: byTest(
      'api/sse',
      'a live client that reads nothing holds one frame, and has all when it reads',
    ),
  },
];
