/** `journal`, `backup` and `restore`: through the api where a supervisor answers, else by the
 *  supervisor's own program on the state directory. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import { pageEvents } from '../../cli/session/history.ts';
import { open } from '../store/setup.ts';
import { created, delta, renamed, sessionId } from '../store/setup-events.ts';
import { runCli } from './run-cli.ts';

const SECONDS = 60_000;

let folder = '';
let stateDir = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-journal-'));
  stateDir = join(folder, 'state');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = (...argv: string[]) => runCli({ stateDir }, argv, { cwd: folder });

async function writeJournal(): Promise<void> {
  const store = await open(stateDir);
  await store.append({ events: [created(1, { name: 'web' }), created(2), delta('a', 1)] });
  await store.append({ events: [renamed('two', 2)] });
  await store.backup(join(folder, 'backup.db'));
  await store.close();
}

function damage(sql: string): void {
  const db = new DatabaseSync(join(stateDir, 'journal.db'));
  db.exec(sql);
  db.close();
}

const parse = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('without a supervisor', () => {
  test(
    '[command:journal] verify, repair and export work on the state directory',
    async () => {
      await writeJournal();
      expect(await run('journal', 'verify')).toMatchObject({
        exit: 0,
        out: '2 sessions, 4 events: no damage\n',
      });
      const exported = await run('journal', 'export', 'web');
      expect(exported.exit).toBe(0);
      expect(parse(exported.out)).toMatchObject([
        { session: sessionId(1), seq: 1, hash: expect.any(String), crc: expect.any(Number) },
        { session: sessionId(1), seq: 2 },
      ]);

      damage(`UPDATE events SET crc = 1 WHERE session = '${sessionId(2)}' AND seq = 2`);
      const found = await run('journal', 'verify');
      expect(found).toMatchObject({ exit: 1, err: expect.stringContaining('journal repair') });
      expect(found.out).toMatch(/SESSION +EVENT +PROBLEM\ns_0+2 +2 +its checksum/);
      expect(await run('journal', 'verify', 'web')).toMatchObject({ exit: 0 });
      const json = await run('journal', 'verify', '--json');
      expect(JSON.parse(json.out)).toMatchObject({
        sessions: 2,
        problems: [{ session: sessionId(2), seq: 2 }],
      });

      const mended = await run('journal', 'repair');
      expect(mended).toMatchObject({ exit: 0, out: expect.stringContaining('1 mended') });
      expect(mended.out).toMatch(/s_0+2 +1 to 1 +1 +its checksum/);
      expect(await run('journal', 'verify')).toMatchObject({ exit: 0 });
      const aside = await run('journal', 'export', '--aside');
      expect(parse(aside.out)).toMatchObject([
        { type: 'record' },
        { type: 'session.renamed', seq: 2, damaged: expect.any(String) },
      ]);
    },
    SECONDS,
  );

  test(
    '[command:restore] puts a backup in place; --force keeps what was there',
    async () => {
      await writeJournal();
      const refused = await run('restore', 'backup.db');
      expect(refused).toMatchObject({ exit: 1, err: expect.stringContaining('--force') });
      const done = await run('restore', 'backup.db', '--force');
      expect(done.out).toMatch(
        /^restored 2 sessions, 4 events, 0 artifacts as of .*; epoch 1001\n$/,
      );
      const aside = /the old state is kept: (.*)\n/.exec(done.err)?.[1] ?? '';
      expect(existsSync(join(aside, 'journal.db'))).toBe(true);
      expect(await run('journal', 'verify')).toMatchObject({ exit: 0 });
      const elsewhere = join(folder, 'elsewhere');
      expect(await run('restore', 'backup.db', '--state-dir', elsewhere, '--json')).toMatchObject({
        exit: 0,
      });
      expect(existsSync(join(elsewhere, 'journal.db'))).toBe(true);
      expect(await run('restore', 'none.db', '--force')).toMatchObject({ exit: 2 });
    },
    SECONDS,
  );

  test(
    'each refusal has its exit code: no journal, no session, a journal in use, a remote one',
    async () => {
      expect(await run('journal', 'verify')).toMatchObject({ exit: 1 });
      await writeJournal();
      expect(await run('journal', 'export', 'nobody')).toMatchObject({
        exit: 1,
        err: expect.stringContaining('nobody'),
      });
      const store = await open(stateDir);
      expect(await run('journal', 'repair')).toMatchObject({
        exit: 75,
        err: expect.stringContaining('in use by process'),
      });
      await store.close();
      const remote = await run('journal', 'repair', '--url', 'http://127.0.0.1:9');
      expect(remote).toMatchObject({ exit: 2, err: expect.stringContaining('this machine') });
      expect(await run('backup', 'x.db')).toMatchObject({ exit: 3 });
    },
    SECONDS,
  );
});

describe('with a supervisor', () => {
  let server: Server;
  let asked: string[] = [];

  beforeEach(async () => {
    asked = [];
    mkdirSync(stateDir);
    server = createServer((request, response) => {
      const url = request.url ?? '';
      let body = '';
      request.on('data', (chunk) => {
        body += String(chunk);
      });
      request.on('end', () => {
        asked.push(`${request.method} ${url} ${body}`.trim());
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(answer(url)));
      });
    });
    await new Promise<void>((done) => server.listen(join(stateDir, 'api.sock'), done));
  });

  afterEach(() => new Promise((done) => server.close(done)));

  function answer(url: string): unknown {
    if (url.startsWith('/api/v1/journal/verify')) return { sessions: 3, events: 9, problems: [] };
    if (url.startsWith('/api/v1/backup')) {
      const counts = { bytes: 2 ** 21, epoch: 1, sessions: 3, events: 9, files: 4, file_bytes: 5 };
      const problems = [{ session: 's_1', seq: 2, problem: 'p' }];
      return { path: '/b', created_at: 't', heads_sha256: 'h', ...counts, problems };
    }
    const isSecond = url.includes('after=7');
    return isSecond ? { events: [{ seq: 2 }], next: null } : { events: [{ seq: 1 }], next: 7 };
  }

  test('[command:journal] verify and export ask it, export in pages', async () => {
    expect(await run('journal', 'verify', '@last')).toMatchObject({
      exit: 0,
      out: '3 sessions, 9 events: no damage\n',
    });
    expect((await run('journal', 'export', '--aside')).out).toBe('{"seq":1}\n{"seq":2}\n');
    expect(asked).toEqual([
      'GET /api/v1/journal/verify?session=%40last',
      'GET /api/v1/journal?after=0&limit=1000&aside=true',
      'GET /api/v1/journal?after=7&limit=1000&aside=true',
    ]);
  });

  test('[command:backup] names a file of the caller; damage in it is exit 1', async () => {
    const { exit, out, err } = await run('backup', 'x.db');
    expect([exit, out]).toEqual([1, '/b: 2.0 MiB, 3 sessions, 9 events, 4 artifacts, verified\n']);
    expect(err).toContain('damaged before the backup: s_1 at event 2: p');
    expect(asked).toEqual([`POST /api/v1/backup {"path":"${join(folder, 'x.db')}"}`]);
  });
});

test('a history from the start begins with the first event that retention left', async () => {
  const asked: number[] = [];
  const client = {
    readEvents: async (_: string, { since = 0 }: { since?: number }) => {
      asked.push(since);
      if (since < 7) {
        throw new PrxError('CURSOR_GONE', 'gone', { data: { first_seq: 8 } });
      }
      const event = { session: sessionId(1), epoch: 1, time: 't', type: 't', data: {} };
      const events = since < 9 ? [{ ...event, seq: since + 1 }] : [];
      return { events, next: since, last_seq: 9 };
    },
  };
  const found: number[] = [];
  for await (const { seq } of pageEvents({ client, sessionId: 's', since: 0 })) found.push(seq);
  expect([found, asked]).toEqual([
    [8, 9],
    [0, 7, 8, 9],
  ]);
  const stale = pageEvents({ client, sessionId: 's', since: 3 });
  await expect(stale.next()).rejects.toMatchObject({ code: 'CURSOR_GONE' });
});
