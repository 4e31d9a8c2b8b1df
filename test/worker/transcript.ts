/** What every transcript must be, whatever the history it was built from. */
import type { ProviderMessage } from '../../protocol/content.ts';

/** The violations, as sentences; empty for a well-formed transcript. */
export function findMalformed(messages: readonly ProviderMessage[]): string[] {
  const found: string[] = [];
  const ids = new Set<string>();
  let expected: { readonly id: string; readonly name: string }[] = [];
  for (const [index, message] of messages.entries()) {
    const at = `message ${index} (${message.role})`;
    if ((message.role === 'system') !== (index === 0)) found.push(`${at} is out of place`);
    if (message.role === 'tool') {
      const call = expected.shift();
      if (call === undefined) found.push(`${at} answers no call`);
      else if (call.id !== message.call_id || call.name !== message.name) {
        found.push(`${at} answers another call`);
      }
      if (message.text === '') found.push(`${at} is empty`);
      continue;
    }
    if (expected.length > 0) found.push(`${at} comes before ${expected.length} results`);
    expected = [];
    if (message.role === 'user') {
      const isEmpty = message.content.every((part) => part.type === 'text' && !part.text.trim());
      if (isEmpty) found.push(`${at} is empty`);
    }
    if (message.role !== 'assistant') continue;
    const { text, tool_calls: calls } = message.message;
    if (text.trim() === '' && calls.length === 0) found.push(`${at} is empty`);
    for (const { id, name, arguments: args } of calls) {
      if (id === '' || ids.has(id)) found.push(`${at} uses the id '${id}' again`);
      ids.add(id);
      if (!/^[a-zA-Z0-9_-]{1,64}$/.test(name)) found.push(`${at} names '${name}'`);
      if (!isObjectText(args)) found.push(`${at} has arguments that are no object`);
    }
    expected = calls.map(({ id, name }) => ({ id, name }));
  }
  if (expected.length > 0) found.push('the end comes before the results');
  return found;
}

function isObjectText(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
