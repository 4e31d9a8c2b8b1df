/** The list of sessions, and how to begin one. */
import { useState } from 'preact/hooks';
import type { InputAccepted, SessionView } from '../protocol/resources.ts';
import { call, get } from './api.ts';
import { Act, Failure, stateClass, toClock, toCost, toShort, usePolled } from './parts.tsx';

export function SessionsPage() {
  const {
    value: sessions,
    error,
    reload,
  } = usePolled(() => get<SessionView[]>('/api/v1/sessions'), 1500);
  const [search, setSearch] = useState('');
  const wanted = search.toLowerCase();
  const shown = (sessions ?? []).filter((view) => toWords(view).includes(wanted));
  return (
    <>
      <h2>Sessions</h2>
      <Failure error={error} />
      <NewSession onCreated={reload} />
      <label>
        Search
        <input
          type="search"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
          placeholder="id, name, agent, state, folder"
        />
      </label>
      {sessions !== undefined && shown.length === 0 ? (
        <p class="empty">
          {sessions.length === 0
            ? 'There is no session yet: begin one above, or with prx-supervisor run.'
            : 'Nothing fits.'}
        </p>
      ) : (
        <SessionTable sessions={shown} />
      )}
    </>
  );
}

function toWords(view: SessionView): string {
  const { id, name = '', agent, state, workspace } = view;
  return [id, name, agent, state, workspace].join(' ').toLowerCase();
}

const columns = ['Session', 'State', 'Activity', 'Process', 'Turn', 'Tokens', 'Cost', 'Changed'];

const numbers = new Set(['Turn', 'Tokens', 'Cost']);

function SessionTable({ sessions }: { sessions: readonly SessionView[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard too.
    <section class="scroll" aria-label="All sessions" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map((name) => (
              <th key={name} scope="col" class={numbers.has(name) ? 'number' : ''}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sessions.map((view) => (
            <tr key={view.id}>
              <td>
                <a href={`#/sessions/${view.id}`}>{view.name ?? view.id}</a>{' '}
                <span class="dim">{view.agent}</span>
              </td>
              <td class={stateClass(view.state)}>
                {view.state}
                {view.pending_approvals > 0 ? ` (${view.pending_approvals} to answer)` : ''}
              </td>
              <td>
                {view.activity}
                {view.queued_inputs > 0 ? ` +${view.queued_inputs}` : ''}
              </td>
              <td>{view.residency}</td>
              <td class="number">{view.turn}</td>
              <td class="number">{toShort(view.usage.input_tokens + view.usage.output_tokens)}</td>
              <td class="number">{toCost(view.cost_usd)}</td>
              <td>{toClock(view.updated_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function NewSession({ onCreated }: { onCreated: () => void }) {
  const [prompt, setPrompt] = useState('');
  const [agent, setAgent] = useState('');
  const [workspace, setWorkspace] = useState('');
  const [error, setError] = useState<string>();
  const create = async (): Promise<void> => {
    const view = await call<SessionView>('POST', '/api/v1/sessions', {
      ...(agent === '' ? {} : { agent }),
      ...(workspace === '' ? {} : { workspace }),
    });
    // Blanks are no prompt: refused after its session was made, each try would make one more.
    if (prompt.trim() !== '') {
      await call<InputAccepted>('POST', `/api/v1/sessions/${view.id}/input`, { text: prompt });
    }
    onCreated();
    location.hash = `#/sessions/${view.id}`;
  };
  return (
    <details class="card">
      <summary>New session</summary>
      <Failure error={error} />
      <label>
        First prompt
        <textarea value={prompt} onInput={(event) => setPrompt(event.currentTarget.value)} />
      </label>
      <label>
        Agent (empty: the default one)
        <input value={agent} onInput={(event) => setAgent(event.currentTarget.value)} />
      </label>
      <label>
        Workspace on the server (empty: a private one)
        <input value={workspace} onInput={(event) => setWorkspace(event.currentTarget.value)} />
      </label>
      <p>
        <Act isMain act={create} onError={setError}>
          Create
        </Act>
      </p>
    </details>
  );
}
