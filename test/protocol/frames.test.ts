import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Message } from 'vscode-jsonrpc/node';
import { isPrxError, toPrxError } from '../../base/errors.ts';
import {
  createFrameParser,
  createFrameReader,
  createFrameWriter,
  encodeFrame,
} from '../../protocol/frames.ts';

const note = (text: string): Message =>
  ({ jsonrpc: '2.0', method: 'note', params: { text } }) as Message;

function frame(body: string): Buffer {
  return Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

/** What a parser makes of these chunks: bodies, then the code of the error that ended it. */
function parse(
  chunks: readonly Buffer[],
  bytesMax?: number,
): { bodies: string[]; error: string | undefined; pending: number } {
  const parser = createFrameParser(bytesMax);
  const bodies: string[] = [];
  try {
    for (const chunk of chunks) for (const body of parser.push(chunk)) bodies.push(String(body));
  } catch (error) {
    return { bodies, error: isPrxError(error) ? error.code : String(error), pending: 0 };
  }
  return { bodies, error: undefined, pending: parser.pendingBytes() };
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...[...places].map((p) => p % (bytes.length + 1)).sort((a, b) => a - b)];
  return sorted.map((from, index) => bytes.subarray(from, sorted[index + 1] ?? bytes.length));
}

describe('frame parser', () => {
  test('any chunking of the same bytes gives the same bodies (FAULTS 33)', () => {
    const bodies = fc.array(fc.string({ unit: 'binary', maxLength: 40 }), { maxLength: 6 });
    const places = fc.array(fc.nat(), { maxLength: 12 });
    fc.assert(
      fc.property(bodies, places, (texts, at) => {
        const seen = parse(cut(Buffer.concat(texts.map(frame)), at));
        const expected = texts.map((text) => Buffer.from(text).toString());
        expect(seen).toEqual({ bodies: expected, error: undefined, pending: 0 });
      }),
    );
  });

  test('garbage behind whole frames is refused with any chunking, and costs none of them', () => {
    const garbage = fc.constantFrom(
      'hello\n',
      '{"jsonrpc":"2.0"}',
      '\0\0',
      'content-length: 2\r\n',
    );
    fc.assert(
      fc.property(garbage, fc.array(fc.nat(), { maxLength: 8 }), (stray, at) => {
        const bytes = Buffer.concat([frame('{"a":1}'), frame('{"b":2}'), Buffer.from(stray)]);
        const { bodies, error } = parse(cut(bytes, at));
        expect({ bodies, error }).toEqual({
          bodies: ['{"a":1}', '{"b":2}'],
          error: 'FRAME_INVALID',
        });
      }),
    );
  });

  test('two frames split at each byte, multibyte characters included (FAULTS 33)', () => {
    const bytes = Buffer.concat([frame('{"t":"aé€😀"}'), frame('{"t":"z"}')]);
    for (let at = 0; at <= bytes.length; at += 1) {
      const seen = parse([bytes.subarray(0, at), bytes.subarray(at)]);
      expect(seen).toEqual({
        bodies: ['{"t":"aé€😀"}', '{"t":"z"}'],
        error: undefined,
        pending: 0,
      });
    }
  });

  test('a hundred frames in one chunk; an empty body at the end of a chunk (FAULTS 33)', () => {
    const texts = Array.from({ length: 100 }, (_, index) => `{"n":${index}}`);
    expect(parse([Buffer.concat(texts.map(frame))]).bodies).toEqual(texts);
    expect(parse([frame('')]).bodies).toEqual(['']);
    expect(parse([Buffer.concat([frame(''), frame('x')])]).bodies).toEqual(['', 'x']);
  });

  test.each([
    ['plain console.log text', 'hello world\n'],
    ['text that begins like a header', 'Content-Length is 5\r\n\r\n'],
    ['letters in the number', 'Content-Length: 41abc\r\n\r\n'],
    ['a negative number', 'Content-Length: -1\r\n\r\n'],
    ['a leading zero', 'Content-Length: 007\r\n\r\n'],
    ['a fraction', 'Content-Length: 1.5\r\n\r\n'],
    ['no number', 'Content-Length: \r\n\r\n'],
    ['more digits than a number has', 'Content-Length: 99999999999\r\n\r\n'],
    ['another header', 'Content-Type: text/plain\r\n\r\n'],
    ['a second header', 'Content-Length: 2\r\nContent-Type: x\r\n\r\n'],
    ['bare line feeds', 'Content-Length: 2\n\n{}'],
    ['NUL bytes', '\0\0\0\0'],
    ['a header that does not end', `Content-Length: ${'1'.repeat(100)}`],
    ['an empty header', '\r\n\r\n'],
  ])('%s is refused (FAULTS 36)', (_, text) => {
    expect(parse([Buffer.from(text)]).error).toBe('FRAME_INVALID');
    const bytes = [...Buffer.from(text)].map((byte) => Buffer.from([byte]));
    expect(parse(bytes).error).toBe('FRAME_INVALID');
  });

  test('a stray line is refused at its first byte, not when the next frame comes', () => {
    expect(parse([Buffer.from('h')]).error).toBe('FRAME_INVALID');
  });

  test.each([
    [99, undefined],
    [100, undefined],
    [101, 'FRAME_TOO_LARGE'],
    [9_999_999_999, 'FRAME_TOO_LARGE'],
  ])('an announced body of %d bytes with a limit of 100: %s (FAULTS 35)', (length, error) => {
    const header = Buffer.from(`Content-Length: ${length}\r\n\r\n`);
    expect(parse([header], 100).error).toBe(error);
  });

  test('the end inside a frame leaves pending bytes, whichever byte was the last', () => {
    const bytes = frame('{}');
    for (let at = 1; at < bytes.length; at += 1) {
      expect(parse([bytes.subarray(0, at)]).pending).toBeGreaterThan(0);
    }
  });
});

