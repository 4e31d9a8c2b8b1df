/** What every way of being attached starts from. */
import type { ApiClient } from '../../api/client.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionView } from '../../protocol/resources.ts';
import type { Context } from '../command.ts';

export interface Attachment {
  readonly context: Context;
  readonly client: ApiClient;
  readonly view: SessionView;
  /** What happened before; the live stream begins behind `resumeFrom`. */
  readonly history: readonly EventEnvelope[];
  readonly resumeFrom: number;
  readonly readOnly: boolean;
  readonly detachKeys: readonly (readonly string[])[];
}

/** How it ended: detached, or the session did. */
export type AttachEnd = 'detached' | 'ended';

/** Ctrl-P Ctrl-Q, from its key ids. */
export function toDetachHint(sequences: readonly (readonly string[])[]): string {
  const first = sequences[0] ?? [];
  const keys = first.map((id) =>
    id.startsWith('ctrl-') ? `Ctrl-${id.slice(5).toUpperCase()}` : id,
  );
  return `${keys.join(' ')} detaches`;
}
