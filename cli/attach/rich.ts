/** The live terminal: history above, then the stream, the approvals, the input and the status at
 *  the bottom. All decisions are in pure neighbours (view, editor, keys, slash); here they meet
 *  the terminal, the clock and the supervisor. */
import { StringDecoder } from 'node:string_decoder';
import { findQuestion } from '../../protocol/approval-words.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { findAnswer, findReply } from '../session/approval-lines.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import type { PendingApproval } from '../session/pieces.ts';
import { toPanelLines } from './approval-panel.ts';
import { type AttachEnd, type Attachment, toDetachHint } from './attachment.ts';
import { type Editor, editLine, emptyEditor, withText } from './editor.ts';
import { type InputLines, toInputLines } from './input-lines.ts';
import { initialKeyState, type Key, matchDetach, parseKeys } from './keys.ts';
import { createLink, type SessionLink } from './link.ts';
import { createScreen, type LiveRegion, type Screen } from './screen.ts';
import { parseSlash, SLASH_HELP } from './slash.ts';
import { toStatusLine } from './status-line.ts';
import { emptyView, isEnd, stepView, toLiveLines, type View } from './view.ts';

const DRAW_INTERVAL_MS = 40;
const SPIN_INTERVAL_MS = 120;
const MESSAGE_MS = 5000;
/** Rows kept free of the moving part, so that it never scrolls out of reach. */
const ROWS_RESERVED = 4;
const HISTORY_LINES_MAX = 5000;

const PASTE_ON = '\u001b[?2004h';
const PASTE_OFF = '\u001b[?2004l';

const noInput: InputLines = { lines: [], row: 0, column: 0 };

interface Message {
  readonly text: string;
  readonly untilMs: number;
}

/** The one place that holds the state of an attached terminal. */
class RichTerminal {
  readonly #attachment: Attachment;
  readonly #screen: Screen;
  readonly #link: SessionLink;
  readonly #stop = new AbortController();
  readonly #answered = new Set<string>();
  #view: View = emptyView;
  #editor: Editor = emptyEditor;
  #pressed: readonly string[] = [];
  /** The call whose arguments are in the input line. */
  #editing: string | undefined;
  #message: Message | undefined;
  /** The call that waits on the screen: a key that was pressed before it is no answer to it. */
  #drawnCall: string | undefined;
  #isAway = false;
  #pending: string[] = [];
  #drawTimer: { cancel(): void } | undefined;
  #end: AttachEnd = 'detached';

  constructor(attachment: Attachment) {
    this.#attachment = attachment;
    this.#screen = createScreen(attachment.context.machine.stdout);
    const say = (message: string): void => this.#say(message);
    this.#link = createLink(attachment.client, attachment.view.id, say);
  }

