/** The examples of other programs in front of a supervisor, run as their first lines say, with the
 *  real programs and the offline model. (curl.sh and openai-compatible.toml: tour.test.ts; the
 *  openai SDK: test/integration/openai.test.ts; the systemd units: test/cli/service.test.ts.) */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
// @ts-expect-error: it has no declarations.
import parsePrometheus from 'parse-prometheus-text-format';
import { roots, startReceiver } from '../supervisor/telemetry/receiver.ts';
import { findBlocks, readText } from './markdown.ts';
import { type Clone, type CommandResult, createClone } from './shell.ts';

const onPath = 'export PATH="$PWD/bin:$PATH"';

let clone: Clone;

beforeEach(async () => {
  clone = await createClone();
});

afterEach(() => {
  clone.remove();
});

/** All of them, each of which has to succeed. @returns what each printed. */
async function run(...commands: readonly string[]): Promise<readonly string[]> {
  const results = await clone.run([onPath, ...commands]);
  const failures = results.filter(({ exitCode }) => exitCode !== 0).map(toFailure);
  expect(failures).toEqual([]);
  return results.slice(1).map(({ output }) => output);
}

function toFailure({ command, exitCode, output }: CommandResult): string {
  return `${command} → ${exitCode}\n${output}`;
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function change(path: string, from: string, to: string): void {
  const file = join(clone.dir, path);
  const text = readFileSync(file, 'utf8');
  expect(text).toContain(from);
  writeFileSync(file, text.replaceAll(from, to));
}

describe('examples/', () => {
  test('acp-client.mjs has a turn with a tool in the session of an editor', async () => {
    const [, talk = '', list = ''] = await run(
      'prx-supervisor start --detach',
      `node examples/acp-client.mjs '!echo "from acp"'`,
      'prx-supervisor ps --all',
      'prx-supervisor stop',
    );
    expect(talk).toContain('from acp');
    const id = /^s_([0-9a-f]{16}) ended its turn: end_turn$/m.exec(talk)?.[1];
    expect(list).toContain(id?.slice(0, 8) ?? 'a session');
  });

  test('mcp-client.mjs hands a task to a session and reads its answer', async () => {
    const [, talk] = await run(
      'prx-supervisor start --detach',
      `node examples/mcp-client.mjs '!echo "from mcp"'`,
      'prx-supervisor stop',
    );
    expect(talk).toMatch(/^session s_[0-9a-f]{16}: .*idle, turn 1$/m);
    expect(talk).toContain('from mcp');
  });

  test('prometheus.yml scrapes with the token that its first lines make', async () => {
    const yaml = readText('examples/prometheus.yml');
    const path = /metrics_path: (\S+)/.exec(yaml)?.[1];
    const target = /targets: \["([^"]+)"\]/.exec(yaml)?.[1] ?? '';
    const create = /prx-supervisor token create --name prometheus/.exec(yaml)?.[0];
    const port = await findFreePort();
    const url = `http://${target.replace(/\d+$/, String(port))}${path}`;
    const [, , , text = ''] = await run(
      `prx-supervisor start --detach --listen 127.0.0.1:${port}`,
      `${create} > token`,
      'prx-supervisor run --approve never "!true" < /dev/null',
      `curl -sS --fail -H "Authorization: Bearer $(cat token)" ${url}`,
      'prx-supervisor stop',
    );
    const names = (parsePrometheus(text) as { name: string }[]).map(({ name }) => name);
    const dropped = /regex: (\w+)/.exec(yaml)?.[1];
    expect(names).toEqual(expect.arrayContaining(['prx_up', 'prx_turns_total', dropped]));
  });

  test('the configuration of docs/observability.md sends a trace to where otel-collector.yaml listens', async () => {
    const blocks = findBlocks(readText('docs/observability.md'));
    const toml = blocks.find(({ info }) => info === 'toml')?.lines.join('\n') ?? '';
    const endpoint = /otlp_endpoint = "http:\/\/([^"]+)"/.exec(toml)?.[1];
    expect(readText('examples/otel-collector.yaml')).toContain(`endpoint: ${endpoint}\n`);
    const receiver = await startReceiver();
    writeFileSync(join(clone.dir, 'prx.toml'), toml.replace(`http://${endpoint}`, receiver.url));
    try {
      await run(
        'prx-supervisor start --detach --config prx.toml',
        'prx-supervisor run "hello" < /dev/null',
        'prx-supervisor stop',
      );
      expect(roots(receiver.spans).map(({ name }) => name)).toEqual(['invoke_agent default']);
    } finally {
      await receiver.close();
    }
  });
});

