/** The supervisor and its machine: is it well, what runs, what holds it. */
import { useEffect, useState } from 'preact/hooks';
import type { DeepStatus, ProcessView, StatusView } from '../protocol/resources.ts';
import { call, get } from './api.ts';
import { Act, Facts, Failure, toBytes, toClock, toMessage, usePolled } from './parts.tsx';

export function SystemPage() {
  const { value: status, error } = usePolled(() => get<StatusView>('/api/v1/status'), 3000);
  const { value: processes } = usePolled(() => get<ProcessView[]>('/api/v1/processes'), 3000);
  const [failure, setFailure] = useState<string>();
  const [said, setSaid] = useState('');
  if (status === undefined) return <Failure error={error} />;
  return (
    <>
      <h2>System</h2>
      <Failure error={error ?? failure} />
      {status.reasons.map((reason) => (
        <p key={reason} class="banner warn">
          {reason}
        </p>
      ))}
      <Facts facts={toFacts(status)} />
      <div class="row">
        <Act
          act={async () => {
            const { changed } = await call<{ changed: string[] }>('POST', '/api/v1/reload');
            setSaid(changed.length === 0 ? 'nothing changed' : `changed: ${changed.join(', ')}`);
          }}
          onError={setFailure}
        >
          Reload the configuration
        </Act>
        <span aria-live="polite">{said}</span>
      </div>
      <h3>Processes</h3>
      <Processes processes={processes ?? []} />
      <h3>Checks</h3>
      <Checks onError={setFailure} />
    </>
  );
}

/** Asked for once and on demand: it reads the whole journal. */
function Checks({ onError }: { onError: (message: string | undefined) => void }) {
  const [deep, setDeep] = useState<DeepStatus>();
  const check = async (): Promise<void> => {
    const status = await get<StatusView>('/api/v1/status?deep=true');
    setDeep(status.deep);
  };
  useEffect(() => {
    check().catch((thrown: unknown) => onError(toMessage(thrown)));
  }, []);
  return (
    <>
      <Facts facts={deep === undefined ? [['Journal', 'is being read …']] : toChecks(deep)} />
      <Act act={check} onError={onError}>
        Check again
      </Act>
    </>
  );
}

function toChecks({ node, sqlite, journal }: DeepStatus): [string, preact.ComponentChildren][] {
  return [
    ['Journal', toVerdict(journal)],
    ['Node', node],
    ['SQLite', sqlite],
  ];
}

function toVerdict({ sessions, events, problems }: DeepStatus['journal']) {
  const size = `${sessions} sessions, ${events} events`;
  if (problems.length === 0) return <span class="good">whole: {size}</span>;
  return (
    <>
      <span class="bad">damaged: {size}</span>
      {problems.map((problem) => (
        <p key={JSON.stringify(problem)} class="bad">
          {toWords(problem)}
        </p>
      ))}
    </>
  );
}

function toWords(problem: unknown): string {
  if (typeof problem !== 'object' || problem === null) return String(problem);
  return Object.entries(problem)
    .map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ');
}

function toFacts(status: StatusView): [string, preact.ComponentChildren][] {
  const { capacity, sandbox } = status;
  const sessions = Object.entries(status.sessions).map(([state, count]) => `${count} ${state}`);
  const level =
    sandbox.reason === undefined ? sandbox.level : `${sandbox.level}: ${sandbox.reason}`;
  return [
    ['Status', <b class={status.status === 'ok' ? 'good' : 'bad'}>{status.status}</b>],
    ['Version, pid', `${status.version}, ${status.pid}`],
    ['Since', new Date(status.started_at).toLocaleString()],
    ['Model', `${status.model} (${status.provider})`],
    ['Sandbox', level],
    ...(sandbox.mend === undefined ? [] : [['Mend', sandbox.mend] as [string, string]]),
    [
      'Workers',
      `${capacity.resident} of ${capacity.max_concurrent_sessions}, ${capacity.warm} warm`,
    ],
    ['Waiting for a slot', capacity.queued],
    ['Sessions', sessions.join(', ') || 'none'],
    ['Worker confinement', status.worker_confinement.join(', ') || 'none has started yet'],
    ['Memory limits by', (status.memory_enforcement ?? []).join(', ')],
    ['State directory', status.state_dir],
  ];
}

function Processes({ processes }: { processes: readonly ProcessView[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard too.
    <section class="scroll" aria-label="Processes" tabIndex={0}>
      <table class="narrow">
        <thead>
          <tr>
            <th scope="col">Process</th>
            <th scope="col">Pid</th>
            <th scope="col" class="number">
              Memory
            </th>
            <th scope="col">Since</th>
          </tr>
        </thead>
        <tbody>
          {processes.map((each) => (
            <tr key={each.pid}>
              <td>{each.kind}</td>
              <td>{each.pid}</td>
              <td class="number">{each.rss_bytes === undefined ? '–' : toBytes(each.rss_bytes)}</td>
              <td>{toClock(each.started_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
