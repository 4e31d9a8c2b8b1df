/** Numbers, times and ids as people read them. Pure. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** The eight characters of an id that listings show; they are accepted wherever an id is. */
export function toShortId(id: string): string {
  return id.startsWith('s_') ? id.slice(2, 10) : id.slice(0, 8);
}

/** 850ms, 1.2s, 42s, 3m10s, 2h05m, 4d03h. */
export function formatDuration(ms: number): string {
  const value = Math.max(0, ms);
  if (value < 1000) return `${Math.round(value)}ms`;
  if (value < 9_950) return `${(value / 1000).toFixed(1)}s`;
  if (value < MINUTE_MS) return `${Math.floor(value / 1000)}s`;
  if (value < HOUR_MS) return twoUnits(value, MINUTE_MS, 'm', 1000, 's');
  if (value < DAY_MS) return twoUnits(value, HOUR_MS, 'h', MINUTE_MS, 'm');
  return twoUnits(value, DAY_MS, 'd', HOUR_MS, 'h');
}

function twoUnits(ms: number, big: number, bigName: string, small: number, smallName: string) {
  const rest = Math.floor((ms % big) / small);
  return `${Math.floor(ms / big)}${bigName}${String(rest).padStart(2, '0')}${smallName}`;
}

/** Age in one unit: 12s, 5m, 3h, 9d. */
export function formatAge(ms: number): string {
  const value = Math.max(0, ms);
  if (value < MINUTE_MS) return `${Math.floor(value / 1000)}s`;
  if (value < HOUR_MS) return `${Math.floor(value / MINUTE_MS)}m`;
  if (value < DAY_MS) return `${Math.floor(value / HOUR_MS)}h`;
  return `${Math.floor(value / DAY_MS)}d`;
}

/** Four decimals below a cent, so that a cheap call does not look free. */
export function formatCost(usd: number): string {
  if (usd === 0) return '$0';
  return `$${usd.toFixed(usd < 0.01 ? 4 : 2)}`;
}

export function formatCount(value: number): string {
  if (value < 1000) return String(value);
  if (value < 999_500) return `${trimZero((value / 1000).toFixed(value < 9_950 ? 1 : 0))}k`;
  return `${trimZero((value / 1_000_000).toFixed(1))}M`;
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : trimZero(value.toFixed(1))} ${units[unit] ?? 'B'}`;
}

function trimZero(text: string): string {
  return text.replace(/\.0$/, '');
}

/** 12:03:11 in local time. An unreadable stamp is shown as it is. */
export function formatClock(timestamp: string): string {
  const date = new Date(timestamp);
  if (Number.isNaN(date.getTime())) return timestamp;
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
}

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: MINUTE_MS,
  h: HOUR_MS,
  d: DAY_MS,
};

/** A length such as 90s, 10m, 2h or 1d in milliseconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const [, amount, unit] = DURATION.exec(text) ?? [];
  if (amount === undefined || unit === undefined) return undefined;
  return Number(amount) * (UNIT_MS[unit] ?? 1);
}
