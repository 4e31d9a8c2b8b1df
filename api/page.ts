/** The web page, from the folder that the build made: three files, read once each. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../base/errors.ts';

export interface PageFile {
  readonly bytes: Buffer;
  readonly contentType: string;
  readonly etag: string;
}

export interface Page {
  /** Undefined: there is no such file, or the page was not built. */
  find(name: string): PageFile | undefined;
}

/** Nothing but these is served: a name is never made a path. */
const contentTypes = new Map([
  ['index.html', 'text/html; charset=utf-8'],
  ['style.css', 'text/css; charset=utf-8'],
  ['app.js', 'text/javascript; charset=utf-8'],
]);

/** What the page may do: talk to where it came from. No inline script, no frame around it. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};

export function openPage(folder: string): Page {
  const files = new Map<string, PageFile>();
  return {
    find(name) {
      const contentType = contentTypes.get(name);
      if (contentType === undefined) return undefined;
      const known = files.get(name);
      if (known !== undefined) return known;
      const bytes = readOrNothing(join(folder, name));
      if (bytes === undefined) return undefined;
      const digest = createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
      const file = { bytes, contentType, etag: `"${digest}"` };
      files.set(name, file);
      return file;
    },
  };
}

function readOrNothing(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
