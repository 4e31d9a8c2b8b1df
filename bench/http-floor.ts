/** The least that an HTTP server in Node does: one answer for everything. Ends with its parent. */
import { createServer } from 'node:http';

const server = createServer((_request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end('{"status":"ok"}');
});
server.listen(process.argv[2], () => process.send?.('listening'));
process.on('disconnect', () => process.exit());
