/** HTML to Markdown, on a thread of its own: the page is a stranger's, and what it costs to read
 *  is the stranger's to decide. Takes one page, answers one text, and is ended by its owner. */
import { parentPort, workerData } from 'node:worker_threads';
// @ts-expect-error: it ships no types; what is taken from it is checked by its use below.
import { tables } from '@joplin/turndown-plugin-gfm';
import TurndownService from 'turndown';
import type { Answer } from './html.ts';

interface Page {
  readonly html: string;
  /** Relative links are made whole against it. */
  readonly url: string;
}

/** What a reader does not see, or cannot use. */
const UNSEEN = ['script', 'style', 'noscript', 'template', 'iframe', 'object', 'svg', 'canvas'];

export function toMarkdown({ html, url }: Page): string {
  const service = new TurndownService({
    headingStyle: 'atx',
    codeBlockStyle: 'fenced',
    bulletListMarker: '-',
    emDelimiter: '*',
  });
  service.use(tables as TurndownService.Plugin);
  service.remove((node) => UNSEEN.includes(node.nodeName.toLowerCase()));
  service.addRule('link', {
    filter: (node) => node.nodeName === 'A' && attributeOf(node, 'href') !== '',
    replacement: (content, node) => {
      const text = content.replace(/\s+/g, ' ').trim();
      const target = toWhole(attributeOf(node, 'href'), url);
      return text === '' || target === undefined ? text : `[${text}](${target})`;
    },
  });
  service.addRule('image', {
    filter: 'img',
    replacement: (_content, node) => {
      const text = attributeOf(node, 'alt').trim();
      return text === '' ? '' : `[image: ${text}]`;
    },
  });
  return service.turndown(html).replace(/\n{3,}/g, '\n\n');
}

interface Element {
  getAttribute(name: string): string | null;
}

/** The rules' types are those of a browser's DOM, which is not here; they are for elements. */
function attributeOf(node: unknown, name: string): string {
  return (node as Element).getAttribute(name) ?? '';
}

/** Only what can be fetched: no script, no data, no place on the same page. */
function toWhole(href: string, base: string): string | undefined {
  const url = URL.parse(href, base);
  const isWeb = url?.protocol === 'http:' || url?.protocol === 'https:';
  return isWeb && !href.startsWith('#') ? url.href : undefined;
}

// Handed over by html.ts, which has the type.
const say = (answer: Answer): void => parentPort?.postMessage(answer);
say({});
say({ text: toMarkdown(workerData as Page) });
