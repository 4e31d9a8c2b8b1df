/** The web page. It needs no token to be loaded: it is the same for everybody and knows nothing;
 *  what it shows it asks the api for, with the token that its user gives it. */
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { isKnown } from '../etag.ts';
import { PAGE_HEADERS, type Page } from '../page.ts';
import { type Answer, defineRoute, type Route } from '../route.ts';

export const pageRoutes: readonly Route[] = [
  defineRoute({
    id: 'getPage',
    method: 'GET',
    path: '/',
    scope: 'none',
    status: 200,
    otherStatuses: [304],
    summary: 'The web page',
    contentType: 'text/html; charset=utf-8',
    handle: async ({ page, headers }) => toFile(page, 'index.html', headers),
  }),
  defineRoute({
    id: 'getPageFile',
    method: 'GET',
    path: '/dashboard/{name}',
    scope: 'none',
    status: 200,
    otherStatuses: [304],
    summary: 'A script or style of the web page',
    contentType: 'text/javascript; charset=utf-8',
    params: z.strictObject({ name: z.string().max(64) }),
    handle: async ({ page, params, headers }) => toFile(page, params.name, headers),
  }),
];

function toFile(page: Page, name: string, headers: IncomingHttpHeaders): Answer {
  const file = page.find(name);
  if (file === undefined) {
    const message = `there is no '${name}' of the web page; was it built? (npm run build)`;
    throw new PrxError('NOT_FOUND', message);
  }
  const { bytes, contentType, etag } = file;
  const rest = { ...PAGE_HEADERS, etag };
  const isCurrent = isKnown(headers['if-none-match'], etag);
  return { kind: 'bytes', bytes: isCurrent ? undefined : bytes, contentType, headers: rest };
}
