/** Put before a real worker's program: at an input that says `bomb:KIND` it misbehaves instead of
 *  running the turn. Everything else is the worker that is shipped. */
const held = [];
const acts = {
  buffers() {
    for (;;) held.push(Buffer.alloc(4 << 20, 1));
  },
  heap() {
    for (;;) held.push(Array.from({ length: 10_000 }, (_, index) => ({ index })));
  },
  spin() {
    for (;;);
  },
};
const { stdin } = process;
const emit = stdin.emit;
stdin.emit = function (name, chunk, ...rest) {
  const text = name === 'data' ? String(chunk) : '';
  if (text.includes('"method":"turn/run"')) acts[/"bomb:([a-z]+)"/.exec(text)?.[1]]?.();
  return emit.call(this, name, chunk, ...rest);
};
