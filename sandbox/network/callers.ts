/** Which call a connection belongs to. Each sandbox gets a credential of its own when it is built;
 *  it means a call from the moment the sandbox is used until the call is over. */
import type { Socket } from 'node:net';
import type { EffectId } from '../../protocol/ids.ts';

export interface Callers {
  /** Takes a connection from inside the session's network. */
  readonly accept: (socket: Socket) => void;
  bind(credential: string, call: EffectId): void;
  find(credential: string): EffectId | undefined;
  /** The call is over; its credentials mean nothing any more. */
  release(call: EffectId): void;
}

export function createCallers(accept: (socket: Socket) => void): Callers {
  const calls = new Map<string, EffectId>();
  return {
    accept,
    bind: (credential, call) => void calls.set(credential, call),
    find: (credential) => calls.get(credential),
    release(call) {
      for (const [credential, owner] of calls) if (owner === call) calls.delete(credential);
    },
  };
}
