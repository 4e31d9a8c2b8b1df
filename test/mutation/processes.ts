/** Background processes: when one may run, who ends it, and what is said of its end. */
import { byTest, type Mutation } from './mutation.ts';

export const processMutations: readonly Mutation[] = [
  {
    id: '7.process-written-down-before-it-runs',
    line: 'a background process does not run before the journal has its start',
    file: 'sandbox/launch/namespaces.ts',
    original: '    await admit();\n',
    replacement: '    void admit().catch(() => undefined);\n',
    finder: byTest('sandbox/background', 'do not run before the journal has their start'),
  },
  {
    id: '7.process-ends-with-its-supervisor',
    line: 'a host whose supervisor is gone ends its background processes, and writes that down',
    file: 'sandbox/host.ts',
    original: "room?.calls.endProcesses('orphaned')",
    replacement: 'Promise.resolve()',
    finder: byTest('sandbox/background', 'does not survive %s'),
  },
  {
    id: '7.process-ends-with-its-session',
    line: 'a session that is closed ends its background processes',
    file: 'supervisor/sessions/driver.ts',
    original:
      "toStopped(): Promise<void> {\n    await deps.host.endProcesses('closed');\n    await letGo",
    replacement: 'toStopped(): Promise<void> {\n    await letGo',
    finder: byTest(
      'integration/background',
      'outlives its turn and its worker, and ends with its session',
    ),
  },
  {
    id: '7.process-keeps-its-host',
    line: 'a host is not let go while a background process runs in it',
    file: 'supervisor/children/hosts.ts',
    original: 'calls.size === 0 && deps.book.count() === 0',
    replacement: 'calls.size === 0',
    finder: byTest(
      'integration/background',
      'outlives its turn and its worker, and ends with its session',
    ),
  },
  {
    id: '7.process-ends-once',
    line: 'a background process that has its end in the journal gets no other',
    file: 'supervisor/sessions/processes.ts',
    original: '    if (!listLive().includes(call)) return;\n',
    replacement: '',
    finder: byTest('supervisor/sessions/processes', 'is journaled once, however often it is told'),
  },
  {
    id: '7.process-end-is-kept',
    line: 'an end that the journal did not take is written again',
    file: 'supervisor/sessions/processes.ts',
    original: "        if (!isPrxError(error, 'STORE_DEGRADED')) return;\n",
    replacement: '        return;\n',
    finder: byTest('supervisor/sessions/processes', 'is written when there is room again'),
  },
  {
    id: '9.process-output',
    line: 'of the output of a background process the newest is kept',
    file: 'sandbox/processes/record.ts',
    original: 'paths.splice(0, paths.length - SEGMENTS_MAX)',
    replacement: 'paths.splice(0, 0)',
    finder: byTest(
      'sandbox/process-record',
      'of %d bytes, with 10 to keep: at least those, in at most two files',
    ),
  },
  {
    id: '10.process-is-judged-as-the-shell',
    line: 'a rule for the shell holds for background processes',
    file: 'supervisor/effects/policy/rules.ts',
    original: 'const names = [tool, judgedAs(tool)];',
    replacement: 'const names = [tool];',
    finder: byTest('supervisor/effects/policy/background', '%s %j'),
  },
];
