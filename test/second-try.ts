/** In the check of a clean clone, a test of real processes that fails is tried once more: a starved
 *  machine can miss a bound. Both tries are printed and `.ci/run` lists what needed a second one.
 *  Pure tests have one try, and at a desk every test has. */
import { expect, jest } from '@jest/globals';

const REAL_PROCESSES = /\/test\/(integration|cli|sandbox|supervisor\/children|protocol|store)\//;

const path = expect.getState().testPath ?? '';
if (process.env.CI !== undefined && REAL_PROCESSES.test(path)) {
  jest.retryTimes(1, { logErrorsBeforeRetry: true });
}
