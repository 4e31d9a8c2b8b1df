/** A captured terminal as a page: each change of colour or weight is a span. Pure. */

const COLOURS = [
  '#5c6066',
  '#f28b82',
  '#74c690',
  '#e0aa5c',
  '#7fb6f2',
  '#cf9ef0',
  '#74c7c7',
  '#e6e6e3',
];

const ESCAPE = '\u001b';
const SGR = new RegExp(`(${ESCAPE}\\[[\\d;]*m)`);

interface Look {
  readonly colour: string | undefined;
  readonly classes: ReadonlySet<string>;
}

const plain: Look = { colour: undefined, classes: new Set() };
const ON: Readonly<Record<number, string>> = { 1: 'b', 2: 'd', 3: 'i', 4: 'u', 7: 'r', 9: 's' };
const OFF: Readonly<Record<number, readonly string[]>> = {
  22: ['b', 'd'],
  23: ['i'],
  24: ['u'],
  27: ['r'],
  29: ['s'],
};

/** @param screen  rows parted by line feeds, with SGR sequences and no others. */
export function toTerminalPage(screen: string, title: string): string {
  const body = screen
    .replace(/\n+$/, '')
    .split(SGR)
    .reduce(
      ({ html, look }, part) => {
        const codes = part.startsWith(ESCAPE) ? part.slice(2, -1) : undefined;
        if (codes !== undefined) return { html, look: applyCodes(look, codes) };
        return { html: html + toSpan(part, look), look };
      },
      { html: '', look: plain },
    );
  return `<!doctype html><meta charset="utf-8"><title>${toHtml(title)}</title>${STYLE}
<div id="shot"><p>$ ${toHtml(title)}</p><pre>${body.html}</pre></div>`;
}

function applyCodes(look: Look, codes: string): Look {
  return codes.split(';').map(Number).reduce(applyCode, look);
}

function applyCode(look: Look, code: number): Look {
  if (code === 0) return plain;
  const on = ON[code];
  if (on !== undefined) return { ...look, classes: new Set([...look.classes, on]) };
  const off = OFF[code];
  if (off !== undefined) {
    return { ...look, classes: new Set([...look.classes].filter((name) => !off.includes(name))) };
  }
  const bright = code >= 90 && code <= 97 ? code - 60 : code;
  if (bright === 39) return { ...look, colour: undefined };
  return bright >= 30 && bright <= 37 ? { ...look, colour: COLOURS[bright - 30] } : look;
}

function toSpan(text: string, { colour, classes }: Look): string {
  if (text === '') return '';
  const style = colour === undefined ? '' : ` style="color:${colour}"`;
  return `<span class="${[...classes].join(' ')}"${style}>${toHtml(text)}</span>`;
}

function toHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}

const STYLE = `<style>
  body { margin: 0; background: #16181b; }
  #shot { display: inline-block; padding: 10px 14px; color: #e6e6e3; background: #16181b;
    font: 12px/1.35 'DejaVu Sans Mono', monospace; }
  #shot p { margin: 0 0 8px; color: #a3a8ae; border-bottom: 1px solid #383d43; }
  #shot pre { margin: 0; font: inherit; width: 80ch; height: calc(24 * 1.35em); }
  .b { font-weight: bold } .d { opacity: .7 } .i { font-style: italic }
  .u { text-decoration: underline } .s { text-decoration: line-through }
  .r { background: #e6e6e3; color: #16181b }
</style>`;
