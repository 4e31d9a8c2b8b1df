/** One session: what is said, live; what it may do; what happened to it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { toShownJson } from '../protocol/approval-words.ts';
import type { InputAccepted, ProcessView, SessionView } from '../protocol/resources.ts';
import { call, follow, get } from './api.ts';
import { ApprovalCard, useApprovals } from './approvals.tsx';
import { Markdown } from './markdown.tsx';
import {
  Act,
  Chart,
  Facts,
  Failure,
  stateClass,
  Tabs,
  toClock,
  toCost,
  toMessage,
  toShort,
  usePolled,
} from './parts.tsx';
import { advance, emptyReading, type Item, type Reading } from './reading.ts';

/** Events of a long history that are read at first. */
const HISTORY_EVENTS = 3000;
const tabs = ['Conversation', 'Timeline', 'Curves', 'Events'] as const;

export function SessionPage({ id }: { id: string }) {
  const path = `/api/v1/sessions/${id}`;
  const { value: view, error, reload } = usePolled(() => get<SessionView>(path), 1500);
  const [isWhole, setWhole] = useState(false);
  const feed = useReading(view, isWhole);
  const [tab, setTab] = useState<(typeof tabs)[number]>('Conversation');
  const [failure, setFailure] = useState<string>();
  if (view === undefined) return <Failure error={error} />;
  return (
    <>
      <h2>{view.name ?? view.id}</h2>
      <Failure error={error ?? failure ?? feed.error} />
      {feed.isOpen || feed.error !== undefined ? null : (
        <p class="dim">Waiting for the supervisor …</p>
      )}
      <Facts facts={toFacts(view)} />
      <Actions view={view} onDone={reload} onError={setFailure} />
      <Tabs names={tabs} chosen={tab} onChoose={setTab} label="Views of this session" />
      <Earlier feed={feed} isWhole={isWhole} onWhole={() => setWhole(true)} />
      <div role="tabpanel" aria-label={tab}>
        {tab === 'Conversation' ? (
          <Conversation {...{ view, isWhole }} reading={feed.reading} />
        ) : null}
        {tab === 'Timeline' ? <Timeline reading={feed.reading} /> : null}
        {tab === 'Curves' ? <Curves id={id} reading={feed.reading} /> : null}
        {tab === 'Events' ? <RawEvents reading={feed.reading} /> : null}
      </div>
    </>
  );
}

function Earlier(props: { feed: Feed; isWhole: boolean; onWhole: () => void }) {
  const { reading, removedCount } = props.feed;
  if (removedCount > 0) {
    return <p class="dim">The first {removedCount} events were removed by retention.</p>;
  }
  if (reading.firstSeq <= 1 || props.isWhole) return null;
  return (
    <p>
      <button type="button" onClick={props.onWhole}>
        Show the {reading.firstSeq - 1} earlier events
      </button>
    </p>
  );
}

interface Feed {
  readonly reading: Reading;
  readonly removedCount: number;
  readonly isOpen: boolean;
  readonly error: string | undefined;
}

/** The session's events, from where the page begins, for as long as the page shows them. */
function useReading(view: SessionView | undefined, isWhole: boolean): Feed {
  const [reading, setReading] = useState(emptyReading);
  const [isOpen, setOpen] = useState(true);
  const [removedCount, setRemoved] = useState(0);
  const [error, setError] = useState<string>();
  const id = view?.id;
  const lastSeq = useRef(0);
  lastSeq.current = view?.last_seq ?? 0;
  useEffect(() => {
    if (id === undefined) return;
    const stop = new AbortController();
    setReading(emptyReading);
    const since = isWhole ? 0 : Math.max(0, lastSeq.current - HISTORY_EVENTS);
    follow({
      session: id,
      since,
      signal: stop.signal,
      onEvents: (events) => setReading((before) => advance(before, events)),
      onConnection: setOpen,
      onRemoved: setRemoved,
    }).catch((thrown: unknown) => setError(toMessage(thrown)));
    return () => stop.abort();
  }, [id, isWhole]);
  return { reading, removedCount, isOpen, error };
}

