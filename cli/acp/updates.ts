/** What an event of a session says to an editor: the session/update notifications of ACP. Pure,
 *  and the same for a history that is replayed and for one that is heard live. */
import { resolve } from 'node:path';
import type {
  ContentBlock,
  SessionUpdate,
  StopReason,
  ToolCallContent,
  ToolKind,
} from '@agentclientprotocol/sdk';
import type { ContentPart } from '../../protocol/content.ts';
import type { EventData, KnownEvent } from '../../protocol/events.ts';

/** Characters of running output that an update repeats: each one replaces the one before. */
const OUTPUT_CHARS_MAX = 16_000;

const kinds: Readonly<Record<string, ToolKind>> = {
  shell: 'execute',
  run_code: 'execute',
  read_file: 'read',
  list_files: 'read',
  glob: 'search',
  search: 'search',
  write_file: 'edit',
  edit_file: 'edit',
  apply_patch: 'edit',
  fetch: 'fetch',
};

export type UpdateReader = (event: KnownEvent) => readonly SessionUpdate[];

/** Events are given in order. What is kept of them is bounded: the tail of each call's output.
 *  @param workspace  paths of tools are below it; those of this protocol are absolute. */
export function createUpdateReader(workspace: string): UpdateReader {
  const outputs = new Map<string, string>();
  const shown = new Map<number, number>();
  return (event) => {
    switch (event.type) {
      case 'input.accepted':
        return event.data.content.map((part) => toUserChunk(event.data.input_id, part));
      case 'model.started': {
        const { step, attempt, purpose } = event.data;
        const before = shown.get(step);
        shown.clear();
        if (purpose === 'compaction') return [];
        return before !== undefined && before !== attempt ? [superseded] : [];
      }
      case 'model.delta': {
        const { step, attempt, kind, text } = event.data;
        if (kind === 'tool_call' || text === '') return [];
        if (kind === 'text') shown.set(step, attempt);
        const sessionUpdate = kind === 'text' ? 'agent_message_chunk' : 'agent_thought_chunk';
        const messageId = `${event.turn ?? 0}.${step}.${attempt}`;
        return [{ sessionUpdate, messageId, content: { type: 'text', text } }];
      }
      case 'tool.requested':
        return [toCall(event.data, workspace)];
      case 'tool.started': {
        const { call_id: toolCallId } = event.data;
        return [{ sessionUpdate: 'tool_call_update', toolCallId, status: 'in_progress' }];
      }
      case 'tool.output': {
        const { call_id: toolCallId, text } = event.data;
        const tail = `${outputs.get(toolCallId) ?? ''}${text}`.slice(-OUTPUT_CHARS_MAX);
        outputs.set(toolCallId, tail);
        return [{ sessionUpdate: 'tool_call_update', toolCallId, content: [toContent(tail)] }];
      }
      case 'tool.completed': {
        const { call_id: toolCallId, status, output } = event.data;
        outputs.delete(toolCallId);
        const ended = status === 'ok' ? 'completed' : 'failed';
        const content = output === '' ? {} : { content: [toContent(output)] };
        const rawOutput = { status, exit_code: event.data.exit_code, level: event.data.level };
        return [
          {
            sessionUpdate: 'tool_call_update',
            ...{ toolCallId, status: ended, rawOutput, ...content },
          },
        ];
      }
      default:
        return [];
    }
  };
}

/** Text that was shown cannot be taken back: the reader is told that it does not stand. */
const superseded: SessionUpdate = {
  sessionUpdate: 'agent_thought_chunk',
  content: { type: 'text', text: 'The model broke off; its answer begins again.' },
};

function toUserChunk(messageId: string, part: ContentPart): SessionUpdate {
  return { sessionUpdate: 'user_message_chunk', messageId, content: toBlock(part) };
}

function toBlock(part: ContentPart): ContentBlock {
  if (part.type === 'text') return { type: 'text', text: part.text };
  const [, mimeType, data] = /^data:([^;,]+);base64,(.*)$/s.exec(part.url) ?? [];
  if (mimeType === undefined || data === undefined) {
    return { type: 'resource_link', name: 'image', uri: part.url };
  }
  return { type: 'image', mimeType, data };
}

function toCall(data: EventData<'tool.requested'>, workspace: string): SessionUpdate {
  const { call_id: toolCallId, tool } = data;
  const args = toRecord(data.arguments);
  const given = toText(args['path']);
  const path = given === undefined ? undefined : resolve(workspace, given);
  return {
    sessionUpdate: 'tool_call',
    toolCallId,
    name: tool,
    title: toTitle(tool, args),
    kind: kinds[tool] ?? 'other',
    status: 'pending',
    rawInput: data.arguments,
    content: path === undefined ? [] : toDiffs(tool, args, path),
    ...(path === undefined ? {} : { locations: [{ path }] }),
  };
}

/** The call on one line: what a person decides by. */
export function toTitle(tool: string, args: Readonly<Record<string, unknown>>): string {
  const [what] = ['command', 'path', 'pattern', 'url'].flatMap((key) => toText(args[key]) ?? []);
  const line = what === undefined ? tool : `${tool}: ${what}`;
  return line.replaceAll(/\s+/g, ' ').slice(0, 300);
}

function toDiffs(
  tool: string,
  args: Readonly<Record<string, unknown>>,
  path: string,
): ToolCallContent[] {
  const newText = toText(args[tool === 'write_file' ? 'content' : 'new_text']);
  if (newText === undefined) return [];
  return [{ type: 'diff', path, oldText: toText(args['old_text']) ?? null, newText }];
}

function toContent(text: string): ToolCallContent {
  return { type: 'content', content: { type: 'text', text } };
}

export function toRecord(value: unknown): Readonly<Record<string, unknown>> {
  // Narrowed by the check: an object that is no array has string keys.
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isRecord ? (value as Record<string, unknown>) : {};
}

function toText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Why a turn ended, in the words of ACP; undefined: it failed. */
export function toStopReason(end: EventData<'turn.completed'>): StopReason | undefined {
  switch (end.outcome) {
    case 'completed':
      return 'end_turn';
    case 'interrupted':
      return 'cancelled';
    case 'refused':
      return 'refusal';
    case 'budget':
      return 'max_tokens';
    case 'max_turns':
    case 'timeout':
      return 'max_turn_requests';
    case 'failed':
      return undefined;
  }
}

/** @returns the parts of an input; undefined for a block that cannot be one. */
export function toParts(block: ContentBlock): ContentPart[] | undefined {
  switch (block.type) {
    case 'text':
      return block.text === '' ? [] : [{ type: 'text', text: block.text }];
    case 'image':
      return [{ type: 'image_url', url: `data:${block.mimeType};base64,${block.data}` }];
    case 'resource_link':
      return [{ type: 'text', text: `[${block.name}](${block.uri})` }];
    case 'resource': {
      const { resource } = block;
      if (!('text' in resource)) return undefined;
      return [{ type: 'text', text: `${resource.uri}:\n\n${resource.text}` }];
    }
    case 'audio':
      return undefined;
  }
}
