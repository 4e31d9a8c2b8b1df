/** Branded ids. A session id is opaque to clients; effects have deterministic ids, so that a
 *  restarted worker that asks again means the same effect: `turn.step` for a model call,
 *  `turn.step.call` for a tool call (the `call_id` of events and approvals). */
import { z } from 'zod';
import type { Random } from '../base/random.ts';

export const sessionIdSchema = z
  .string()
  .regex(/^s_[0-9a-f]{16}$/, 'a session id: s_ and 16 hex digits')
  .brand<'SessionId'>();
export type SessionId = z.infer<typeof sessionIdSchema>;

export const inputIdSchema = z.string().min(1).max(64).brand<'InputId'>();
export type InputId = z.infer<typeof inputIdSchema>;

export const effectIdSchema = z
  .string()
  .regex(/^\d{1,9}\.\d{1,9}(\.\d{1,9})?$/, 'an effect id: turn.step or turn.step.call')
  .brand<'EffectId'>();
export type EffectId = z.infer<typeof effectIdSchema>;

export function createSessionId(random: Random): SessionId {
  return sessionIdSchema.parse(`s_${random.hex(8)}`);
}

export function createInputId(random: Random): InputId {
  return inputIdSchema.parse(`in_${random.hex(8)}`);
}

/** Numbers start at 1. */
export function toModelEffectId(turn: number, step: number): EffectId {
  return effectIdSchema.parse(`${turn}.${step}`);
}

export function toToolEffectId(turn: number, step: number, call: number): EffectId {
  return effectIdSchema.parse(`${turn}.${step}.${call}`);
}

export interface EffectAddress {
  readonly turn: number;
  readonly step: number;
  /** Absent for a model call. */
  readonly call: number | undefined;
}

export function parseEffectId(id: EffectId): EffectAddress {
  const [turn, step, call] = id.split('.').map(Number);
  return { turn: turn ?? 0, step: step ?? 0, call };
}
