/** Asks one endpoint with autocannon, in a process of its own: what the asking costs is not the
 *  measuring process's, and each answer is timed where it is read. Told what to ask in its
 *  argument; prints a report. */
import autocannon from 'autocannon';

export interface LoadOptions {
  readonly socketPath: string;
  readonly path: string;
  readonly connections: number;
  readonly seconds: number;
}

export interface LoadReport {
  readonly requestsPerSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that were not a 2xx, or none. */
  readonly failed: number;
}

const { path, seconds, ...where } = JSON.parse(process.argv[2] ?? '') as LoadOptions;
// Its own histogram counts whole milliseconds.
const latenciesMs: number[] = [];
const asked = { ...where, url: `http://localhost${path}`, duration: seconds };
const result = await new Promise<autocannon.Result>((resolve, reject) => {
  const run = autocannon(asked, (error, done) => (error ? reject(error) : resolve(done)));
  run.on('response', (_client, _status, _bytes, responseMs) => latenciesMs.push(responseMs));
});
const sorted = latenciesMs.toSorted((a, b) => a - b);
const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
const report: LoadReport = {
  requestsPerSec: sorted.length / result.duration,
  p50Ms: at(0.5),
  p99Ms: at(0.99),
  failed: result.non2xx + result.errors,
};
process.stdout.write(JSON.stringify(report));