interface Heard {
  readonly messages: Message[];
  readonly errors: string[];
  closes: number;
  readonly ended: Promise<void>;
}

function listen(stream: Readable, options = {}): Heard & { dispose(): void } {
  const reader = createFrameReader(stream, options);
  let resolve: () => void = () => undefined;
  const ended = new Promise<void>((done) => {
    resolve = done;
  });
  const heard = {
    messages: [] as Message[],
    errors: [] as string[],
    closes: 0,
    ended,
    dispose: () => reader.dispose(),
  };
  reader.onError((error) => heard.errors.push(isPrxError(error) ? error.code : String(error)));
  reader.onClose(() => {
    heard.closes += 1;
    resolve();
  });
  reader.listen((message) => heard.messages.push(message));
  return heard;
}

describe('frame reader', () => {
  test.each([
    ['no JSON', 'hello'],
    ['broken JSON', '{"jsonrpc":"2.0"'],
    ['JSON that is no object', '42'],
    ['null', 'null'],
    ['a batch', '[{"jsonrpc":"2.0","method":"m"}]'],
    ['no jsonrpc', '{"method":"m"}'],
    ['another version', '{"jsonrpc":"1.0","method":"m"}'],
    ['neither request nor response', '{"jsonrpc":"2.0","foo":1}'],
    ['an id of no kind', '{"jsonrpc":"2.0","id":{},"method":"m"}'],
    ['an id of null', '{"jsonrpc":"2.0","id":null,"method":"m"}'],
  ])('a body that is %s ends the reading (FAULTS 36)', async (_, body) => {
    const heard = listen(Readable.from([frame(body), encodeFrame(note('after'))]));
    await heard.ended;
    expect(heard).toMatchObject({ messages: [], errors: ['FRAME_INVALID'], closes: 1 });
  });

  test('invalid UTF-8 is refused, not mended (FAULTS 36)', async () => {
    const body = Buffer.from('{"jsonrpc":"2.0","method":"m","params":{"t":"?"}}');
    body[body.indexOf('?')] = 0xff;
    const header = Buffer.from(`Content-Length: ${body.length}\r\n\r\n`);
    const heard = listen(Readable.from([Buffer.concat([header, body])]));
    await heard.ended;
    expect(heard.errors).toEqual(['FRAME_INVALID']);
  });

  test('what was whole before the garbage is heard', async () => {
    const bytes = Buffer.concat([encodeFrame(note('last words')), Buffer.from('Killed\n')]);
    const heard = listen(Readable.from([bytes]));
    await heard.ended;
    expect(heard.messages).toEqual([note('last words')]);
    expect(heard.errors).toEqual(['FRAME_INVALID']);
  });

  test('an end inside a frame is a violation; an end between frames is none (FAULTS 34)', async () => {
    const bytes = encodeFrame(note('x'));
    const torn = listen(Readable.from([bytes.subarray(0, 30)]));
    const whole = listen(Readable.from([bytes]));
    await Promise.all([torn.ended, whole.ended]);
    expect([torn.errors, whole.errors]).toEqual([['FRAME_INVALID'], []]);
    expect(whole.messages).toEqual([note('x')]);
  });

  test('an error of the stream itself is the end of the peer, not a violation', async () => {
    const stream = new PassThrough();
    const heard = listen(stream);
    stream.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
    await heard.ended;
    expect(heard).toMatchObject({ errors: [], closes: 1 });
  });

  test('after dispose nothing is heard', async () => {
    const stream = new PassThrough();
    const heard = listen(stream);
    stream.write(encodeFrame(note('one')));
    await nextMessage(() => heard.messages.length === 1);
    heard.dispose();
    stream.write(encodeFrame(note('two')));
    stream.end();
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toMatchObject({ messages: [note('one')], errors: [], closes: 0 });
  });

  test('a flood waits in the stream of its sender: one chunk is taken at a time (FAULTS 37)', async () => {
    const chunk = Buffer.concat(Array.from({ length: 50 }, () => encodeFrame(note('x'))));
    let taken = 0;
    const flood = new Readable({
      highWaterMark: 1,
      read() {
        taken += 1;
        this.push(chunk);
      },
    });
    const heard = listen(flood);
    await nextMessage(() => heard.messages.length >= 500);
    // 10 chunks read out, one in work, and what the stream reads ahead.
    expect(taken).toBeLessThanOrEqual(13);
    heard.dispose();
  });

  test('holdReading holds the reading, and no message is lost', async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let held = 0;
    const holdReading = (): Promise<void> | undefined => {
      held += 1;
      return held === 2 ? gate : undefined;
    };
    const stream = Readable.from([Buffer.concat(['a', 'b', 'c'].map((t) => encodeFrame(note(t))))]);
    const heard = listen(stream, { holdReading });
    await nextMessage(() => held === 2);
    expect(heard.messages).toEqual([note('a')]);
    release();
    await heard.ended;
    expect(heard.messages).toEqual(['a', 'b', 'c'].map(note));
  });
});

