/** What the api says of the journal as a whole: reports of the verification and of a backup, and
 *  pages of its export. */
import { z } from 'zod';
import { eventEnvelopeSchema } from './events.ts';

const problemSchema = z.object({
  /** A session, `system`, or the journal's file. */
  session: z.string(),
  /** The first event that is wrong; 0: none in particular. */
  seq: z.number(),
  problem: z.string(),
});

export const journalReportSchema = z.object({
  sessions: z.number(),
  events: z.number(),
  /** Empty: every checksum, hash chain and record is as it was written. */
  problems: z.array(problemSchema),
});
export type JournalReport = z.infer<typeof journalReportSchema>;

/** One event with its seal; how to check it stands in docs/journal.md. */
const sealedEventSchema = eventEnvelopeSchema.extend({
  session: z.string(),
  id: z.number(),
  ref: z.string().nullable(),
  power: z.boolean(),
  crc: z.number(),
  hash: z.string(),
  damaged: z.string().optional(),
  /** What a repair took out: when, and why. */
  moved_at: z.string().optional(),
  reason: z.string().optional(),
});

export const journalPageSchema = z.object({
  events: z.array(sealedEventSchema),
  /** `after` of the next page; null: that was all. */
  next: z.number().nullable(),
});
export type JournalPage = z.infer<typeof journalPageSchema>;

export const backupViewSchema = z.object({
  path: z.string(),
  bytes: z.number(),
  created_at: z.string(),
  epoch: z.number(),
  sessions: z.number(),
  events: z.number(),
  /** Over the newest link of every session's hash chain. */
  heads_sha256: z.string(),
  files: z.number(),
  file_bytes: z.number(),
  /** What was damaged in the journal already. */
  problems: z.array(problemSchema),
});
export type BackupView = z.infer<typeof backupViewSchema>;
