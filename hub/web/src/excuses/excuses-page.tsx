// Excuses: maintenance that was announced and curtailment that was ordered, whether contracts honour them, and why not.
import { useState } from 'react';
import type { Excuse } from '../api/types';
import { useClock } from '../app/live';
import { useMay } from '../app/may';
import { contractPath, Link, navigate, useSearch } from '../app/router';
import { wholeDuration } from '../contracts/amounts';
import { Area, MonthChoice, useMinerName, Utc } from '../contracts/area';
import { useExcuses } from '../contracts/queries';
import { ms } from '../format';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Mark, Problem } from '../ui/parts';
import { monthOf, readMonth, rfc3339, utcMoment } from '../utc';
import { EndExcuse, RecordExcuse } from './excuse-dialogs';
import { marginS, phaseOf } from './window';

type Open = { do: 'maintenance' | 'curtailment' } | { do: 'end'; excuse: Excuse } | null;

export default function ExcusesPage() {
  const t = useContractText();
  const text = useText();
  const may = useMay();
  const today = useClock((now) => monthOf(now));
  const asked = readMonth(new URLSearchParams(useSearch()).get('month') ?? '');
  const month = asked ?? readMonth(today) ?? { name: today, fromMs: 0, toMs: 0, days: 0 };
  const list = useExcuses(month.name, rfc3339(month.fromMs), rfc3339(month.toMs));
  const [open, setOpen] = useState<Open>(null);
  const items = [...(list.data?.items ?? [])].sort((a, b) => Date.parse(b.from) - Date.parse(a.from));
  const mayWrite = may('excuses:write');
  const mayRecord = mayWrite && may('miners:read');
  return (
    <Area
      here="excuses"
      title={t.excuses.title}
      lead={t.excuses.lead}
      actions={
        mayRecord && (
          <>
            <button type="button" className="button" onClick={() => setOpen({ do: 'curtailment' })}>
              {t.excuses.order}
            </button>
            <button type="button" className="button button-main" onClick={() => setOpen({ do: 'maintenance' })}>
              {t.excuses.announce}
            </button>
          </>
        )
      }
    >
      <div className="contract-filter">
        <MonthChoice month={month.name} onChange={(m) => navigate(`/excuses?month=${m}`, 'replace')} />
      </div>
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.error && <Problem title={t.excuses.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && (
        <section className="panel" aria-label={t.excuses.title}>
          {items.length === 0 ? (
            <p className="quiet">{t.excuses.none}</p>
          ) : (
            <table className="list excuses-list">
              <thead>
                <tr>
                  <th scope="col">{t.excuses.kind}</th>
                  <th scope="col">{t.excuses.window}</th>
                  <th scope="col">{t.site}</th>
                  <th scope="col">{t.recorded}</th>
                  <th scope="col">{t.excuses.honoured}</th>
                  <th scope="col">
                    <span className="sr">{t.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {items.map((x) => (
                  <Row key={x.id} of={x} onEnd={mayWrite ? () => setOpen({ do: 'end', excuse: x }) : undefined} />
                ))}
              </tbody>
            </table>
          )}
        </section>
      )}
      {open?.do === 'end' && <EndExcuse excuse={open.excuse} onClose={() => setOpen(null)} />}
      {(open?.do === 'maintenance' || open?.do === 'curtailment') && <RecordExcuse kind={open.do} onClose={() => setOpen(null)} />}
    </Area>
  );
}

function Row({ of: x, onEnd }: { of: Excuse; onEnd: (() => void) | undefined }) {
  const t = useContractText();
  const text = useText();
  const minerName = useMinerName();
  const phase = useClock((now) => phaseOf(x, now));
  const kind = t.excuses.kinds[x.kind] ?? x.kind;
  const margin = marginS(x);
  const names = x.miner_ids.slice(0, 3).map((miner_id) => minerName({ miner_id }));
  return (
    <tr>
      <td>
        <strong>{kind}</strong>
        {x.note !== '' && <div className="quiet small">{x.note}</div>}
      </td>
      <td data-name={t.excuses.window}>
        <Utc at={x.from} /> <br />– <Utc at={x.to} />
        <div className="small">
          <span className={phase === 'running' ? 'badge badge-warn' : 'quiet'}>
            {phase === 'running' && <Mark shape="stale" />} {t.excuses[phase]}
          </span>
          {x.ended_at && phase !== 'calledOff' && <span className="quiet"> {t.excuses.endedAt(utcMoment(ms(x.ended_at) ?? 0))}</span>}
        </div>
      </td>
      <td data-name={t.site}>
        {x.site_name}
        <div className="quiet small">{x.miner_ids.length === 0 ? t.allSite : x.miner_ids.length <= 3 ? names.join(', ') : t.miners(x.miner_ids.length)}</div>
      </td>
      <td data-name={t.recorded}>
        <Utc at={x.recorded_at} />
        <div className="quiet small">
          {margin === 0 ? t.excuses.margin.at : margin > 0 ? t.excuses.margin.before(wholeDuration(Math.floor(margin), text)) : t.excuses.margin.after(wholeDuration(Math.ceil(-margin), text))}
        </div>
      </td>
      <td data-name={t.excuses.honoured}>
        {x.contracts.length === 0 && <span className="quiet">{t.excuses.noContract}</span>}
        <ul>
          {x.contracts.map((c) => (
            <li key={`${c.contract_id} ${c.version}`}>
              <span className={c.honoured ? 'verdict-met' : 'bad'}>
                <Mark shape={c.honoured ? 'ok' : 'faulty'} /> {c.honoured ? t.excuses.honouredYes : t.excuses.honouredNo}
              </span>{' '}
              <Link to={contractPath(c.contract_id)}>{c.name}</Link>
              {!c.honoured && (
                <div className="quiet small">
                  {t.excuses.why[c.why]?.(wholeDuration(c.term_s, text)) ?? c.why} ({t.excuses.recordBy(utcMoment(ms(c.record_by) ?? 0))})
                </div>
              )}
            </li>
          ))}
        </ul>
      </td>
      <td className="list-do">
        {onEnd && (phase === 'planned' || phase === 'running') && (
          <button type="button" className="button button-quiet" aria-label={t.excuses.endOf(`${kind} ${utcMoment(ms(x.from) ?? 0)}`)} onClick={onEnd}>
            {t.excuses.end}
          </button>
        )}
      </td>
    </tr>
  );
}
