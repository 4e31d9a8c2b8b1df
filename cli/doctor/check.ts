/** One finding of the doctor, and what they come to together. */
export type CheckStatus = 'ok' | 'warn' | 'fail';

export interface Check {
  readonly id: string;
  readonly category: 'machine' | 'state' | 'sandbox' | 'provider' | 'supervisor';
  readonly status: CheckStatus;
  readonly summary: string;
  /** What to do about it; absent when nothing is needed. */
  readonly mend?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

const RANK: Readonly<Record<CheckStatus, number>> = { ok: 0, warn: 1, fail: 2 };

/** The worst of them. */
export function toOverall(checks: readonly Check[]): CheckStatus {
  return checks.reduce<CheckStatus>(
    (worst, check) => (RANK[check.status] > RANK[worst] ? check.status : worst),
    'ok',
  );
}
