/** Ids of the facade. They carry where their input stands in the journal, so that a response can be
 *  read again from nothing but its id: after a restart, by another client, a week later. */
import { PrxError } from '../../base/errors.ts';
import { type SessionId, sessionIdSchema } from '../../protocol/ids.ts';

/** Where an answer begins: the sequence number of its input.accepted. */
export interface Address {
  readonly session: SessionId;
  readonly seq: number;
}

const TAIL = /^([0-9a-f]{16})_(\d{1,15})$/;

export function toId(prefix: 'resp' | 'chatcmpl', { session, seq }: Address): string {
  return `${prefix}_${session.slice(2)}_${seq}`;
}

/** @throws NOT_FOUND for an id that this facade never made. */
export function parseResponseId(id: string): Address {
  const parts = TAIL.exec(id.replace(/^resp_/, ''));
  if (!id.startsWith('resp_') || parts === null) {
    throw new PrxError('NOT_FOUND', `there is no response '${id.slice(0, 80)}'`);
  }
  return { session: sessionIdSchema.parse(`s_${parts[1]}`), seq: Number(parts[2]) };
}
