/** Tool calls that wait for a person: of one session, or of all. Arguments may be changed before
 *  they are approved; what was approved is exactly what then runs. */
import { useState } from 'preact/hooks';
import type { ApprovalView } from '../protocol/resources.ts';
import { call, get } from './api.ts';
import { Act, Failure, toClock, usePolled } from './parts.tsx';

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
      {isLoaded && list.length === 0 ? <p class="empty">Nothing waits for approval.</p> : null}
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

export function ApprovalCard(props: {
  approval: ApprovalView;
  onDone: () => void;
  isLinked?: boolean;
}) {
  const { approval, onDone } = props;
  const asked = JSON.stringify(approval.arguments, null, 2);
  const [text, setText] = useState(asked);
  const [scope, setScope] = useState('once');
  const [reason, setReason] = useState('');
  const [error, setError] = useState<string>();
  const path = `/api/v1/sessions/${approval.session}/approvals/${approval.call_id}`;
  const approve = async (): Promise<void> => {
    const edited = text === asked ? {} : { arguments: JSON.parse(text) };
    await call('POST', path, { decision: 'approve', scope, ...edited });
  };
  const deny = (): Promise<unknown> =>
    call('POST', path, { decision: 'deny', ...(reason === '' ? {} : { reason }) });
  return (
    <section class="card" aria-label={`Approval of ${approval.tool}`}>
      <p>
        <b class="warn">{approval.tool}</b> wants to run, until {toClock(approval.expires_at)}
        {props.isLinked === true ? (
          <>
            {' '}
            in <a href={`#/sessions/${approval.session}`}>{approval.session}</a>
          </>
        ) : null}
      </p>
      <Failure error={error} />
      <label>
        Arguments (may be changed)
        <textarea
          rows={Math.min(12, text.split('\n').length + 1)}
          spellcheck={false}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
      <label>
        Reason, told to the agent when denied
        <input value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <div class="row">
        <Act isMain act={approve} onDone={onDone} onError={setError}>
          {text === asked ? 'Approve' : 'Approve as changed'}
        </Act>
        <Act act={deny} onDone={onDone} onError={setError}>
          Deny
        </Act>
        <label>
          Holds
          <select value={scope} onChange={(event) => setScope(event.currentTarget.value)}>
            <option value="once">once</option>
            <option value="session">for this session</option>
          </select>
        </label>
      </div>
    </section>
  );
}
