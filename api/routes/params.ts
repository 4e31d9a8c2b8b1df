/** Parameters that several routes take. What a query carries is text: each schema says what the
 *  text must be, and gives the value. */
import { z } from 'zod';

/** A session: id, unambiguous part of one, name, or @last. */
export const sessionRefSchema = z.string().min(1).max(128);
export const sessionParams = z.strictObject({ id: sessionRefSchema });

export const naturalSchema = z
  .string()
  .regex(/^\d{1,15}$/, 'a whole number, 0 or more')
  .transform(Number)
  .meta({ type: 'integer', minimum: 0 });

export const flagSchema = z
  .enum(['true', 'false', '1', '0'])
  .transform((text) => text === 'true' || text === '1');

const LIST_ITEMS_MAX = 64;

/** A list in a query: `k=a,b`, `k=a&k=b`, or both. */
export const listSchema = z
  .union([z.string(), z.array(z.string()).max(LIST_ITEMS_MAX)])
  .transform((value) => [value].flat().flatMap((text) => text.split(',')))
  .pipe(z.array(z.string()).max(LIST_ITEMS_MAX));

export const PAGE_LIMIT_DEFAULT = 200;
const PAGE_LIMIT_MAX = 1000;

export const limitSchema = naturalSchema.pipe(
  z
    .number()
    .min(1)
    .max(PAGE_LIMIT_MAX)
    .describe(`Events of one page; default ${PAGE_LIMIT_DEFAULT}.`),
);