/** Turns the event loop until `done`; the jest timeout is the deadline. */
async function nextMessage(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}

describe('frame writer', () => {
  test('a write resolves only when the pipe has taken it (FAULTS 39)', async () => {
    let take: () => void = () => undefined;
    const slow = new Writable({
      write(_chunk, _encoding, done) {
        take = done;
      },
    });
    const writer = createFrameWriter(slow);
    let isDone = false;
    const writing = writer.write(note('x')).then(() => {
      isDone = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(isDone).toBe(false);
    take();
    await writing;
  });

  test('a broken pipe rejects the write, closes, and does not end the process', async () => {
    const broken = new Writable({
      write: (_chunk, _encoding, done) =>
        done(Object.assign(new Error('EPIPE'), { code: 'EPIPE' })),
    });
    const writer = createFrameWriter(broken);
    const closed = new Promise<void>((resolve) => writer.onClose(() => resolve()));
    await expect(writer.write(note('x'))).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    await closed;
    await expect(writer.write(note('y'))).rejects.toMatchObject({ code: 'PEER_CLOSED' });
  });

  test('a write after the end is refused', async () => {
    const writer = createFrameWriter(new PassThrough());
    writer.end();
    await expect(writer.write(note('x'))).rejects.toMatchObject({ code: 'PEER_CLOSED' });
  });

  test('a message beyond the limit is refused before a byte is written', async () => {
    const stream = new PassThrough();
    const size = encodeFrame(note('x')).length - 'Content-Length: 60\r\n\r\n'.length;
    const fits = createFrameWriter(stream, { frameBytesMax: size });
    await fits.write(note('x'));
    const tooSmall = createFrameWriter(stream, { frameBytesMax: size - 1 });
    await expect(tooSmall.write(note('x'))).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
    expect(stream.readableLength).toBe(encodeFrame(note('x')).length);
  });

  test('answers that the peer does not read are bounded; what we say of ourselves waits', async () => {
    const deaf = new Writable({ highWaterMark: 1, write: () => undefined });
    const answer = { jsonrpc: '2.0', id: 1, result: 'x'.repeat(100) } as Message;
    const frameBytes = encodeFrame(answer).length;
    const writer = createFrameWriter(deaf, { answersBytesMax: 2 * frameBytes });
    const errors: string[] = [];
    writer.onError(([error]) => errors.push(toPrxError(error).code));
    const write = (message: Message): void => void writer.write(message).catch(() => undefined);
    for (let count = 0; count < 3; count += 1) write(answer);
    expect([deaf.writableLength, errors]).toEqual([3 * frameBytes, []]);
    write(note('x'));
    expect(errors).toEqual([]);
    await expect(writer.write(answer)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(errors).toEqual(['LIMIT_EXCEEDED']);
  });

  test('a message of 5 MB crosses in one piece', async () => {
    const stream = new PassThrough();
    const heard = listen(stream);
    const big = note('é'.repeat(2_500_000));
    await createFrameWriter(stream).write(big);
    stream.end();
    await heard.ended;
    expect(heard.messages).toEqual([big]);
  });
});
