/** Lines that matter where two things cross: a command and a death, a reload and a start, a removal
 *  and somebody who opens again. */
import { byTest, type Mutation } from './mutation.ts';

export const crossingMutations: readonly Mutation[] = [
  {
    id: '2.record-is-read-again',
    line: 'a session is not opened with a record that was read before somebody else was done with it',
    file: 'supervisor/sessions/directory.ts',
    original: 'if (open.has(record.id) || forgotten === before) return',
    replacement: 'return',
    finder: byTest(
      'supervisor/sessions/capacity',
      'is not opened as it was before somebody else opened it, wrote and was done (regression)',
    ),
  },
  {
    id: '3.step-is-joined',
    line: 'a step that a second worker asks for joins the ask of the first',
    file: 'supervisor/effects/gate.ts',
    original: 'once(writing, `step ',
    replacement: 'once(new Map(), `step ',
    finder: byTest(
      'supervisor/sessions/inputs',
      'steer: goes to its step once, though the worker that asked for it died and its successor asks',
    ),
  },
  {
    id: '3.first-cause-wins',
    line: 'the first tombstone says how its turn ends',
    file: 'store/fold-session.ts',
    original: '    if (turn.interrupted) return turn;\n',
    replacement: '',
    finder: byTest(
      'store/fold-blame',
      'the first tombstone says how a turn ends, whatever comes behind it',
    ),
  },
  {
    id: '3.stop-that-failed-is-forgotten',
    line: 'a stop that could not be written does not say how its turn ends',
    file: 'supervisor/sessions/turn-stop.ts',
    original: '      if (stopping === own) stopping = undefined;\n',
    replacement: '',
    finder: byTest(
      'supervisor/sessions/driver-regressions',
      'is forgotten: the stop that comes next says how the turn ends',
    ),
  },
  {
    id: '3.retention-keeps-what-was-opened',
    line: 'retention removes no session that was opened again',
    file: 'supervisor/retention.ts',
    original: "deleteSession(id, 'retention', 'stopped')",
    replacement: "deleteSession(id, 'retention')",
    finder: byTest(
      'supervisor/journal',
      'one that %s opened again since it was listed stays (regression)',
    ),
  },
  {
    id: '3.claims-go-with-their-session',
    line: 'a key goes with its session, also one whose event retention kept',
    file: 'store/maintenance.ts',
    original: "    db.run('DELETE FROM uniques WHERE session = ?', session);\n",
    replacement: '',
    finder: byTest('store/trim', 'keeps an idempotency key for as long as the session lives'),
  },
  {
    id: '4.cancelled-before-its-host',
    line: 'a call that is cancelled before its host is up is not sent',
    file: 'supervisor/children/hosts.ts',
    original: '    if (call.cancelled) return NOT_RUN;\n',
    replacement: '',
    finder: byTest(
      'supervisor/children/backstops',
      'a host that is not up yet when its call is cancelled runs nothing of it',
    ),
  },
  {
    id: '4.process-of-an-open-turn',
    line: 'no background process starts behind the end of its turn',
    file: 'supervisor/sessions/processes.ts',
    original: 'journal.record().open_turn?.turn !== at.turn || journal.isStopped()',
    replacement: 'journal.isStopped()',
    finder: byTest('supervisor/sessions/processes', 'is refused when its turn is not the open one'),
  },
  {
    id: '5.unsent-only-without-power-loss',
    line: 'after a power loss a missing spool does not mean that nothing was requested',
    file: 'supervisor/effects/model-call.ts',
    original: 'known.epoch === store.epoch && spools',
    replacement: 'spools',
    finder: byTest(
      'supervisor/effects/model-call',
      'and behind a power loss finds no spool: that does not mean that nothing was sent',
    ),
  },
  {
    id: '7.process-of-a-dead-host',
    line: 'a background process whose host died before its start was journaled is given an end',
    file: 'supervisor/children/hosts.ts',
    original: '      if (!child().isAlive()) void book.settle(start.call_id);\n',
    replacement: '',
    finder: byTest(
      'supervisor/children/backstops',
      'a background process whose host died while its start was journaled is given an end',
    ),
  },
  {
    id: '7.process-keeps-its-session',
    line: 'a session is not forgotten while a background process of it has no end',
    file: 'supervisor/sessions/session.ts',
    original: '        parts.processes.count() === 0\n',
    replacement: '        true\n',
    finder: byTest(
      'supervisor/sessions/capacity',
      'with a background process without an end is not forgotten',
    ),
  },
  {
    id: '7.damaged-session-gives-back',
    line: 'a damaged session that is removed takes its worker along',
    file: 'supervisor/supervisor.ts',
    original: "    await open?.resident.leave('removed').catch(() => undefined);\n",
    replacement: '',
    finder: byTest(
      'supervisor/journal',
      'that is found while its worker waits gives worker and slot back when it is removed (regression)',
    ),
  },
  {
    id: '8.cancelled-answer-has-no-calls',
    line: 'a gateway gives no call of an answer that was cancelled',
    file: 'gateway/attempt.ts',
    original: "collector.toMessage(finishReason === 'cancelled')",
    replacement: 'collector.toMessage(false)',
    finder: byTest('gateway/attempts', 'keeps what was said and closes the request'),
  },
  {
    id: '9.gateway-is-not-waited-for',
    line: 'a gateway that does not end an attempt in time is killed',
    file: 'supervisor/children/gateway.ts',
    original: "      if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');\n",
    replacement: '',
    finder: byTest(
      'supervisor/children/backstops',
      'a gateway that has not ended an attempt is killed, and the attempt lost',
    ),
  },
  {
    id: '9.host-is-not-waited-for',
    line: 'a host that does not end a call in time is killed',
    file: 'supervisor/children/hosts.ts',
    original: "      if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');\n",
    replacement: '',
    finder: byTest(
      'supervisor/children/backstops',
      'a host that has not ended a call is killed, and the call lost',
    ),
  },
  {
    id: '10.forbidden-is-not-run-again',
    line: 'a call that the policy forbids by now is not run again',
    file: 'supervisor/effects/tool-call.ts',
    original: 'isRepeatable && findRefusal(call, permit) === undefined',
    replacement: 'isRepeatable',
    finder: byTest(
      'supervisor/effects/forbidden-since',
      'and whose host died is reported, not run again',
    ),
  },
  {
    id: '10.forbidden-is-not-sent',
    line: 'a call that was never sent is decided anew before it is',
    file: 'supervisor/effects/tool-call.ts',
    original: '  return findRefusal(call, permit);\n',
    replacement: '  return undefined;\n',
    finder: byTest(
      'supervisor/effects/forbidden-since',
      'and that was never sent is denied by the next supervisor',
    ),
  },
  {
    id: '10.decided-under-what-it-runs',
    line: 'a call runs under the policy by which it was decided',
    file: 'supervisor/sessions/session-parts.ts',
    original: '        if (!host.isOutdated()) return;\n',
    replacement: '        return;\n',
    finder: byTest(
      'supervisor/effects/policy-in-force',
      'is that of the host in which it runs, also where others wait for it (regression)',
    ),
  },
  {
    id: '10.reloads-in-order',
    line: 'of two reloads the later one stays in force',
    file: 'supervisor/reload.ts',
    original: 'const done = last.then(work);',
    replacement: 'const done = work();',
    finder: byTest(
      'supervisor/reload',
      'of two reloads at once the later one stays in force (regression)',
    ),
  },
  {
    id: '10.gateway-hears-of-a-reload',
    line: 'a gateway that starts is told of settings that changed meanwhile',
    file: 'supervisor/children/gateway.ts',
    original: 'if (told === provider) return answer.keyPresent;',
    replacement: 'return answer.keyPresent;',
    finder: byTest(
      'supervisor/children/backstops',
      'a gateway that is configured while it starts works with the settings of then (regression)',
    ),
  },
  {
    id: '12.slot-of-who-was-resumed',
    line: 'who resumes before the death of its worker is journaled keeps its slot',
    file: 'supervisor/sessions/resident.ts',
    original: '      if (holds !== before) return;\n',
    replacement: '',
    finder: byTest(
      'supervisor/sessions/states',
      'a resume that comes before the death of its worker is journaled keeps the slot (regression)',
    ),
  },
];
