/** Tokens of the TCP door as clients see them: never the value but once, in the answer that made
 *  it, and never its hash but the first digits, by which a log line is told to be of this token. */
import { z } from 'zod';

/** observer: read · approver: approve · driver: operate. Each includes what stands before it. */
export const scopeSchema = z.enum(['read', 'approve', 'operate', 'admin']);
export type Scope = z.infer<typeof scopeSchema>;

/** How a person names a token; `token:<name>` stands in the journal. */
export const tokenNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'letters, digits, . _ - and at most 64 of them');

/** Ten years: longer is `never`, which is said by leaving it out. */
const EXPIRES_SECS_MAX = 10 * 366 * 86_400;

export const createTokenSchema = z.strictObject({
  name: tokenNameSchema.optional().describe('Absent: one is made up.'),
  scopes: z.array(scopeSchema).min(1).max(4).optional().describe('Absent: read.'),
  expires_in_secs: z.number().int().min(1).max(EXPIRES_SECS_MAX).optional(),
});
export type CreateToken = z.infer<typeof createTokenSchema>;

export const tokenViewSchema = z.object({
  name: z.string(),
  scopes: z.array(scopeSchema),
  /** issued: by `token create`; config: of api.tokens; local: made at the first start. */
  source: z.enum(['issued', 'config', 'local']),
  /** The first digits of its SHA-256, as the log names a token. */
  fingerprint: z.string(),
  created_at: z.string().optional(),
  /** Absent: never. */
  expires_at: z.string().optional(),
  is_expired: z.boolean(),
  /** Absent: not since the supervisor knows of it. */
  last_used_at: z.string().optional(),
});
export type TokenView = z.infer<typeof tokenViewSchema>;

/** The one time that the value is told. */
export const createdTokenSchema = tokenViewSchema.extend({ token: z.string() });
export type CreatedToken = z.infer<typeof createdTokenSchema>;
