/** The inputs of one editor until their turns begin: which of them it shows itself, and which it
 *  cancelled while there was no turn to interrupt yet. Pure. */

export interface OwnInputs {
  /** One is about to be sent with this key. */
  expect(key: string): void;
  /** Whether the accepted input is one of them. */
  accept(input: { input_id: string; idempotency_key?: string | undefined }): boolean;
  /** Those whose turns have not begun are not to go on. */
  cancel(): void;
  /** Its turn begins. @returns whether it was cancelled. */
  begin(inputId: string): boolean;
}

export function createOwnInputs(): OwnInputs {
  const sent = new Map<string, { isCancelled: boolean }>();
  const waiting = new Map<string, { isCancelled: boolean }>();
  return {
    expect: (key) => void sent.set(key, { isCancelled: false }),
    accept({ input_id: inputId, idempotency_key: key = '' }) {
      const input = sent.get(key);
      if (input === undefined) return false;
      sent.delete(key);
      waiting.set(inputId, input);
      return true;
    },
    cancel() {
      for (const input of [...sent.values(), ...waiting.values()]) input.isCancelled = true;
    },
    begin(inputId) {
      const isCancelled = waiting.get(inputId)?.isCancelled ?? false;
      waiting.delete(inputId);
      return isCancelled;
    },
  };
}
