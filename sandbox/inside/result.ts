/** What the file tools share: where they work and what they answer. */
export interface FileContext {
  readonly workspace: string;
  readonly maxOutputBytes: number;
}

export interface FileResult {
  readonly status: 'ok' | 'error';
  readonly output: string;
  readonly truncated: boolean;
}

export function toOk(output: string): FileResult {
  return { status: 'ok', output, truncated: false };
}
