/** The only door to randomness, so that a simulation can replay a run from its seed. */
import { randomBytes, randomUUID } from 'node:crypto';

export interface Random {
  /** Uniform in [0, 1). For jitter and simulation, never for secrets. */
  next(): number;
  /** `bytes` unpredictable bytes as lower-case hex. */
  hex(bytes: number): string;
  uuid(): string;
}

export const realRandom: Random = {
  next: () => Math.random(),
  hex: (bytes) => randomBytes(bytes).toString('hex'),
  uuid: () => randomUUID(),
};
