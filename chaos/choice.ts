/** Seeded choices: small pure draws over a Random, so that a plan reads as what it means. */
import { assert } from '../base/assert.ts';
import type { Random } from '../base/random.ts';

/** An integer, both ends included. */
export function drawInt(random: Random, from: number, to: number): number {
  return from + Math.floor(random.next() * (to - from + 1));
}

/** One key, as often as its weight says. */
export function drawWeighted<K extends string>(
  random: Random,
  weights: Readonly<Record<K, number>>,
): K {
  const entries = Object.entries(weights) as [K, number][]; // the keys of the type, and no others
  const total = entries.reduce((sum, [, weight]) => sum + weight, 0);
  let left = random.next() * total;
  for (const [key, weight] of entries) {
    left -= weight;
    if (left < 0) return key;
  }
  const [first] = entries[0] ?? [];
  assert(first !== undefined, 'there is something to choose from');
  return first;
}

export function drawBoolean(random: Random, probability: number): boolean {
  return random.next() < probability;
}
