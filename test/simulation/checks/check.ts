/** What a checker is: it hears facts and reports what breaks a promise. */

export interface Violation {
  /** The promise, in a few words. */
  readonly check: string;
  readonly message: string;
}

export type Report = (check: string, message: string) => void;
