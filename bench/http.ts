/** The plain endpoints under load: how many answers a second, and how long one takes while ten are
 *  asked for at a time. In turns with a bare server of the same Node, asked in the same way. */
import { execFile, fork } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Figure } from './figure.ts';
import type { LoadOptions, LoadReport } from './http-load.ts';
import type { Home, Lab } from './lab.ts';
import { writePast } from './past.ts';
import type { Row } from './report.ts';
import { settle } from './session.ts';

const CONNECTIONS = 10;
const SESSIONS = 50;
const EVENTS = 100;
const FLOOR = 'bare node:http server';

export const http: Figure = {
  name: 'http',
  async run(lab) {
    const home = await lab.createHome();
    const past = { turns: 10, answerBytes: 1000, deltas: 10, isOpen: false };
    const [id = ''] = await writePast(home, SESSIONS, past);
    const running = await home.start();
    await settle(home, 2);
    const floor = await startFloor(home);
    const api = join(home.stateDir, 'api.sock');
    const asked: readonly Endpoint[] = [
      { name: FLOOR, socketPath: floor.socketPath, path: '/' },
      { name: 'GET /healthz', socketPath: api, path: '/healthz' },
      { name: 'GET one session', socketPath: api, path: `/api/v1/sessions/${id}` },
      { name: `GET the list of ${SESSIONS}`, socketPath: api, path: '/api/v1/sessions' },
      {
        name: `GET a page of ${EVENTS} events`,
        socketPath: api,
        path: `/api/v1/sessions/${id}/events?limit=${EVENTS}`,
      },
      { name: 'GET /metrics', socketPath: api, path: '/metrics' },
    ];
    const reports = asked.map((): LoadReport[] => []);
    for (let round = 0; round < (lab.quick ? 1 : 5); round += 1) {
      for (const [at, endpoint] of asked.entries()) {
        reports[at]?.push(await load(lab, endpoint, lab.quick ? 1 : 3));
      }
    }
    floor.stop();
    await running.stop();
    const rows = asked.flatMap(({ name }, at) => toRows(name, reports[at] ?? []));
    return { title: `Plain endpoints, ${CONNECTIONS} requests at a time`, rows };
  },
};

interface Endpoint extends Pick<LoadOptions, 'socketPath' | 'path'> {
  readonly name: string;
}

function toRows(name: string, reports: readonly LoadReport[]): Row[] {
  return [
    { name, unit: 'req/s', samples: reports.map((each) => each.requestsPerSec) },
    { name: `${name}, p50`, unit: 'ms', samples: reports.map((each) => each.p50Ms) },
    { name: `${name}, p99`, unit: 'ms', samples: reports.map((each) => each.p99Ms) },
  ];
}

/** @throws Error when an answer was not a 2xx. */
async function load(lab: Lab, endpoint: Endpoint, seconds: number): Promise<LoadReport> {
  const { socketPath, path, name } = endpoint;
  const options: LoadOptions = { socketPath, path, connections: CONNECTIONS, seconds };
  const program = join(import.meta.dirname, 'http-load.ts');
  const { stdout } = await promisify(execFile)(lab.node, [program, JSON.stringify(options)]);
  const report = JSON.parse(stdout) as LoadReport;
  if (report.failed > 0) throw new Error(`${name}: ${report.failed} requests failed`);
  return report;
}

async function startFloor(home: Home): Promise<{ socketPath: string; stop(): void }> {
  const socketPath = join(home.dir, 'floor.sock');
  const child = fork(join(import.meta.dirname, 'http-floor.ts'), [socketPath]);
  await new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => reject(new Error(`the bare server ended with ${code}`)));
  });
  return { socketPath, stop: () => child.disconnect() };
}
