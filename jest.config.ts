import type { Config } from 'jest';

// ESM through ts-jest. Types are the business of `tsc`, which `npm test` runs first: without
// diagnostics a test file costs about 70 ms instead of 150.
const config: Config = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': [
      'ts-jest',
      { useESM: true, diagnostics: false, tsconfig: '<rootDir>/tsconfig.json' },
    ],
  },
  globalSetup: '<rootDir>/test/built.mjs',
  setupFilesAfterEnv: ['<rootDir>/test/second-try.ts', '<rootDir>/test/addressed-signals.ts'],
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/coverage/'],
  cacheDirectory: '<rootDir>/node_modules/.cache/jest',
  maxWorkers: 2,
  // A guard against a test that hangs, for all of them: how long one takes is no statement.
  testTimeout: 180_000,
};

export default config;
