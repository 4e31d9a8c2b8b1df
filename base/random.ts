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

/** Reproducible numbers: the same text gives the same sequence on every machine. Independent parts
 *  of one run take texts of their own (`7/load/3`), so that none depends on the order in which the
 *  others draw. Never for secrets.
 *  Source: sfc32 (PractRand), seeded by four rounds of FNV-1a. */
export function createSeededRandom(seed: string): Random {
  let [a, b, c, d] = [hashText(seed, 1), hashText(seed, 2), hashText(seed, 3), 1];
  const nextInt = (): number => {
    const sum = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let round = 0; round < 12; round += 1) nextInt();
  const hex = (bytes: number): string =>
    Array.from({ length: bytes }, () => (nextInt() & 0xff).toString(16).padStart(2, '0')).join('');
  return {
    next: () => nextInt() / 2 ** 32,
    hex,
    uuid: () =>
      `${hex(4)}-${hex(2)}-4${hex(2).slice(1)}-${((nextInt() & 3) + 8).toString(16)}${hex(2).slice(1)}-${hex(6)}`,
  };
}

function hashText(text: string, salt: number): number {
  let hash = Math.imul(2_166_136_261 ^ salt, 16_777_619);
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 16_777_619);
  }
  return (hash ^ (hash >>> 15)) >>> 0;
}
