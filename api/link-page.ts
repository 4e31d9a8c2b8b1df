/** The page behind a signed link: what waits, and two buttons. No script, nothing from elsewhere;
 *  looking at it changes nothing, so that a preview of a chat program answers no approval. */
import { toShownJson } from '../protocol/approval-words.ts';
import type { ApprovalView } from '../protocol/resources.ts';

const ARGUMENTS_CHARS_MAX = 20_000;

export function toLinkPage(approval: ApprovalView, token: string): string {
  const { tool, call_id, session, expires_at, rule, digest } = approval;
  const args = toShownJson(approval.arguments);
  const isCut = args.length > ARGUMENTS_CHARS_MAX;
  const shown = isCut ? `${args.slice(0, ARGUMENTS_CHARS_MAX)}\n[cut]` : args;
  const button = (decision: string): string =>
    `<form method="post" action="/api/v1/links/${toHtml(token)}/${decision}">` +
    `<button>${decision}</button></form>`;
  return toPage(
    `${tool} waits for an approval`,
    `<p>Call ${toHtml(call_id)} of session ${toHtml(session)} asks for <b>${toHtml(tool)}</b>` +
      `${rule === undefined ? '' : ` (${toHtml(rule)})`}. Without an answer it is denied at ` +
      `${toHtml(expires_at)}.</p><pre>${toHtml(shown)}</pre><p>Digest ${toHtml(digest)}</p>` +
      (isCut ? '<p>Too long to be shown whole: answer it from the command line.</p>' : '') +
      `${isCut ? '' : button('approve')}${button('deny')}`,
  );
}

export function toAnsweredPage(decision: 'approve' | 'deny'): string {
  const past = decision === 'approve' ? 'approved' : 'denied';
  return toPage(`The call is ${past}`, `<p>It is ${past}, once. This link is used up.</p>`);
}

function toPage(title: string, body: string): string {
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width"><meta name="referrer" content="same-origin">' +
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; form-action \'self\'">' +
    `<title>${toHtml(title)}</title></head><body><h1>${toHtml(title)}</h1>${body}</body></html>\n`
  );
}

function toHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
