/** A store in a temporary directory, and short ways to say events. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import type { EventData, EventType } from '../../protocol/events.ts';
import { type EffectId, effectIdSchema, inputIdSchema, sessionIdSchema } from '../../protocol/ids.ts';
import type { NewEvent, Store } from '../../store/contract.ts';
import { openStore, type StoreOptions } from '../../store/index.ts';

export interface Folder {
  readonly path: string;
  remove(): void;
}

export function makeFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'prx-store-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Without the verification in the background, unless the test is about it. */
export function open(stateDir: string, options: Partial<StoreOptions> = {}): Promise<Store> {
  return openStore({
    stateDir,
    clock: realClock,
    logger: silentLogger,
    verifyInBackground: false,
    ...options,
  });
}

/** Runs `test` with a store that is closed and removed whatever happens. */
export async function withStore(
  test: (store: Store, path: string) => Promise<void>,
  options: Partial<StoreOptions> = {},
): Promise<void> {
  const folder = makeFolder();
  const store = await open(folder.path, options);
  try {
    await test(store, folder.path);
  } finally {
    await store.close().catch(() => undefined); // A store made to fail fails to close, too.
    folder.remove();
  }
}

export const sessionId = (n: number) =>
  sessionIdSchema.parse(`s_${n.toString(16).padStart(16, '0')}`);
export const inputId = (name: string) => inputIdSchema.parse(name);
export const effectId = (id: string): EffectId => effectIdSchema.parse(id);

export function event<T extends EventType>(
  type: T,
  data: EventData<T>,
  at: Partial<Pick<NewEvent, 'session' | 'turn' | 'effect'>> = {},
): NewEvent {
  return { session: sessionId(1), type, data, ...at };
}

export function created(
  n = 1,
  data: Partial<EventData<'session.created'>> = {},
): NewEvent {
  return event(
    'session.created',
    {
      agent: 'default',
      workspace: '/w',
      private_workspace: false,
      labels: {},
      approve: 'ask',
      source: 'test',
      ...data,
    },
    { session: sessionId(n) },
  );
}

export function delta(text: string, n = 1, offset?: number): NewEvent {
  return event(
    'model.delta',
    { step: 1, attempt: 1, kind: 'text', text, ...(offset === undefined ? {} : { offset }) },
    { session: sessionId(n), turn: 1, effect: effectId('1.1') },
  );
}

export function accepted(name: string, text = 'hello', n = 1): NewEvent {
  return event(
    'input.accepted',
    { input_id: inputId(name), source: 'test', content: [{ type: 'text', text }], on_busy: 'enqueue' },
    { session: sessionId(n) },
  );
}

export const renamed = (name: string, n = 1): NewEvent =>
  event('session.renamed', { name }, { session: sessionId(n) });