function toFacts(view: SessionView): [string, preact.ComponentChildren][] {
  const { usage } = view;
  return [
    ['Id', view.id],
    ['State', <span class={stateClass(view.state)}>{`${view.state}: ${view.state_reason}`}</span>],
    ['Activity', `${view.activity}, turn ${view.turn}`],
    [
      'Process',
      view.worker_pid === undefined ? view.residency : `${view.residency}, pid ${view.worker_pid}`,
    ],
    ['Agent, model', `${view.agent}, ${view.model}`],
    ['Tokens in, out', `${toShort(usage.input_tokens)}, ${toShort(usage.output_tokens)}`],
    ['Cost', toCost(view.cost_usd)],
    ['Restarts', view.restarts],
    ['Workspace', view.workspace],
  ];
}

function Actions(props: {
  view: SessionView;
  onDone: () => void;
  onError: (message: string | undefined) => void;
}) {
  const { view } = props;
  const path = `/api/v1/sessions/${view.id}`;
  const isOpen = ['running', 'suspended', 'awaiting', 'starting'].includes(view.state);
  const post = (name: string) => () => call('POST', `${path}/${name}`);
  const rest = { onDone: props.onDone, onError: props.onError };
  return (
    <div class="row">
      <Act act={post('interrupt')} disabled={view.activity === 'idle'} {...rest}>
        Interrupt
      </Act>
      {view.state === 'suspended' ? (
        <Act act={post('resume')} {...rest}>
          Resume
        </Act>
      ) : (
        <Act act={post('suspend')} disabled={view.state !== 'running'} {...rest}>
          Suspend
        </Act>
      )}
      <Act act={post('restart')} {...rest}>
        Restart
      </Act>
      <Act
        act={async () => {
          const fork = await call<SessionView>('POST', `${path}/fork`, {});
          location.hash = `#/sessions/${fork.id}`;
        }}
        {...rest}
      >
        Fork
      </Act>
      <Act act={post('close')} disabled={!isOpen} {...rest}>
        Close
      </Act>
    </div>
  );
}

function Conversation(props: { view: SessionView; reading: Reading; isWhole: boolean }) {
  const { view, reading, isWhole } = props;
  const approvals = useApprovals(view.id);
  const end = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(!isWhole);
  const count = reading.items.length;
  useEffect(() => {
    let before = scrollY;
    const onScroll = (): void => {
      const below = document.documentElement.scrollHeight - scrollY - innerHeight;
      const isUp = scrollY < before;
      before = scrollY;
      // Text may have come below since we scrolled; and a page of one screen has no end to be at.
      if (below >= 400 ? isUp : scrollY > 0) isAtEnd.current = below < 400;
    };
    addEventListener('scroll', onScroll);
    return () => removeEventListener('scroll', onScroll);
  }, []);
  // The newest is kept in sight, unless the reader went up to read, or asked for the beginning.
  useEffect(() => {
    if (isWhole) isAtEnd.current = false;
  }, [isWhole]);
  useEffect(() => {
    if (isAtEnd.current) end.current?.scrollIntoView({ block: 'nearest' });
  }, [count, reading.raw.at(-1)?.seq]);
  return (
    <>
      <div class="talk" role="log" aria-label="Conversation">
        {reading.items.map((item) => (
          <Said key={`${item.kind} ${item.key}`} item={item} />
        ))}
      </div>
      {approvals.list.map((approval) => (
        <ApprovalCard key={approval.call_id} approval={approval} onDone={approvals.reload} />
      ))}
      <div ref={end} />
      <Ask view={view} />
    </>
  );
}

function Said({ item }: { item: Item }) {
  switch (item.kind) {
    case 'user':
      return (
        <div class="said user">
          {item.text} <span class="dim">{item.by}</span>
        </div>
      );
    case 'text':
    case 'reasoning': {
      const classes = ['said', item.kind, item.isVoid ? 'void' : '', item.isLive ? 'live' : ''];
      const isDone = item.kind === 'text' && !item.isLive;
      return (
        <div class={classes.join(' ')}>{isDone ? <Markdown text={item.text} /> : item.text}</div>
      );
    }
    case 'note':
      return <p class={item.isBad ? 'bad' : 'dim'}>{item.text}</p>;
    case 'tool':
      return <ToolCall item={item} />;
  }
}

