/** A signed link as a browser uses it: a page without a script, and a button that sends a form. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answered, ask, openRig, parseProblem, type Rig } from './harness.ts';

let rig: Rig;
let port = 0;
beforeAll(async () => {
  rig = await openRig({ hosts: ['prx.test'], origins: ['https://prx.test'] });
  ({ port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 }));
});
afterAll(() => rig.close());

const FORM = 'application/x-www-form-urlencoded';
/** A browser behind a TLS proxy: no token, the proxy's name, the origin of its page. */
const browser = { host: 'prx.test', origin: 'https://prx.test' };

const press = (path: string, headers: Record<string, string>, body = ''): Promise<Answered> => {
  const length = String(Buffer.byteLength(body));
  const asked = { 'content-type': FORM, 'content-length': length, ...headers };
  return ask({ port }, { method: 'POST', path, headers: asked, body });
};

describe('the page behind a link', () => {
  test('shows the call and changes nothing; what the model wrote is text', async () => {
    rig.supervisor.calls.length = 0;
    const page = await ask({ port }, { path: '/api/v1/links/t.s', headers: browser });
    expect(page.status).toBe(200);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.text).toContain('&#60;b&#62;');
    expect(page.text).not.toContain('<b>"');
    expect(page.text).toMatch(/default-src 'none'/);
    expect(page.text).toContain('action="/api/v1/links/t.s/approve"');
    expect(rig.supervisor.calls).toEqual(['readLink("t.s")']);
  });

  test('its button answers, without a token', async () => {
    rig.supervisor.calls.length = 0;
    const answered = await press('/api/v1/links/t.s/approve', browser);
    expect([answered.status, answered.text]).toEqual([200, expect.stringContaining('used up')]);
    expect(rig.supervisor.calls).toEqual(['answerLink("t.s", "approve")']);
  });

  test('a page of somebody else cannot press it; a link that is used up says so', async () => {
    const foreign = await press('/api/v1/links/t.s/approve', {
      ...browser,
      origin: 'https://evil',
    });
    expect(parseProblem(foreign)).toMatchObject({ status: 403, code: 'FORBIDDEN' });
    const spent = await ask({ port }, { path: '/api/v1/links/spent', headers: browser });
    expect(parseProblem(spent)).toMatchObject({ status: 409, code: 'APPROVAL_RESOLVED' });
  });

  test('no other route takes a form, and no link takes more than the button', async () => {
    const path = '/api/v1/sessions';
    const asked = { method: 'POST', path, headers: { 'content-type': FORM }, body: '' };
    const refused = await ask({ socketPath: rig.socketPath }, asked);
    expect(parseProblem(refused)).toMatchObject({ status: 415 });
    const filled = await press('/api/v1/links/t.s/deny', browser, 'decision=approve');
    expect(filled.status).toBe(415);
  });
});
