/** Ids, tools and events: the words every room shares. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { realRandom } from '../../base/random.ts';
import { durabilityOf, eventTable, isEventType, parseEvent } from '../../protocol/events.ts';
import {
  createInputId,
  createSessionId,
  effectIdSchema,
  inputIdSchema,
  parseEffectId,
  sessionIdSchema,
  toModelEffectId,
  toToolEffectId,
} from '../../protocol/ids.ts';
import { isToolName, type ToolDefinition, toolTable, toToolSpec } from '../../protocol/tools.ts';

describe('ids', () => {
  test('are made as they are read', () => {
    expect(sessionIdSchema.safeParse(createSessionId(realRandom)).success).toBe(true);
    expect(inputIdSchema.safeParse(createInputId(realRandom)).success).toBe(true);
    expect(createSessionId({ ...realRandom, hex: (n) => 'ab'.repeat(n) })).toBe(
      's_abababababababab',
    );
  });

  test('of effects name turn, step and call, and are taken apart again', () => {
    const number = fc.integer({ min: 1, max: 999_999_999 });
    fc.assert(
      fc.property(number, number, number, (turn, step, call) => {
        expect(parseEffectId(toModelEffectId(turn, step))).toEqual({ turn, step, call: undefined });
        expect(parseEffectId(toToolEffectId(turn, step, call))).toEqual({ turn, step, call });
      }),
    );
  });

  test.each(['', '1', '1.2.3.4', '1.', '-1.2', '1.2/..', '1.2.3\n', '1.1234567890'])(
    'an effect id is not %j',
    (text) => expect(effectIdSchema.safeParse(text).success).toBe(false),
  );

  test.each(['', 's_', 's_0123456789ABCDEF', 's_0123456789abcde', '../s_0123456789abcdef'])(
    'a session id is not %j',
    (text) => expect(sessionIdSchema.safeParse(text).success).toBe(false),
  );
});

describe('tools', () => {
  test.each(Object.entries(toolTable))('%s is told to a provider', (name, tool) => {
    const spec = toToolSpec(tool);
    expect([tool.name, spec.name]).toEqual([name, name]);
    expect(spec.description).toBe(tool.description);
    expect(spec.parameters).toMatchObject({ type: 'object', additionalProperties: false });
    expect(spec.parameters).not.toHaveProperty('$schema');
  });

  test('refuse what they do not know', () => {
    const tools: readonly ToolDefinition[] = Object.values(toolTable);
    for (const tool of tools) {
      expect(tool.arguments.safeParse({ unknown: 1 }).success).toBe(false);
    }
    expect(toolTable.shell.arguments.safeParse({ command: 'ls', shell: true }).success).toBe(false);
    expect(['shell', 'constructor', 'Shell', ''].map(isToolName)).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

describe('events', () => {
  const envelope = { session: 'system', seq: 1, epoch: 1, time: '' } as const;

  test('of a known type are validated, of an unknown one ignored (FAULTS 59)', () => {
    const known = { ...envelope, type: 'store.degraded', data: { reason: 'full', later: 1 } };
    expect(parseEvent(known)).toEqual({ ...known, data: { reason: 'full' } });
    expect(parseEvent({ ...envelope, type: 'from.the.future', data: 7 })).toBeUndefined();
    expect(() => parseEvent({ ...known, data: {} })).toThrow();
    expect(['turn.completed', 'toString', 'turn'].map(isEventType)).toEqual([true, false, false]);
  });

  test('that a client acts on survive a power loss', () => {
    const types = Object.keys(eventTable).filter(isEventType);
    const lossy = types.filter((type) => durabilityOf(type) === 'process');
    for (const type of lossy) {
      expect(type).not.toMatch(/^(input|turn|approval|interrupt)\.|\.completed$|^session\.state/);
    }
  });
});