  async run(): Promise<AttachEnd> {
    const { context, history, client, view, resumeFrom } = this.#attachment;
    const { stdin, stdout } = context.machine;
    this.#showHistory(history);
    if (isEnd(view.state)) return this.#close('ended');
    const decoder = new StringDecoder('utf8');
    let keyState = initialKeyState;
    const onData = (chunk: Buffer | string): void => {
      const text = typeof chunk === 'string' ? chunk : decoder.write(chunk);
      const parsed = parseKeys(keyState, text);
      keyState = parsed.state;
      for (const key of parsed.keys) this.#onKey(key);
      this.#scheduleDraw();
    };
    const onEnd = (): void => this.#detach();
    const onResize = (): void => this.#draw();
    const unlisten = context.machine.onInterrupt(() => this.#detach());
    stdin.setRawMode?.(true);
    stdin.on('data', onData).on('end', onEnd);
    stdin.resume();
    stdout.on('resize', onResize);
    stdout.write(PASTE_ON);
    this.#draw();
    this.#spin();
    try {
      const { signal } = this.#stop;
      const onConnection = (news: { kind: 'open' | 'lost' }): void => {
        this.#isAway = news.kind === 'lost';
        this.#scheduleDraw();
      };
      const since = resumeFrom;
      const events = client.followEvents(view.id, { since, signal, onConnection });
      for await (const event of events) {
        this.#onEvent(event);
        if (isEnd(this.#view.feed.state)) return this.#close('ended');
      }
      return this.#close(this.#end);
    } finally {
      this.#stop.abort();
      this.#close('detached');
      unlisten();
      stdin.off('data', onData).off('end', onEnd);
      stdout.off('resize', onResize);
      stdout.write(PASTE_OFF);
      stdin.setRawMode?.(false);
      stdin.pause();
    }
  }

  #close(end: AttachEnd): AttachEnd {
    this.#drawTimer?.cancel();
    this.#drawTimer = undefined;
    this.#screen.draw(this.#pending.splice(0), { lines: [], cursor: undefined });
    this.#screen.close();
    return end;
  }

  #options() {
    const { style, machine } = this.#attachment.context;
    return { style, columns: this.#screen.columns, nowMs: machine.clock.nowMs() };
  }

  #showHistory(history: readonly EventEnvelope[]): void {
    for (const event of history) {
      const step = stepView(this.#view, toKnownEvent(event), this.#options());
      this.#view = step.view;
      this.#pending.push(...step.committed);
    }
    const hidden = this.#pending.length - HISTORY_LINES_MAX;
    if (hidden > 0) {
      const first = `… ${hidden} earlier lines: ${this.#attachment.context.self} logs`;
      this.#pending = [first, ...this.#pending.slice(hidden)];
    }
    // The view knows the present from here on, whatever part of the past was read.
    const { state, model, usage, cost_usd: costUsd } = this.#attachment.view;
    const { input_tokens: inputTokens, output_tokens: outputTokens } = usage;
    const feed = { ...this.#view.feed, state, model, inputTokens, outputTokens, costUsd };
    this.#view = { ...this.#view, feed };
  }

  #onEvent(event: EventEnvelope): void {
    const wasInTurn = this.#view.feed.inTurn;
    const step = stepView(this.#view, toKnownEvent(event), this.#options());
    this.#view = step.view;
    this.#pending.push(...step.committed);
    // What was said about a turn that has ended is over with it.
    if (wasInTurn && !step.view.feed.inTurn) this.#message = undefined;
    this.#scheduleDraw();
  }

  #scheduleDraw(): void {
    if (this.#drawTimer !== undefined || this.#stop.signal.aborted) return;
    const { clock } = this.#attachment.context.machine;
    this.#drawTimer = clock.setTimer(DRAW_INTERVAL_MS, () => {
      this.#drawTimer = undefined;
      this.#draw();
    });
  }

  /** Keeps the spinner and the elapsed times moving while a turn runs. */
  #spin(): void {
    const { clock } = this.#attachment.context.machine;
    clock.setTimer(SPIN_INTERVAL_MS, () => {
      if (this.#stop.signal.aborted) return;
      if (this.#view.feed.inTurn || this.#message !== undefined) this.#scheduleDraw();
      this.#spin();
    });
  }

  #say(text: string): void {
    const untilMs = this.#attachment.context.machine.clock.nowMs() + MESSAGE_MS;
    this.#message = { text, untilMs };
    this.#scheduleDraw();
  }

  #draw(): void {
    if (this.#stop.signal.aborted) return;
    this.#screen.draw(this.#pending.splice(0), this.#toRegion());
  }

  #toRegion(): LiveRegion {
    const options = this.#options();
    const { readOnly, detachKeys } = this.#attachment;
    if (this.#message !== undefined && options.nowMs > this.#message.untilMs) {
      this.#message = undefined;
    }
    const label = this.#editing === undefined ? '› ' : 'e ';
    const input = readOnly ? noInput : toInputLines(this.#editor, { ...options, label });
    const approvals = this.#panelLines(options.columns);
    const rows = this.#screen.rows - input.lines.length - approvals.length - ROWS_RESERVED;
    const above = [...toLiveLines(this.#view, { ...options, rows }), ...approvals, ''];
    const message = this.#isAway ? 'the supervisor is away, reconnecting' : this.#message?.text;
    const detachHint = toDetachHint(detachKeys);
    const status = toStatusLine(this.#view, { ...options, readOnly, detachHint, message });
    return {
      lines: [...above, ...input.lines, status],
      cursor: readOnly ? undefined : { row: above.length + input.row, column: input.column },
    };
  }

  #waiting(): PendingApproval | undefined {
    const approvals = [...this.#view.feed.approvals.values()];
    return approvals.find((approval) => !this.#answered.has(approval.callId));
  }

  #asked(): PendingApproval | undefined {
    const approval = this.#waiting();
    return approval?.callId === this.#drawnCall ? approval : undefined;
  }

  #panelLines(columns: number): string[] {
    const approval = this.#waiting();
    this.#drawnCall = approval?.callId;
    if (approval === undefined) return [];
    return toPanelLines(approval, {
      style: this.#attachment.context.style,
      columns,
      rows: Math.max(4, this.#screen.rows - ROWS_RESERVED - 2),
      readOnly: this.#attachment.readOnly,
      isEditing: this.#editing !== undefined,
      moreCount: this.#view.feed.approvals.size - 1,
    });
  }

  #detach(): void {
    this.#end = 'detached';
    this.#stop.abort();
  }

  #onKey(key: Key): void {
    const { detachKeys, readOnly } = this.#attachment;
    const match = matchDetach(detachKeys, this.#pressed, key);
    this.#pressed = match.pressed;
    const isEmpty = this.#editor.graphemes.length === 0;
    if (match.isDetach) {
      this.#detach();
      return;
    }
    if (key.kind === 'ctrl' && key.letter === 'd' && (isEmpty || readOnly)) {
      this.#detach();
      return;
    }
    if (key.kind === 'ctrl' && key.letter === 'c') {
      this.#onControlC();
      return;
    }
    if (key.kind === 'ctrl' && key.letter === 'z') {
      this.#say(`Ctrl-Z does nothing here; ${toDetachHint(detachKeys)}`);
      return;
    }
    if (key.kind === 'ctrl' && key.letter === 'l') {
      this.#draw();
      return;
    }
    if (readOnly) return;
    if (key.kind === 'named' && key.name === 'escape') {
      this.#stopEditing();
      return;
    }
    if (isEmpty && this.#onApprovalKey(key)) return;
    const { editor, submitted } = editLine(this.#editor, key);
    this.#editor = editor;
    if (submitted !== undefined) this.#onSubmit(submitted);
  }

  #onControlC(): void {
    if (this.#attachment.readOnly) {
      this.#detach();
      return;
    }
    if (this.#view.feed.inTurn) {
      this.#say('interrupting the turn');
      void this.#link.interrupt();
      return;
    }
    if (this.#editor.graphemes.length > 0) this.#editor = withText(this.#editor, '');
    else this.#say('no turn runs; Ctrl-D detaches');
  }

  /** True when the key was an answer. A pasted or faster typed text never is. */
  #onApprovalKey(key: Key): boolean {
    const approval = this.#asked();
    if (approval === undefined || key.kind !== 'text') return false;
    const { callId } = approval;
    const answer = findAnswer(approval, key.text);
    if (answer !== undefined) {
      this.#resolve(callId, answer);
      return true;
    }
    if (key.text !== 'e' || findQuestion(approval) !== undefined) return false;
    this.#editing = callId;
    this.#editor = withText(this.#editor, JSON.stringify(approval.arguments));
    return true;
  }

  #resolve(callId: string, params: Parameters<SessionLink['resolve']>[1]): void {
    this.#answered.add(callId);
    void this.#link.resolve(callId, params).then((isTaken) => {
      // Not taken: it still waits, so it is asked again.
      if (!isTaken) this.#answered.delete(callId);
      this.#scheduleDraw();
    });
  }

  #stopEditing(): void {
    if (this.#editing !== undefined) this.#editor = withText(this.#editor, '');
    this.#editing = undefined;
  }

  #onSubmit(text: string): void {
    if (this.#editing !== undefined) {
      this.#onEdited(this.#editing, text);
      return;
    }
    const slash = parseSlash(text);
    const asked = this.#asked();
    const reply = slash === undefined && asked ? findReply(asked, text) : undefined;
    if (asked !== undefined && reply !== undefined) {
      this.#resolve(asked.callId, reply);
      return;
    }
    if (slash === undefined) {
      void this.#link.send(text.startsWith('//') ? text.slice(1) : text);
      return;
    }
    switch (slash.kind) {
      case 'detach':
        this.#detach();
        return;
      case 'help':
        this.#pending.push(...SLASH_HELP.map((line) => this.#attachment.context.style.dim(line)));
        return;
      case 'interrupt':
        void this.#link.interrupt();
        return;
      case 'approve':
        this.#answer(slash.callId, { decision: 'approve', scope: slash.scope });
        return;
      case 'deny': {
        const reason = slash.reason === undefined ? {} : { reason: slash.reason };
        this.#answer(slash.callId, { decision: 'deny', ...reason });
        return;
      }
      case 'unknown':
        this.#say(slash.message);
        return;
    }
  }

  #answer(asked: string | undefined, params: Parameters<SessionLink['resolve']>[1]): void {
    const shown = this.#asked();
    const callId = asked ?? shown?.callId;
    if (callId === undefined) this.#say('nothing waits for a decision');
    else if (callId !== shown?.callId) this.#resolve(callId, params);
    else this.#resolve(callId, { ...params, digest: shown.digest });
  }

  #onEdited(callId: string, text: string): void {
    try {
      const args: unknown = JSON.parse(text);
      this.#editing = undefined;
      this.#resolve(callId, { decision: 'approve', arguments: args, scope: 'once' });
    } catch (error) {
      this.#editor = withText(this.#editor, text);
      this.#say(`not JSON: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

export function runRich(attachment: Attachment): Promise<AttachEnd> {
  return new RichTerminal(attachment).run();
}
