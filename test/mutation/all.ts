/** Every mutation, in the order of the invariants. */
import { crossingMutations } from './crossings.ts';
import { effectMutations } from './effects.ts';
import { foreignMutations } from './foreign.ts';
import { journalMutations } from './journal.ts';
import { machineMutations } from './machine.ts';
import { invariantOf, type Mutation } from './mutation.ts';
import { processMutations } from './processes.ts';
import { refusalMutations } from './refusals.ts';
import { streamMutations } from './streams.ts';

export const mutations: readonly Mutation[] = [
  ...journalMutations,
  ...effectMutations,
  ...machineMutations,
  ...processMutations,
  ...refusalMutations,
  ...foreignMutations,
  ...streamMutations,
  ...crossingMutations,
].toSorted((one, other) => invariantOf(one) - invariantOf(other));
