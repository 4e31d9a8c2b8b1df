/** What a server answered, as a model reads it: text as text, structured content as JSON, images,
 *  sounds and files as artifacts with a sentence each. Bounded like the output of a command. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { redactBytes, redactText } from '../../protocol/redactor.ts';
import { createCollector } from '../collect.ts';
import { joinSentence, type ToolResult, toShown } from '../outcome.ts';
import { ARTIFACT_BYTES_MAX, createSpill } from '../spill.ts';
import { cleanText } from './listing.ts';

export const callResultSchema = z.object({
  content: z.array(z.unknown()).default([]),
  structuredContent: z.unknown().optional(),
  isError: z.boolean().optional(),
});
export type CallResult = z.infer<typeof callResultSchema>;

export interface ResultSpec {
  readonly effect: EffectId;
  /** Of the session; made when something is kept. */
  readonly artifactDir: string;
  readonly maxOutputBytes: number;
  /** What stands in no text that is shown or kept. */
  readonly fingerprints: Fingerprints;
}

/** Parts of one answer; more are counted, not shown. */
const PARTS_MAX = 256;
const LABEL_CHARS_MAX = 500;

const binary = z.object({ data: z.string(), mimeType: z.string().optional() });
const partSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string() }),
  binary.extend({ type: z.literal('image') }),
  binary.extend({ type: z.literal('audio') }),
  z.object({
    type: z.literal('resource_link'),
    uri: z.string(),
    name: z.string().optional(),
    description: z.string().optional(),
  }),
  z.object({
    type: z.literal('resource'),
    resource: z.object({
      uri: z.string(),
      mimeType: z.string().optional(),
      text: z.string().optional(),
      blob: z.string().optional(),
    }),
  }),
]);
type Part = z.infer<typeof partSchema>;

export function toToolResult(result: CallResult, spec: ResultSpec): ToolResult {
  const { effect, artifactDir, maxOutputBytes } = spec;
  const id = `mcp-${effect}`;
  const collector = createCollector(maxOutputBytes);
  const spill = createSpill({
    path: join(artifactDir, id),
    thresholdBytes: maxOutputBytes,
    bytesMax: ARTIFACT_BYTES_MAX,
  });
  const texts = toTexts(result, createKeeper(spec, id));
  const text = redactText(texts.join('\n'), spec.fingerprints);
  collector.add(text);
  spill.add(Buffer.from(text));
  const shown = toShown({ collector, spill: spill.finish(), artifact: id });
  const status = result.isError === true ? 'error' : 'ok';
  return { ...shown, status, output: joinSentence(shown.output, '') };
}

function toTexts({ content, structuredContent }: CallResult, keep: Keep): string[] {
  const texts = content.slice(0, PARTS_MAX).map((each) => {
    const part = partSchema.safeParse(each);
    return part.success ? toText(part.data, keep) : '[a part of a kind that is not known here]';
  });
  const more = content.length - texts.length;
  if (more > 0) texts.push(`[${more} more parts are not shown]`);
  if (structuredContent === undefined) return texts;
  // Servers repeat it as text for clients that do not know it.
  const isRepeated = texts.some((text) => isJsonOf(text, structuredContent));
  return isRepeated ? texts : [...texts, JSON.stringify(structuredContent)];
}

function isJsonOf(text: string, value: unknown): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(text), value);
  } catch {
    // Ordinary words, or nested deeper than a comparison reaches: then it is shown twice.
    return false;
  }
}

function toText(part: Part, keep: Keep): string {
  switch (part.type) {
    case 'text':
      return part.text;
    case 'image':
    case 'audio':
      return keep(part.type, part.data, part.mimeType);
    case 'resource_link': {
      const { uri, name = '', description = '' } = part;
      return `[a link: ${toLabel([name, uri, description].filter(Boolean).join(', '))}]`;
    }
    case 'resource': {
      const { uri, text, blob, mimeType } = part.resource;
      const kept = blob === undefined ? '' : keep('file', blob, mimeType);
      return `[resource ${toLabel(uri)}]\n${text ?? kept}`;
    }
  }
}

function toLabel(text: string): string {
  return cleanText(text).replaceAll('\n', ' ').slice(0, LABEL_CHARS_MAX);
}

/** Writes bytes down, and says where. */
type Keep = (kind: string, base64: string, mimeType: string | undefined) => string;

function createKeeper({ artifactDir, fingerprints }: ResultSpec, id: string): Keep {
  let count = 0;
  let leftBytes = ARTIFACT_BYTES_MAX;
  return (kind, base64, mimeType) => {
    const bytes = redactBytes(Buffer.from(base64, 'base64'), fingerprints);
    const what = `${kind} ${toLabel(mimeType ?? 'of no type')}, ${bytes.length} bytes`;
    if (bytes.length > leftBytes) return `[${what}: too large to be kept]`;
    count += 1;
    const name = `${id}-${count}`;
    try {
      mkdirSync(artifactDir, { recursive: true, mode: 0o700 });
      writeFileSync(join(artifactDir, name), bytes, { mode: 0o600 });
    } catch (error) {
      // A full disk must not cost the rest of the answer.
      const why = error instanceof Error ? error.message : String(error);
      return `[${what}: could not be kept (${why})]`;
    }
    leftBytes -= bytes.length;
    return `[${what}: kept as artifact ${name}]`;
  };
}
