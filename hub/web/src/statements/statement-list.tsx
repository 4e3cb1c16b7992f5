// A list of statements: of one contract, or of all that the key may see.
import type { Statement } from '../api/types';
import { contractPath, Link, statementPath } from '../app/router';
import { bpText, moneyText, ppmText } from '../contracts/amounts';
import { Short, Utc } from '../contracts/area';
import { useStatements } from '../contracts/queries';
import { Verdict } from '../sla/verdict';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Mark, Problem } from '../ui/parts';

export default function StatementList({ contract }: { contract?: string }) {
  const t = useContractText();
  const text = useText();
  const list = useStatements(contract);
  const rows = list.data?.pages.flatMap((p) => p.items) ?? [];
  const s = t.statements;
  if (list.isPending) return <p className="quiet">{text.loading}</p>;
  return (
    <>
      {list.error && <Problem title={s.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && (
        <section className="panel" aria-label={s.title}>
          {rows.length === 0 ? (
            <p className="quiet">{s.none}</p>
          ) : (
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">{s.month}</th>
                  {contract === undefined && <th scope="col">{s.contract}</th>}
                  <th scope="col">{s.availability}</th>
                  <th scope="col">{s.credit}</th>
                  <th scope="col">{s.state}</th>
                  <th scope="col">{s.issued}</th>
                </tr>
              </thead>
              <tbody>
                {rows.map((x) => (
                  <tr key={x.hash}>
                    <td>
                      <Link to={statementPath(x.hash)}>
                        <strong>{x.month}</strong>
                      </Link>{' '}
                      <Short of={x.hash} />
                    </td>
                    {contract === undefined && (
                      <td data-name={s.contract}>
                        <Link to={contractPath(x.contract_id)}>{x.contract_name}</Link>
                      </td>
                    )}
                    <td data-name={s.availability}>
                      {x.availability_ppm === undefined ? (
                        s.nothingDue
                      ) : (
                        <>
                          {ppmText(x.availability_ppm)} <Verdict met={x.met} />
                        </>
                      )}
                    </td>
                    <td data-name={s.credit}>{creditText(x.credit) ?? text.none}</td>
                    <td data-name={s.state}>
                      <Standing of={x} />
                    </td>
                    <td data-name={s.issued}>
                      <Utc at={x.issued_at} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          {list.hasNextPage && (
            <button type="button" className="button" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
              {list.isFetchingNextPage ? text.loading : t.more}
            </button>
          )}
        </section>
      )}
    </>
  );
}

/** A credit as its share of the fee, and in money where the contract names a fee; null when there is none. */
export function creditText(c: Statement['credit']): string | null {
  if (c.bp === 0) return null;
  return c.minor > 0 && c.currency ? `${bpText(c.bp)}, ${moneyText(c.minor, c.currency)}` : bpText(c.bp);
}

/** Whether a statement still holds, and what it has to do with others of its month. */
export function Standing({ of: x }: { of: Statement }) {
  const t = useContractText();
  const s = t.statements;
  return (
    <span className="standing-line">
      {x.superseded_by ? (
        <span className="badge badge-warn">
          <Mark shape="stale" /> {s.supersededBy} <Link to={statementPath(x.superseded_by)}>{x.superseded_by.slice(0, 8)}</Link>
        </span>
      ) : (
        <span className="badge badge-good">
          <Mark shape="ok" /> {s.newest}
        </span>
      )}
      {x.supersedes && (
        <span className="quiet small">
          {s.restatement}, {s.supersedes} <Link to={statementPath(x.supersedes)}>{x.supersedes.slice(0, 8)}</Link>
        </span>
      )}
    </span>
  );
}
