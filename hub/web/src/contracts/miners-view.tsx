// Which miners a contract holds, from when to when; assigning and ending them.
import { useState } from 'react';
import type { Assignment, ContractDetail } from '../api/types';
import { useClock } from '../app/live';
import { useMay } from '../app/may';
import { contractPath, Link } from '../app/router';
import { ms } from '../format';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';
import { rateText } from './amounts';
import { Utc, useMinerName } from './area';
import { AssignDialog, EndDialog } from './assign-dialogs';
import { useAssignments } from './queries';

/** Rows shown at first, and added at each asking. */
const step = 200;

export function MinersView({ contract }: { contract: ContractDetail }) {
  const t = useContractText();
  const text = useText();
  const may = useMay();
  const list = useAssignments(contract.id);
  const minerName = useMinerName();
  const [ended, showEnded] = useState(false);
  const [shown, setShown] = useState(step);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState<'assign' | 'end' | null>(null);
  const minute = useClock((now) => Math.floor(now / 60_000));
  const hasEnded = (a: Assignment) => a.to !== undefined && (ms(a.to) ?? 0) <= minute * 60_000;
  const rows = (list.data?.items ?? []).filter((a) => ended || !hasEnded(a));
  const mayWrite = may('contracts:write');
  const toggle = (id: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(id);
    else next.delete(id);
    setChosen(next);
  };
  const close = () => {
    setOpen(null);
    setChosen(new Set());
  };
  const endable = rows.filter((a) => !hasEnded(a));
  return (
    <section className="panel" aria-label={t.assign.title}>
      <div className="panel-head">
        <h2>{t.assign.title}</h2>
        {list.data && <span className="quiet">{t.miners(rows.length)}</span>}
        <div className="page-do contract-actions">
          {mayWrite && chosen.size > 0 && (
            <button type="button" className="button" onClick={() => setOpen('end')}>
              {t.assign.end}
            </button>
          )}
          {mayWrite && may('miners:read') && (
            <button type="button" className="button button-main" onClick={() => setOpen('assign')}>
              {t.assign.assign}
            </button>
          )}
        </div>
      </div>
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.error && <Problem title={t.assign.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && (
        <>
          <div className="contract-filter">
            <label className="check">
              <input type="checkbox" checked={ended} onChange={(e) => showEnded(e.target.checked)} /> {t.assign.showEnded}
            </label>
            {mayWrite && endable.length > 0 && (
              <button type="button" className="button button-quiet" onClick={() => setChosen(chosen.size > 0 ? new Set() : new Set(endable.map((a) => a.id)))}>
                {chosen.size > 0 ? t.assign.chooseNone : t.assign.chooseAll(endable.length)}
              </button>
            )}
            {chosen.size > 0 && <span role="status">{t.assign.chosen(chosen.size)}</span>}
          </div>
          {rows.length === 0 ? (
            <p className="quiet">{t.assign.none}</p>
          ) : (
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">{t.miner}</th>
                  <th scope="col">{t.site}</th>
                  <th scope="col">{t.from}</th>
                  <th scope="col">{t.to}</th>
                  <th scope="col" className="numeric">
                    {t.assign.rate}
                  </th>
                  <th scope="col">
                    <span className="sr">{t.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {rows.slice(0, shown).map((a) => {
                  const name = minerName({ miner_id: a.miner_id, name: a.address });
                  return (
                    <tr key={a.id}>
                      <td>
                        {mayWrite && !hasEnded(a) ? (
                          <label className="check">
                            <input type="checkbox" aria-label={t.assign.chooseOne(name)} checked={chosen.has(a.id)} onChange={(e) => toggle(a.id, e.target.checked)} /> {name}
                          </label>
                        ) : (
                          name
                        )}
                      </td>
                      <td data-name={t.site}>{a.site_name}</td>
                      <td data-name={t.from}>
                        <Utc at={a.from} />
                      </td>
                      <td data-name={t.to}>{a.to ? <Utc at={a.to} /> : <span className="quiet">{t.open}</span>}</td>
                      <td data-name={t.assign.rate} className="numeric">
                        {a.rate_mhs ? rateText(a.rate_mhs) : <span className="quiet">{t.assign.termsRate}</span>}
                      </td>
                      <td className="list-do">
                        {may('sla:read') && (
                          <Link to={`${contractPath(contract.id, 'slots')}?site=${encodeURIComponent(a.site_id)}&miner=${encodeURIComponent(a.miner_id)}`} aria-label={t.assign.wholeOf(name)}>
                            {t.assign.whole}
                          </Link>
                        )}
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          )}
          {rows.length > shown && (
            <button type="button" className="button" onClick={() => setShown(shown + step)}>
              {t.more}
            </button>
          )}
        </>
      )}
      {open === 'assign' && <AssignDialog contract={contract} assignments={list.data?.items ?? []} onClose={close} />}
      {open === 'end' && <EndDialog contract={contract.id} ids={[...chosen]} onClose={close} />}
    </section>
  );
}
