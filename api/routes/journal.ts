/** The journal as a whole: verified, exported, backed up while everything goes on. */
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import {
  backupViewSchema,
  journalPageSchema,
  journalReportSchema,
} from '../../protocol/journal.ts';
import { defineRoute, type Route, toJsonAnswer } from '../route.ts';
import {
  flagSchema,
  limitSchema,
  naturalSchema,
  PAGE_LIMIT_DEFAULT,
  sessionRefSchema,
} from './params.ts';

const PATH_CHARS_MAX = 4096;

const sessionSchema = sessionRefSchema
  .optional()
  .describe("A session, or `system` for the supervisor's own events; absent: all.");

const backupSchema = z.strictObject({
  path: z
    .string()
    .startsWith('/')
    .max(PATH_CHARS_MAX)
    .describe('A new file, on the machine of the supervisor.'),
});

export const journalRoutes: readonly Route[] = [
  defineRoute({
    id: 'exportJournal',
    method: 'GET',
    path: '/api/v1/journal',
    scope: 'read',
    status: 200,
    summary: 'A page of the journal with checksums and hashes, also of what is damaged',
    query: z.strictObject({
      session: sessionSchema,
      after: naturalSchema.optional().describe('As `next` of the page before; default 0.'),
      limit: limitSchema.optional(),
      aside: flagSchema.optional().describe('What repairs took out, instead of the journal.'),
    }),
    response: journalPageSchema,
    handle: async ({ supervisor, query }) =>
      toJsonAnswer(
        await supervisor.exportJournal(query.session, {
          after: query.after ?? 0,
          limit: query.limit ?? PAGE_LIMIT_DEFAULT,
          aside: query.aside ?? false,
        }),
      ),
  }),
  defineRoute({
    id: 'verifyJournal',
    method: 'GET',
    path: '/api/v1/journal/verify',
    scope: 'read',
    status: 200,
    summary: 'Check every event, hash chain and record; the answer takes as long as that does',
    query: z.strictObject({ session: sessionSchema }),
    response: journalReportSchema,
    handle: async ({ supervisor, query }) =>
      toJsonAnswer(await supervisor.verifyJournal(query.session)),
  }),
  defineRoute({
    id: 'createBackup',
    method: 'POST',
    path: '/api/v1/backup',
    scope: 'admin',
    status: 201,
    summary: 'Write journal and artifacts into one verified file, while everything goes on',
    body: backupSchema,
    response: backupViewSchema,
    handle: async ({ supervisor, body, by }) => {
      if (by !== 'socket') {
        const message = 'a backup writes a file on the machine of the supervisor: ask for it there';
        throw new PrxError('FORBIDDEN', `${message}, through its unix socket`);
      }
      return toJsonAnswer(await supervisor.backup(body.path));
    },
  }),
];
