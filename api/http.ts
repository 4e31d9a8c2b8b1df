/** node:http, without its ESM facade. Importing the module by name makes node read every one of
 *  its exports, among them WebSocket, whose getter loads undici: 13 ms of CPU on a fast machine,
 *  three times the rest of node:http, on every command of the CLI and every start. */

export const { createServer, request, ServerResponse } = process.getBuiltinModule('node:http');
