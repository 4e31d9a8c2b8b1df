/** Tool calls that wait for a person: of one session, or of all. Arguments may be changed before
 *  they are approved; what was approved is exactly what then runs. */
import { useState } from 'preact/hooks';
import {
  describeKeptRule,
  describeSession,
  findQuestion,
  type Question,
  toShownJson,
} from '../protocol/approval-words.ts';
import type { ApprovalView, ResolveApproval } from '../protocol/resources.ts';
import { call, get } from './api.ts';
import { Act, Failure, toClock, toMessage, usePolled } from './parts.tsx';

export function useApprovals(session?: string) {
  const { value, error, reload } = usePolled(() => get<ApprovalView[]>('/api/v1/approvals'), 1500);
  const list = (value ?? []).filter((each) => session === undefined || each.session === session);
  return { list, error, reload, isLoaded: value !== undefined };
}

export function ApprovalsPage() {
  const { list, error, reload, isLoaded } = useApprovals();
  return (
    <>
      <h2>Approvals</h2>
      <Failure error={error} />
      {isLoaded && list.length === 0 ? (
        <p class="empty">
          Nothing waits for an answer: approvals and questions of all sessions stand here.
        </p>
      ) : null}
      {list.map((approval) => (
        <ApprovalCard
          key={`${approval.session} ${approval.call_id}`}
          approval={approval}
          onDone={reload}
          isLinked
        />
      ))}
    </>
  );
}

interface CardProps {
  readonly approval: ApprovalView;
  readonly onDone: () => void;
  readonly isLinked?: boolean;
}

export function ApprovalCard(props: CardProps) {
  const question = findQuestion(props.approval);
  if (question === undefined) return <CallCard {...props} />;
  return <QuestionCard {...props} question={question} />;
}

/** Each answer is for the call that this card shows: its digest goes with it. */
function answer({ session, call_id, digest }: ApprovalView, body: ResolveApproval) {
  return call('POST', `/api/v1/sessions/${session}/approvals/${call_id}`, { ...body, digest });
}

function Where({ approval, isLinked }: CardProps) {
  const until = ` until ${toClock(approval.expires_at)}`;
  if (isLinked !== true) return <span class="dim">{until}</span>;
  const { session } = approval;
  return (
    <span class="dim">
      {until}, in <a href={`#/sessions/${session}`}>{session}</a>
    </span>
  );
}

function CallCard(props: CardProps) {
  const { approval, onDone } = props;
  const asked = toShownJson(approval.arguments);
  const [text, setText] = useState(asked);
  const [wanted, setScope] = useState<Scope>('once');
  const [reason, setReason] = useState('');
  const [error, setError] = useState<string>();
  const isEdited = text !== asked;
  // A rule is kept for the call as it was asked: it is not offered for a changed one.
  const scope = isEdited && wanted === 'rule' ? 'once' : wanted;
  const approve = async (): Promise<void> => {
    const edited = isEdited ? { arguments: parseArguments(text) } : {};
    await answer(approval, { decision: 'approve', scope, ...edited });
  };
  const deny = (): Promise<unknown> =>
    answer(approval, { decision: 'deny', ...(reason === '' ? {} : { reason }) });
  return (
    <section class="card waiting" aria-label={`Approval of ${approval.tool}`}>
      <p>
        <b class="warn">{approval.tool}</b> waits for your approval
        <Where {...props} />
      </p>
      {approval.rule === undefined ? null : <p class="dim">Asked by {approval.rule}</p>}
      <Failure error={error} />
      <label>
        Arguments (may be changed)
        <textarea
          class="code"
          rows={Math.min(12, text.split('\n').length + 1)}
          spellcheck={false}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
      <Scopes approval={approval} scope={scope} isEdited={isEdited} onScope={setScope} />
      <label>
        Reason, told to the agent when denied
        <input value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <div class="row">
        <Act isMain act={approve} onDone={onDone} onError={setError}>
          {isEdited ? 'Approve as changed' : 'Approve'}
        </Act>
        <Act act={deny} onDone={onDone} onError={setError}>
          Deny
        </Act>
      </div>
    </section>
  );
}

type Scope = NonNullable<ResolveApproval['scope']>;

function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`the arguments are not JSON: ${toMessage(error)}`);
  }
}

/** What an approval would allow, in words, before it is given. */
function Scopes(props: {
  approval: ApprovalView;
  scope: Scope;
  isEdited: boolean;
  onScope: (scope: Scope) => void;
}) {
  const { approval, isEdited } = props;
  const { keeps } = approval;
  const choices: [Scope, string][] = [
    ['once', 'this call alone'],
    ['session', `in this session: ${describeSession(approval)}`],
    ...(keeps === undefined || isEdited
      ? []
      : [['rule', `from now on: ${describeKeptRule(keeps)}`] as [Scope, string]]),
  ];
  const name = `scope ${approval.session} ${approval.call_id}`;
  return (
    <fieldset>
      <legend>An approval allows</legend>
      {choices.map(([scope, means]) => (
        <label key={scope} class="choice">
          <input
            type="radio"
            name={name}
            checked={scope === props.scope}
            onChange={() => props.onScope(scope)}
          />{' '}
          {means}
        </label>
      ))}
    </fieldset>
  );
}

function QuestionCard(props: CardProps & { question: Question }) {
  const { approval, onDone, question } = props;
  const [text, setText] = useState('');
  const [error, setError] = useState<string>();
  const reply = (said: string) => (): Promise<unknown> =>
    answer(approval, { decision: 'approve', answer: said });
  const decline = (): Promise<unknown> => answer(approval, { decision: 'deny' });
  const rest = { onDone, onError: setError };
  return (
    <section class="card waiting" aria-label="Question of the agent">
      <p>
        <b class="warn">The agent asks</b>
        <Where {...props} />
      </p>
      <p class="said">{question.question}</p>
      <Failure error={error} />
      <div class="row">
        {question.options.map((option) => (
          <Act key={option} act={reply(option)} {...rest}>
            {option}
          </Act>
        ))}
      </div>
      <label>
        {question.options.length === 0 ? 'Your answer' : 'Or in your own words'}
        <textarea value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <div class="row">
        <Act isMain act={reply(text)} disabled={text.trim() === ''} {...rest}>
          Answer
        </Act>
        <Act act={decline} {...rest}>
          Decline
        </Act>
      </div>
    </section>
  );
}
