/** Short ways to say events. */
import type { EventData, EventType } from '../../protocol/events.ts';
import {
  type EffectId,
  effectIdSchema,
  inputIdSchema,
  sessionIdSchema,
} from '../../protocol/ids.ts';
import type { NewEvent } from '../../store/contract.ts';

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

export function created(n = 1, data: Partial<EventData<'session.created'>> = {}): NewEvent {
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
    {
      input_id: inputId(name),
      source: 'test',
      content: [{ type: 'text', text }],
      on_busy: 'enqueue',
    },
    { session: sessionId(n) },
  );
}

export const renamed = (name: string, n = 1): NewEvent =>
  event('session.renamed', { name }, { session: sessionId(n) });
