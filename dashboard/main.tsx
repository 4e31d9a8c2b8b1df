/** The page: four views behind the `#`, a token, and nothing that the api does not have. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { keepToken, readToken, takeTokenFromUrl } from './api.ts';
import { ApprovalsPage, useApprovals } from './approvals.tsx';
import { SessionPage } from './session.tsx';
import { SessionsPage } from './sessions.tsx';
import { SystemPage } from './system.tsx';

/** @param onToken  a link with a token was opened where the page is already. */
function useHash(onToken: (token: string) => void): string {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const onChange = (): void => {
      if (takeTokenFromUrl()) onToken(readToken());
      setHash(location.hash);
    };
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, [onToken]);
  return hash;
}

function App() {
  // A new token begins everything anew.
  const [token, setToken] = useState(readToken());
  const hash = useHash(setToken);
  const [, id] = /^#\/sessions\/([^/]+)/.exec(hash) ?? [];
  return (
    <div key={token}>
      <button type="button" class="skip" onClick={skip}>
        To the content
      </button>
      <Top hash={hash} onToken={setToken} />
      <main id="content" tabIndex={-1}>
        {id === undefined ? <Page hash={hash} /> : <SessionPage key={id} id={id} />}
      </main>
    </div>
  );
}

/** No link: what stands behind the # names the page. */
function skip(): void {
  document.getElementById('content')?.focus();
}

function Page({ hash }: { hash: string }) {
  if (hash === '#/approvals') return <ApprovalsPage />;
  if (hash === '#/system') return <SystemPage />;
  return <SessionsPage />;
}

function Top({ hash, onToken }: { hash: string; onToken: (token: string) => void }) {
  const { list } = useApprovals();
  const [text, setText] = useState('');
  const waiting = list.length === 0 ? '' : ` (${list.length})`;
  const links = [
    ['#/', 'Sessions'],
    ['#/approvals', `Approvals${waiting}`],
    ['#/system', 'System'],
  ] as const;
  const isCurrent = (href: string): boolean =>
    href === hash || (href === '#/' && (hash === '' || hash.startsWith('#/sessions')));
  return (
    <header class="top">
      <h1>prx-supervisor</h1>
      <nav aria-label="Pages">
        {links.map(([href, name]) => (
          <a key={href} href={href} {...(isCurrent(href) ? { 'aria-current': 'page' } : {})}>
            {name}
          </a>
        ))}
      </nav>
      <form
        class="push row"
        onSubmit={(event) => {
          event.preventDefault();
          keepToken(text);
          onToken(text);
          setText('');
        }}
      >
        <input
          type="password"
          aria-label="Token"
          autocomplete="off"
          placeholder={readToken() === '' ? 'token' : 'another token'}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit">Use</button>
      </form>
    </header>
  );
}

takeTokenFromUrl();
const root = document.getElementById('app');
if (root !== null) {
  root.replaceChildren();
  render(<App />, root);
}