function ToolCall({ item }: { item: Extract<Item, { kind: 'tool' }> }) {
  const { outcome, state } = item;
  const isBad = outcome !== undefined && outcome.status !== 'ok';
  const facts = [
    state,
    outcome?.exit_code === undefined ? '' : `exit ${outcome.exit_code}`,
    outcome === undefined ? '' : `${outcome.duration_ms} ms`,
    outcome?.level ?? '',
  ].filter((text) => text !== '');
  return (
    <details class="card" open={state === 'running'}>
      <summary>
        <b>{item.tool}</b> <bdi>{toLine(item.arguments)}</bdi>{' '}
        <span class={isBad ? 'bad' : 'dim'}>{facts.join(' · ')}</span>
      </summary>
      <pre>{toShownJson(item.arguments)}</pre>
      {item.output === '' ? null : <pre>{item.output}</pre>}
    </details>
  );
}

function toLine(args: unknown): string {
  if (typeof args !== 'object' || args === null) return '';
  const [first] = Object.values(args);
  return typeof first === 'string' ? first.slice(0, 120) : '';
}

function Ask({ view }: { view: SessionView }) {
  const [text, setText] = useState('');
  const [onBusy, setOnBusy] = useState('enqueue');
  const [error, setError] = useState<string>();
  // Of what stands there: sent twice (a key held down, an answer that was lost), it counts once.
  const key = useRef(createKey());
  const change = (next: string): void => {
    key.current = createKey();
    setText(next);
  };
  const send = async (): Promise<void> => {
    const body = { text, on_busy: onBusy, idempotency_key: key.current };
    await call<InputAccepted>('POST', `/api/v1/sessions/${view.id}/input`, body);
    if (key.current === body.idempotency_key) change('');
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || text === '') return;
    setError(undefined);
    send().catch((thrown: unknown) => setError(toMessage(thrown)));
  };
  return (
    <div class="card">
      <Failure error={error} />
      <label>
        Say something (Ctrl-Enter sends)
        <textarea
          value={text}
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
      </label>
      <div class="row">
        <Act isMain act={send} onError={setError} disabled={text === ''}>
          Send
        </Act>
        <label>
          While a turn runs
          <select value={onBusy} onChange={(event) => setOnBusy(event.currentTarget.value)}>
            <option value="enqueue">wait for its end</option>
            <option value="steer">tell the running turn</option>
            <option value="interrupt">interrupt it</option>
          </select>
        </label>
      </div>
    </div>
  );
}

/** `randomUUID` is missing where the page came over plain HTTP from another machine. */
function createKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function Timeline({ reading }: { reading: Reading }) {
  return (
    <ol reversed>
      {reading.timeline.toReversed().map((moment) => (
        <li key={moment.seq} class={moment.isBad ? 'bad' : ''}>
          <span class="dim">
            {toClock(moment.time)} #{moment.seq}
          </span>{' '}
          {moment.text}
        </li>
      ))}
    </ol>
  );
}

const SAMPLES_MAX = 300;

function Curves({ id, reading }: { id: string; reading: Reading }) {
  const [memory, setMemory] = useState<readonly number[]>([]);
  usePolled(async () => {
    const processes = await get<ProcessView[]>(`/api/v1/sessions/${id}/processes`);
    const bytes = processes.reduce((sum, each) => sum + (each.rss_bytes ?? 0), 0);
    setMemory((before) => [...before, bytes / 1e6].slice(-SAMPLES_MAX));
  }, 2000);
  return (
    <>
      <Chart label="Memory of its processes, MB" values={memory} />
      <Chart
        label="Tokens in, by model call"
        values={reading.tokens.map((each) => each.input_tokens)}
      />
      <Chart
        label="Tokens out, by model call"
        values={reading.tokens.map((each) => each.output_tokens)}
      />
    </>
  );
}

function RawEvents({ reading }: { reading: Reading }) {
  return (
    <div>
      {reading.raw.toReversed().map((event) => (
        <details key={event.seq}>
          <summary>
            <span class="dim">#{event.seq}</span> {event.type}{' '}
            <span class="dim">{toClock(event.time)}</span>
          </summary>
          <pre>{JSON.stringify(event, null, 2)}</pre>
        </details>
      ))}
    </div>
  );
}
