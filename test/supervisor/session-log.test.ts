/** The log of a session: session and turn on every line, one file for its worker, bounded, without
 *  secrets, gone with the session. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createLogger } from '../../base/logger.ts';
import { createLogRedactor } from '../../supervisor/secrets/log-redactor.ts';
import { createSessionLogs } from '../../supervisor/session-log.ts';
import { createHouse, demolish } from './house.ts';
import { answers, type Completed, say } from './script.ts';
import { createSteppedClock } from './stepped-clock.ts';

const folders: string[] = [];

afterEach(async () => {
  await demolish();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function openLogs(redact: (line: string) => string = (line) => line) {
  const stateDir = mkdtempSync(join(tmpdir(), 'prx-log-'));
  folders.push(stateDir);
  const clock = createSteppedClock();
  const lines: string[] = [];
  const logger = createLogger('test', 'info', { write: (line) => lines.push(line) });
  const open = createSessionLogs({ stateDir, clock, logger, redact });
  const path = join(stateDir, 'logs', 's_1', 'worker.log');
  const read = (): Record<string, unknown>[] => toLines(readFileSync(path, 'utf8'));
  return { open, lines, path, read, clock, stateDir };
}

const toLines = (text: string): Record<string, unknown>[] =>
  text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));

describe('a supervisor', () => {
  test('says of each worker when it came and went, with session and turn', async () => {
    const lines: string[] = [];
    const answer = Promise.withResolvers<Completed>();
    const house = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 0',
      log: (line) => lines.push(line),
      script: { gateway: answers({ '1.1': () => answer.promise }) },
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    house.machine.live('worker')[0]?.die();
    await house.until(id, 'worker.started', 2);
    answer.resolve(say('done'));
    await house.turnDone(id);
    await house.supervisor.close(id, 'test');
    const own = toLines(lines.join('')).filter(({ event }) => /^worker\./.test(String(event)));
    expect(own.map(({ event, session, turn, cause }) => [event, session, turn, cause])).toEqual([
      ['worker.started', id, 0, undefined],
      ['worker.exited', id, 1, 'crashed'],
      ['worker.started', id, 1, undefined],
      ['worker.exited', id, 1, 'stopped'],
    ]);
    const file = join(house.stateDir, 'logs', id, 'worker.log');
    const kept = toLines(readFileSync(file, 'utf8'));
    expect(kept.every(({ session, turn }) => session === id && typeof turn === 'number')).toBe(
      true,
    );
    expect(kept.filter(({ event }) => /^worker\./.test(String(event)))).toHaveLength(4);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await house.supervisor.deleteSession(id, 'test');
    expect(existsSync(join(house.stateDir, 'logs', id))).toBe(false);
  });
});

describe("a worker's file", () => {
  test('has every level, also where the log has not', () => {
    const { open, lines, read } = openLogs();
    open('s_1', () => 3).debug('child.stderr', { line: 'x' });
    expect(lines).toEqual([]);
    expect(read()).toMatchObject([{ event: 'child.stderr', session: 's_1', turn: 3, line: 'x' }]);
  });

  test('is put aside when it is larger than 1 MiB, and the one before goes', () => {
    const { open, path, read } = openLogs();
    const logger = open('s_1', () => 1);
    logger.info('first');
    writeFileSync(path, 'x'.repeat(1024 * 1024));
    logger.info('fits');
    expect(existsSync(`${path}.1`)).toBe(false);
    logger.info('after');
    expect(statSync(`${path}.1`).size).toBeGreaterThan(1024 * 1024);
    expect(read()).toMatchObject([{ event: 'after' }]);
  });

  test('takes 200 lines a second: the rest is counted, and that is a line (FAULTS 42)', () => {
    const { open, read, clock } = openLogs();
    const logger = open('s_1', () => 1);
    for (let at = 0; at < 203; at += 1) logger.info('flood');
    expect(read()).toHaveLength(200);
    clock.advance(1000);
    logger.info('calm');
    expect(read().slice(200)).toMatchObject([
      { event: 'log.unsaid', session: 's_1', turn: 1, lines: 3 },
      { event: 'calm' },
    ]);
  });

  test('that cannot be written is said once, and keeps nobody from working', () => {
    const { open, lines, stateDir } = openLogs();
    writeFileSync(join(stateDir, 'logs'), 'in the way');
    const logger = open('s_1', () => 1);
    logger.info('one');
    logger.info('two');
    expect(toLines(lines.join('')).map(({ event }) => event)).toEqual([
      'one',
      'log.file_failed',
      'two',
    ]);
  });

  test('that was removed with its session is not made again', () => {
    const { open, path, stateDir } = openLogs();
    const logger = open('s_1', () => 1);
    logger.info('one');
    rmSync(join(stateDir, 'logs', 's_1'), { recursive: true });
    logger.info('late');
    expect(existsSync(path)).toBe(false);
  });
});

describe('a secret [promise:no-secret-leaves]', () => {
  test('of the environment, or of the vault, is in no line and no file', () => {
    const redactor = createLogRedactor({
      OPENAI_API_KEY: 'sk-"quoted"-key',
      EMPTY: '',
      NONE: undefined,
    });
    redactor.setVault((text) => text.replaceAll('vault-value', '[secret V]'));
    const { open, read } = openLogs(redactor.redact);
    open('s_1', () => 1).warn('a', { line: 'sk-"quoted"-key and vault-value' });
    expect(read()[0]?.['line']).toBe('[secret OPENAI_API_KEY] and [secret V]');
  });

  test('is taken out also of a line that the vault itself makes when it is asked', () => {
    const redactor = createLogRedactor({ KEY: 'a-long-key' });
    const made: string[] = [];
    redactor.setVault((text) => {
      made.push(redactor.redact('the vault says a-long-key'));
      return text;
    });
    expect(redactor.redact('a-long-key')).toBe('[secret KEY]');
    expect(made).toEqual(['the vault says [secret KEY]']);
  });

  test('that is shorter than eight characters is none: lines stay readable', () => {
    const redactor = createLogRedactor({ KEY: 'info', OTHER: 'eightest' });
    expect(redactor.redact('level info eightest')).toBe('level info [secret OTHER]');
  });
});
