/** The webhook that is told of approvals, and the link in it that answers one, once. */
import { createHmac } from 'node:crypto';
import { statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import { signLink } from '../../../supervisor/effects/approval-link.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, call, dataOf, runsEverything, say } from '../script.ts';

const servers = new Set<Server>();
afterEach(async () => {
  await demolish();
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  servers.clear();
});

interface Post {
  readonly signature: string;
  readonly body: string;
}

/** A receiver that answers with these statuses, the last one for ever. */
async function receive(statuses: readonly number[]): Promise<{ url: string; posts: Post[] }> {
  const posts: Post[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const signature = String(request.headers['x-prx-signature']);
    posts.push({ signature, body: Buffer.concat(chunks).toString('utf8') });
    response.writeHead(statuses[posts.length - 1] ?? statuses.at(-1) ?? 200).end();
  });
  servers.add(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, posts };
}

/** Where nobody listens any more. (Port 1 is one that `fetch` does not even try.) */
async function closedPlace(): Promise<string> {
  const { url } = await receive([200]);
  const [server] = [...servers].slice(-1);
  await new Promise((resolve) => server?.close(resolve));
  return url;
}

const SECRET = 'of-the-receiver';
const first = '1.1.1' as EffectId;

async function asking(url: string): Promise<{ house: House; id: SessionId; toml: string }> {
  const toml = [
    '[security.tool_policy]\ndefault = "supervised"',
    '[security.approval]',
    `webhook_url = "${url}"\nwebhook_secret_env = "HOOK"\nlink_url = "https://prx.test/"`,
  ].join('\n');
  const gateway = answers({ '1.1': say('', [call('a', 'rm x')]) });
  const script = { gateway, host: runsEverything() };
  const house = await createHouse({ toml, script, env: { HOOK: SECRET } });
  const id = await house.create();
  await house.send(id, 'hello');
  return { house, id, toml };
}

const WEBHOOK =
  '[config:security.approval.webhook_url] [config:security.approval.webhook_secret_env] [config:security.approval.link_url] [event:approval.notified]';

describe(`${WEBHOOK} the webhook`, () => {
  test('gets a signed request whose link answers the approval once', async () => {
    const { url, posts } = await receive([200]);
    const { house, id } = await asking(url);
    const told = await house.until(id, 'approval.notified');
    expect(told.data).toEqual({ call_id: first, ok: true, attempts: 1 });
    const [post] = posts;
    const [, time, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(post?.signature ?? '') ?? [];
    const expected = createHmac('sha256', SECRET).update(`${time}.${post?.body}`).digest('hex');
    expect(signature).toBe(expected);
    const body = JSON.parse(post?.body ?? '{}') as { link: string };
    expect(body).toMatchObject({
      ...{ type: 'approval.requested', session: id, call_id: first, tool: 'shell' },
      arguments: { command: 'rm x' },
      link: expect.stringMatching(/^https:\/\/prx\.test\/api\/v1\/links\/[\w-]+\.[0-9a-f]{64}$/),
    });
    const token = body.link.split('/').at(-1) ?? '';
    const { supervisor } = house;
    expect(await supervisor.readLink(token)).toMatchObject({ session: id, call_id: first });
    await supervisor.answerLink(token, 'approve');
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'approval.resolved')).toMatchObject([
      { decision: 'approve', by: 'link', scope: 'once' },
    ]);
    const spent = { code: 'APPROVAL_RESOLVED' };
    await expect(supervisor.answerLink(token, 'deny')).rejects.toMatchObject(spent);
    await expect(supervisor.readLink(token)).rejects.toMatchObject(spent);
  });

  test('that fails is tried again, then reported; the approval waits on', async () => {
    const { url, posts } = await receive([500, 302, 200]);
    const { house, id } = await asking(url);
    const told = await house.until(id, 'approval.notified');
    expect(told.data).toEqual({ call_id: first, ok: true, attempts: 3 });
    expect(posts).toHaveLength(3);
    await house.supervisor.resolveApproval(id, first, { decision: 'deny' }, 'test');
    await house.turnDone(id);
    const { house: other, id: waiting } = await asking(await closedPlace());
    const failed = await other.until(waiting, 'approval.notified');
    const problem = expect.stringContaining('fetch failed (ECONNREFUSED)');
    expect(failed.data).toMatchObject({ ok: false, attempts: 3, problem });
    expect(await other.supervisor.listApprovals()).toHaveLength(1);
  });

  test('needs a secret and a place where its links lead', async () => {
    const toml = '[security.approval]\nwebhook_url = "http://127.0.0.1:1/"';
    const link = 'link_url = "http://127.0.0.1:2"';
    const invalid = (what: string) => ({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(what),
    });
    await expect(createHouse({ toml })).rejects.toMatchObject(invalid('link_url or api.listen'));
    await expect(createHouse({ toml: `${toml}\n${link}` })).rejects.toMatchObject(
      invalid('PRX_WEBHOOK_SECRET'),
    );
  });
});

describe('a link', () => {
  test('that was made up, altered or has expired is refused, and the key is owner-only', async () => {
    const { url } = await receive([200]);
    const { house, id } = await asking(url);
    await house.until(id, 'approval.notified');
    expect(statSync(join(house.stateDir, 'link-key')).mode & 0o777).toBe(0o600);
    const [{ digest = '' } = {}] = await house.supervisor.listApprovals();
    const key = house.runtime.policy.linkKey();
    const facts = { session: id, callId: first, digest, expiresAtMs: Date.now() + 60_000 };
    const good = signLink(key, facts);
    const [payload = '', signature = ''] = good.split('.');
    const altered = Buffer.from(payload, 'base64url').toString().replace('1.1.1', '1.1.2');
    const bad = [
      signLink('another key', facts),
      `${Buffer.from(altered).toString('base64url')}.${signature}`,
      `${payload}.${signature.replace(/^./, '')}`,
      `${good}.${signature}`,
      payload,
      '',
      signLink(key, { ...facts, expiresAtMs: Date.now() - 1 }),
    ];
    for (const token of bad) {
      await expect(house.supervisor.answerLink(token, 'approve')).rejects.toMatchObject({
        code: 'FORBIDDEN',
      });
    }
    const stale = signLink(key, { ...facts, digest: 'of another call' });
    await expect(house.supervisor.answerLink(stale, 'approve')).rejects.toMatchObject({
      code: 'APPROVAL_MISMATCH',
    });
    await house.supervisor.answerLink(good, 'deny');
  });
});
