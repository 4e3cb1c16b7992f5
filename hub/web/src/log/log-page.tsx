// The transparency log: its newest checkpoint, and its entries with what proves each. Every text in it is data.
import { useId } from 'react';
import type { LogCheckpoint, LogEntry } from '../api/types';
import { useMay } from '../app/may';
import { Link, navigate, statementPath, useSearch } from '../app/router';
import { useSiteName, Utc } from '../contracts/area';
import { decimal } from '../format';
import { useLogText } from '../text/log';
import { useText } from '../text/text';
import { CopyText } from '../ui/copy';
import { Mark, Problem } from '../ui/parts';
import { Fact, LogArea, Member, OpenRow } from './area';
import { entryKinds, parseKind, subjectOf } from './entry';
import { ProofFile } from './proof-file';
import { isNothingYet, useCheckpoint, useEntries, useInclusion } from './queries';

export default function LogPage() {
  const t = useLogText();
  const text = useText();
  const kind = parseKind(useSearch());
  const checkpoint = useCheckpoint();
  const list = useEntries(kind);
  const entries = list.data?.pages.flatMap((p) => p.items) ?? [];
  const refresh = () => {
    void checkpoint.refetch();
    void list.refetch();
  };
  return (
    <LogArea here="log" lead={t.lead} onRefresh={refresh}>
      {checkpoint.error && !checkpoint.data && (isNothingYet(checkpoint.error) ? <p className="quiet">{t.checkpoint.none}</p> : <Problem title={t.checkpoint.loadError} error={checkpoint.error} onRetry={() => void checkpoint.refetch()} />)}
      {checkpoint.data && <Checkpoint of={checkpoint.data} />}
      {list.error && <Problem title={t.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      <section className="panel" aria-label={t.entries}>
        <KindChoice kind={kind} />
        {list.isPending && <p className="quiet">{text.loading}</p>}
        {list.data && (entries.length === 0 ? <p className="quiet">{kind === undefined ? t.noneAtAll : t.none}</p> : <Entries of={entries} size={checkpoint.data?.size ?? 0} />)}
        {list.hasNextPage && (
          <p>
            <button type="button" className="button" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
              {list.isFetchingNextPage ? text.loading : t.more}
            </button>
          </p>
        )}
      </section>
    </LogArea>
  );
}

function Checkpoint({ of: c }: { of: LogCheckpoint }) {
  const t = useLogText().checkpoint;
  return (
    <section className="panel log-checkpoint" aria-label={t.title}>
      <h2>{t.title}</h2>
      <p className="quiet">{t.help}</p>
      <dl className="facts">
        <Fact name={t.size}>{decimal(c.size, 0)}</Fact>
        <Fact name={t.published}>
          <Utc at={c.published_at} />
        </Fact>
        <Fact name={t.access}>{c.public ? t.public : t.private}</Fact>
        <Fact name={t.state}>
          {c.behind ? (
            <span className="badge badge-bad">
              <Mark shape="warn" /> {t.behind}
            </span>
          ) : (
            <>
              <Mark shape="ok" /> {t.upToDate}
            </>
          )}
        </Fact>
      </dl>
      {c.behind && <p role="alert">{t.behindHelp}</p>}
      <Member name={t.root} text={c.root} />
      <div className="log-member log-note">
        <h3>{t.note}</h3>
        <CopyText text={c.note} name={t.note} />
      </div>
      <Member name={t.key} text={c.public_key} />
      <p className="quiet small">{t.keyHelp}</p>
    </section>
  );
}

function KindChoice({ kind }: { kind: string | undefined }) {
  const t = useLogText();
  const id = useId();
  return (
    <div className="log-filter">
      <label htmlFor={id}>{t.filter}</label>
      <select id={id} className="select" value={kind ?? ''} onChange={(e) => navigate(e.target.value === '' ? '/log' : `/log?kind=${encodeURIComponent(e.target.value)}`)}>
        <option value="">{t.all}</option>
        {entryKinds.map((k) => (
          <option key={k} value={k}>
            {t.kinds[k] ?? k}
          </option>
        ))}
      </select>
    </div>
  );
}

function Entries({ of, size }: { of: readonly LogEntry[]; size: number }) {
  const t = useLogText();
  const siteName = useSiteName();
  return (
    <table className="list log-list">
      <thead>
        <tr>
          <th scope="col">{t.index}</th>
          <th scope="col">{t.kind}</th>
          <th scope="col">{t.what}</th>
          <th scope="col">{t.recorded}</th>
        </tr>
      </thead>
      <tbody>
        {of.map((e) => (
          <OpenRow
            key={e.index}
            name={decimal(e.index, 0)}
            label={t.showEntry(e.index)}
            columns={4}
            cells={
              <>
                <td data-name={t.kind}>{t.kinds[e.kind] ?? e.kind}</td>
                <td data-name={t.what}>{subjectOf(e, t, siteName)}</td>
                <td data-name={t.recorded}>
                  <Utc at={e.at} />
                </td>
              </>
            }
          >
            {() => <Detail of={e} size={size} />}
          </OpenRow>
        ))}
      </tbody>
    </table>
  );
}

function Detail({ of: e, size }: { of: LogEntry; size: number }) {
  const t = useLogText();
  const d = t.detail;
  const may = useMay();
  const statement = e.kind === 'statement' || e.kind === 'restatement' ? e.hash : undefined;
  return (
    <>
      <p className="log-do">
        {e.index < size && <ProofFile path={`/api/proofs/entries/${e.index}`}>{d.download}</ProofFile>}
        {statement && may('statements:read') && <Link to={statementPath(statement)}>{d.open}</Link>}
      </p>
      <Member name={d.leafHash} text={e.leaf_hash} />
      <Member name={d.hash} text={e.hash} />
      <Member name={d.hourRoot} text={e.root} />
      <Member name={d.publicKey} text={e.public_key} />
      <Member name={d.replaces} text={e.replaces} />
      <Member name={d.supersedes} text={e.supersedes} />
      <Member name={d.site} text={e.site_id} />
      <Member name={d.chain} text={e.spool_id} />
      <Member name={d.contract} text={e.contract_id} />
      <Member name={d.excuse} text={e.excuse_id} />
      <Member name={d.bytes} text={e.bytes} />
      <div className="log-member">
        <h3>{d.inclusion}</h3>
        {e.index < size ? <Inclusion index={e.index} size={size} /> : <p className="quiet">{d.waiting}</p>}
      </div>
    </>
  );
}

function Inclusion({ index, size }: { index: number; size: number }) {
  const t = useLogText().detail;
  const text = useText();
  const proof = useInclusion(index, size);
  if (proof.isPending) return <p className="quiet">{text.loading}</p>;
  if (!proof.data) return <Problem title={t.inclusionError} error={proof.error} onRetry={() => void proof.refetch()} />;
  return (
    <>
      <p className="quiet">{t.inclusionHelp(proof.data.path.length, proof.data.size)}</p>
      {proof.data.path.length > 0 && (
        <div className="log-path">
          <CopyText text={proof.data.path.join('\n')} name={t.path} />
        </div>
      )}
    </>
  );
}
