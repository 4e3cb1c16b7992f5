// Hours that are disputed: what the site signed, and what its own batches give.
import { Area, Short, Utc } from '../contracts/area';
import { useDisputes } from '../contracts/queries';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';

export default function DisputesPage() {
  const t = useContractText();
  const text = useText();
  const list = useDisputes();
  const rows = list.data?.pages.flatMap((p) => p.items) ?? [];
  return (
    <Area here="disputes" title={t.disputes.title} lead={t.disputes.lead}>
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.error && <Problem title={t.disputes.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && (
        <section className="panel" aria-label={t.disputes.title}>
          {rows.length === 0 ? (
            <p className="quiet">{t.disputes.none}</p>
          ) : (
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">{t.disputes.hour}</th>
                  <th scope="col">{t.site}</th>
                  <th scope="col">{t.disputes.reason}</th>
                  <th scope="col">{t.disputes.root}</th>
                  <th scope="col">{t.disputes.other}</th>
                  <th scope="col">{t.disputes.found}</th>
                </tr>
              </thead>
              <tbody>
                {rows.map((d) => (
                  <tr key={d.id}>
                    <td>
                      <Utc at={d.hour} />
                    </td>
                    <td data-name={t.site}>{d.site_name}</td>
                    <td data-name={t.disputes.reason}>
                      {t.disputes.kinds[d.kind] ?? d.kind}
                      <div className="quiet small">{d.reason}</div>
                    </td>
                    <td data-name={t.disputes.root}>
                      <Short of={d.root} /> <span className="quiet small">{t.disputes.batch(String(d.in_seq))}</span>
                    </td>
                    <td data-name={t.disputes.other}>
                      <Short of={d.other_root} /> {d.other_seq ? <span className="quiet small">{t.disputes.batch(String(d.other_seq))}</span> : null}
                    </td>
                    <td data-name={t.disputes.found}>
                      <Utc at={d.found_at} />
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
    </Area>
  );
}