/** What a package has below /usr/sbin is not on every user's path. */
const nginx = ['nginx', '/usr/sbin/nginx'].find(
  (program) => spawnSync(program, ['-v']).error === undefined,
);
const withNginx = nginx === undefined ? test.skip : test;

describe('examples/nginx.conf (needs nginx and openssl)', () => {
  withNginx(
    'lets requests, streams and WebSockets through, under the name that link_url has',
    async () => {
      const [port, tlsPort] = [await findFreePort(), await findFreePort()];
      change('examples/nginx.conf', '127.0.0.1:7433', `127.0.0.1:${port}`);
      change('examples/nginx.conf', 'listen 443', `listen 127.0.0.1:${tlsPort}`);
      change('examples/nginx.conf', '/etc/ssl/prx', `${clone.dir}/prx`);
      const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((name) => `${name}_temp_path ${clone.dir}/${name};`)
        .join(' ');
      writeFileSync(
        join(clone.dir, 'all.conf'),
        `daemon on; pid ${clone.dir}/nginx.pid; error_log stderr; events {}
         http { access_log off; ${scratch} include ${clone.dir}/examples/nginx.conf; }`,
      );
      writeFileSync(
        join(clone.dir, 'prx.toml'),
        `[api]\nlisten = "127.0.0.1:${port}"\n` +
          '[security.approval]\nlink_url = "https://prx.example.org"\n',
      );
      const place = `prx.example.org:${tlsPort}:127.0.0.1`;
      const curl = `curl -sS --fail --cacert prx.pem --resolve ${place}`;
      const url = `https://prx.example.org:${tlsPort}`;
      const upgrade =
        '-H "Connection: Upgrade" -H "Upgrade: websocket" -H "Sec-WebSocket-Version: 13" ' +
        '-H "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="';
      const [, , , , , status, events, origin, socket] = await run(
        'openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=prx.example.org ' +
          '-addext subjectAltName=DNS:prx.example.org -keyout prx.key -out prx.pem',
        'prx-supervisor start --detach --config prx.toml',
        'prx-supervisor token create --name proxied --scope operate > token',
        `${nginx} -p ${clone.dir} -c ${clone.dir}/all.conf`,
        'prx-supervisor run "hello" < /dev/null',
        `${curl} -H "Authorization: Bearer $(cat token)" ${url}/api/v1/status`,
        // In the background: it would hear only of the next heartbeat that nobody reads any more.
        `{ ${curl} -N -H "Accept: text/event-stream" -H "Authorization: Bearer $(cat token)" ` +
          `"${url}/api/v1/sessions/@last/events?follow=true" & } | sed '/turn.completed/q'`,
        `${curl} -H "Origin: https://prx.example.org" -H "Authorization: Bearer $(cat token)" ` +
          `${url}/api/v1/sessions`,
        `${curl} --http1.1 -i --max-time 2 ${upgrade} -H "Authorization: Bearer $(cat token)" ` +
          `${url}/api/v1/sessions/@last/ws | head -n 1`,
        `kill "$(cat ${clone.dir}/nginx.pid)"`,
        'prx-supervisor stop',
      );
      expect(status).toContain('"takes_work":true');
      expect(events).toContain('event: turn.completed');
      expect(origin).toContain('"id":"s_');
      expect(socket).toContain('101');
    },
  );
});
