/** Small pieces that several pages use. */
import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from './api.ts';

export interface Loaded<T> {
  readonly value: T | undefined;
  readonly error: string | undefined;
  /** Loads again now. */
  reload(): void;
}

/** Loads, and again every `everyMs` while the page is visible. */
export function usePolled<T>(load: () => Promise<T>, everyMs: number): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<string>();
  const current = useRef(load);
  current.current = load;
  const pendingCount = useRef(0);
  const reload = useCallback(() => {
    pendingCount.current += 1;
    current
      .current()
      .then(
        (next) => {
          setValue(next);
          setError(undefined);
        },
        (thrown: unknown) => setError(toMessage(thrown)),
      )
      .finally(() => {
        pendingCount.current -= 1;
      });
  }, []);
  useEffect(() => {
    reload();
    const timer = setInterval(() => {
      // A server that is slow is not asked again before it has answered.
      if (!document.hidden && pendingCount.current === 0) reload();
    }, everyMs);
    return () => clearInterval(timer);
  }, [reload, everyMs]);
  return { value, error, reload };
}

export function toMessage(error: unknown): string {
  if (error instanceof ApiError && error.status === 401) {
    return `${error.message} — give a token at the top; a local one is in STATE_DIR/api-token`;
  }
  return error instanceof Error ? error.message : String(error);
}

/** What an action said when it failed; announced to those who do not see it. */
export function Failure({ error }: { error: string | undefined }) {
  return <div role="alert">{error === undefined ? null : <p class="banner bad">{error}</p>}</div>;
}

/** A button that cannot be pressed twice while its action runs. */
export function Act(props: {
  children: ComponentChildren;
  act: () => Promise<unknown>;
  onDone?: () => void;
  onError: (message: string | undefined) => void;
  isMain?: boolean;
  disabled?: boolean;
}) {
  const [isBusy, setBusy] = useState(false);
  const onClick = (): void => {
    setBusy(true);
    props.onError(undefined);
    props
      .act()
      .then(
        () => props.onDone?.(),
        (error: unknown) => props.onError(toMessage(error)),
      )
      .finally(() => setBusy(false));
  };
  return (
    <button
      type="button"
      class={props.isMain === true ? 'main' : ''}
      disabled={isBusy || props.disabled === true}
      onClick={onClick}
    >
      {props.children}
    </button>
  );
}

export function Facts({ facts }: { facts: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Tabs as a keyboard expects them: one stop, and the arrows go round. */
export function Tabs<T extends string>(props: {
  names: readonly T[];
  chosen: T;
  onChoose: (name: T) => void;
  label: string;
}) {
  const { names, chosen, onChoose } = props;
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const at = (names.indexOf(chosen) + step + names.length) % names.length;
    const next = names[at];
    if (next !== undefined) onChoose(next);
    const list = event.currentTarget;
    const tab = list instanceof HTMLElement ? list.children[at] : undefined;
    if (tab instanceof HTMLElement) tab.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={props.label} onKeyDown={onKeyDown}>
      {names.map((name) => (
        <button
          key={name}
          type="button"
          role="tab"
          aria-selected={chosen === name}
          tabIndex={chosen === name ? 0 : -1}
          onClick={() => onChoose(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

/** A curve from left to right, its greatest value at the top; its figures in words beside it. */
export function Chart({ label, values }: { label: string; values: readonly number[] }) {
  const max = Math.max(1, ...values);
  const step = values.length > 1 ? 1000 / (values.length - 1) : 0;
  const points = values.map((value, at) => `${at * step},${96 - (value / max) * 92}`).join(' ');
  const last = values.at(-1) ?? 0;
  return (
    <figure class="card">
      <figcaption>
        {label}{' '}
        <span class="dim">
          now {toShort(last)}, at most {toShort(Math.max(0, ...values))}
        </span>
      </figcaption>
      <svg
        class="chart"
        viewBox="0 0 1000 100"
        preserveAspectRatio="none"
        role="img"
        aria-label={label}
      >
        <polyline points={points} />
      </svg>
    </figure>
  );
}

export function toShort(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k`;
  return String(Math.round(value * 100) / 100);
}

export function toBytes(value: number): string {
  return value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e3).toFixed(1)} kB`;
}

export function toClock(time: string): string {
  return new Date(time).toLocaleTimeString();
}

export function toCost(usd: number): string {
  return usd === 0 ? '–' : `$${usd.toFixed(4)}`;
}

export function stateClass(state: string): string {
  if (state === 'failed') return 'bad';
  if (state === 'awaiting' || state === 'suspended') return 'warn';
  return state === 'running' ? 'good' : 'dim';
}
