// How far the proof of a statement is, its files, and how to check them without this hub.
import type { StatementDetail } from '../api/types';
import { useLogText } from '../text/log';
import { useText } from '../text/text';
import { CopyText } from '../ui/copy';
import { Problem } from '../ui/parts';
import { BigProofFile, ProofFile } from './proof-file';
import { useAnchorStatus, useProofState } from './queries';
import { StageLine } from './stage-line';
import { proofStages } from './stages';
import './log.css';

export function StatementProof({ of: x }: { of: StatementDetail }) {
  const t = useLogText();
  const text = useText();
  const p = t.proof;
  const state = useProofState(x.hash);
  const anchors = useAnchorStatus();
  const contract = anchors.data?.contract;
  const address = `/api/statements/${encodeURIComponent(x.hash)}`;
  return (
    <section className="panel proof-panel" aria-label={p.title}>
      <h2>{p.title}</h2>
      {state.isPending && <p className="quiet">{text.loading}</p>}
      {state.error && !state.data && <Problem title={p.loadError} error={state.error} onRetry={() => void state.refetch()} />}
      {state.data && (
        <>
          <StageLine stages={proofStages} state={state.data.stage} />
          <p className="quiet">{[state.data.log_index !== undefined && p.place(state.data.log_index), state.data.ready && !state.data.final && p.notFinal].filter(Boolean).join(' ')}</p>
          {state.data.ready ? (
            <div className="log-do">
              <ProofFile path={`${address}/proof`}>{p.statement}</ProofFile>
              <BigProofFile path={`${address}/bundle`}>{p.bundle}</BigProofFile>
            </div>
          ) : (
            <p>{p.notReady}</p>
          )}
        </>
      )}
      <p className="quiet">{p.what}</p>
      <h3>{p.how}</h3>
      <ol className="proof-steps">
        {p.steps.map((s) => (
          <li key={s}>{s}</li>
        ))}
      </ol>
      <CopyText text={`hashinsight-verify bundle bundle-${x.month}-${x.hash.slice(0, 12)}.hsproof --rpc URL --contract ADDRESS`} name={p.command} />
      {contract && <p className="quiet proof-here">{p.here(contract)}</p>}
      <p>
        <a href="/verify/">{p.browser}</a>
      </p>
    </section>
  );
}
