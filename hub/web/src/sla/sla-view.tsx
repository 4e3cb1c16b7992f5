// What a contract's month has come to: availability against the target, what may still be missed, counts, credit, and whether it is final.
import { useState, type ReactNode } from 'react';
import type { ContractDetail, Sla, SlotCounts } from '../api/types';
import { useClock } from '../app/live';
import { contractPath, Link, navigate, statementPath, useSearch } from '../app/router';
import { Chart } from '../chart/chart';
import { boundText, bpText, moneyText, ppmText } from '../contracts/amounts';
import { MonthChoice, slotTime, useMinerName, useSiteName, Utc } from '../contracts/area';
import { useSla, useSlaMiners } from '../contracts/queries';
import { decimal } from '../format';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Mark, Problem } from '../ui/parts';
import { monthOf, readMonth } from '../utc';
import { burnDown } from './burn-down';
import { Sample } from './slot-grid';
import { letters, type SlotState } from './slots';
import { Verdict } from './verdict';

export default function SlaView({ contract }: { contract: ContractDetail }) {
  const t = useContractText();
  const text = useText();
  const search = new URLSearchParams(useSearch());
  const today = useClock((now) => monthOf(now));
  const asked = search.get('month') ?? '';
  const month = readMonth(asked) === null ? today : asked;
  const sla = useSla(contract.id, month);
  return (
    <>
      <div className="contract-filter">
        <MonthChoice month={month} onChange={(m) => navigate(`${contractPath(contract.id)}?month=${m}`, 'replace')} />
      </div>
      {sla.isPending && <p className="quiet">{text.loading}</p>}
      {sla.error && <Problem title={t.sla.loadError} error={sla.error} onRetry={() => void sla.refetch()} />}
      {sla.data && <MonthOf sla={sla.data} contract={contract} />}
    </>
  );
}

function MonthOf({ sla, contract }: { sla: Sla; contract: ContractDetail }) {
  const t = useContractText();
  const closed = sla.state === 'closed';
  const left = sla.allowance - sla.missed;
  const any = sla.due > 0 || sla.slots.curtailment + sla.slots.maintenance + sla.slots.unknown_open > 0;
  return (
    <>
      <Standing sla={sla} />
      <section className="figures" aria-label={t.sla.month}>
        <Figure label={closed ? t.sla.availabilityClosed : t.sla.availability}>
          {sla.availability_ppm === undefined ? (
            <>
              <span className="figure-value none">—</span>
              <span className="figure-note quiet small">{t.sla.unsure}</span>
            </>
          ) : (
            <>
              <span className="figure-value">{ppmText(sla.availability_ppm)}</span>
              <span className="figure-note small">
                <Verdict met={sla.met} /> <span className="quiet">{t.sla.floor}</span>
              </span>
            </>
          )}
        </Figure>
        <Figure label={t.sla.target}>
          <span className="figure-value">{boundText(sla.target_ppm)}</span>
          <span className="figure-note quiet small">{t.terms.metrics[sla.metric] ?? sla.metric}</span>
        </Figure>
        <Figure label={t.sla.allowance}>
          <span className={left < 0 ? 'figure-value bad' : 'figure-value'}>{left < 0 ? t.sla.over(slotTime(left, t)) : slotTime(left, t)}</span>
          <span className="figure-note quiet small">
            {t.slotCount(left)} · {t.sla.allowanceOf(slotTime(sla.allowance, t))}
          </span>
        </Figure>
        <Figure label={closed ? t.sla.creditClosed : t.sla.credit}>
          <span className="figure-value">{sla.credit.bp === 0 ? t.sla.noCredit : bpText(sla.credit.bp)}</span>
          <span className="figure-note quiet small">
            {[sla.credit.minor > 0 && sla.credit.currency ? moneyText(sla.credit.minor, sla.credit.currency) : '', sla.credit.below_ppm === undefined ? '' : t.sla.creditTier(boundText(sla.credit.below_ppm))]
              .filter(Boolean)
              .join(' · ')}
          </span>
        </Figure>
      </section>
      {any ? (
        <>
          <BurnDownChart sla={sla} />
          <Counts sla={sla} />
          <ByMiner contract={contract} month={sla.month} />
        </>
      ) : (
        <p className="notice">{t.sla.nothing}</p>
      )}
    </>
  );
}

function Standing({ sla }: { sla: Sla }) {
  const t = useContractText();
  return (
    <section className="panel standing" aria-label={t.sla.state[sla.state] ?? sla.state}>
      <p>
        <span className={`badge badge-${sla.state === 'closed' ? 'good' : 'warn'}`}>
          <Mark shape={sla.state === 'closed' ? 'ok' : 'stale'} /> {t.sla.state[sla.state] ?? sla.state}
        </span>{' '}
        {t.sla.stateHelp[sla.state]}
      </p>
      {sla.waiting_for.length > 0 && (
        <div>
          <p className="quiet">{t.sla.waiting}:</p>
          <ul className="effects">
            {sla.waiting_for.map((w) => (
              <li key={w}>{w}</li>
            ))}
          </ul>
        </div>
      )}
      {sla.statement && (
        <p>
          <Link to={statementPath(sla.statement)}>{t.sla.statement}</Link>
        </p>
      )}
      <p className="quiet small">
        {t.utcNote} <Utc at={sla.computed_at} />
      </p>
    </section>
  );
}

function Figure({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div className="figure sla-figure">
      <span className="figure-label quiet">{label}</span>
      {children}
    </div>
  );
}

function BurnDownChart({ sla }: { sla: Sla }) {
  const t = useContractText();
  const data = burnDown(sla);
  if (data === null) return <p className="quiet">{t.sla.noBurnDown}</p>;
  return (
    <div>
      <Chart
        title={t.sla.burnDown}
        unit={t.sla.unit}
        grid={data}
        stretches={[]}
        lines={[
          { name: t.sla.left, values: data.left },
          { name: t.sla.even, values: data.even, guide: true },
        ]}
        format={(v) => `${decimal(v, 0)} ${t.sla.unit}`}
        days
      />
      <p className="quiet small chart-note">{t.sla.burnDownHelp}</p>
    </div>
  );
}

const counted = [
  ['up', 'up'],
  ['degraded', 'degraded'],
  ['down', 'down'],
  ['unknownDown', 'unknown_down'],
  ['unknownExcused', 'unknown_excused'],
  ['open', 'unknown_open'],
  ['curtailment', 'curtailment'],
  ['maintenance', 'maintenance'],
] as const satisfies readonly (readonly [SlotState, keyof SlotCounts])[];

function Counts({ sla }: { sla: Sla }) {
  const t = useContractText();
  const all = counted.reduce((sum, [, k]) => sum + sla.slots[k], 0);
  return (
    <section className="panel" aria-label={t.sla.counts}>
      <h2>{t.sla.counts}</h2>
      <p className="quiet small">{t.sla.countsHelp}</p>
      <table className="list counts">
        <thead>
          <tr>
            <th scope="col">{t.sla.countState}</th>
            <th scope="col" className="numeric">
              {t.sla.countSlots}
            </th>
            <th scope="col" className="numeric">
              {t.sla.countTime}
            </th>
            <th scope="col" aria-hidden="true" className="counts-bar" />
          </tr>
        </thead>
        <tbody>
          {counted
            .filter(([, k]) => sla.slots[k] > 0)
            .map(([state, k]) => (
              <tr key={k}>
                <td title={t.slots.meaning[state]}>
                  <Sample letter={letters[state]} /> {t.slots.state[state]}
                </td>
                <td data-name={t.sla.countSlots} className="numeric">
                  {decimal(sla.slots[k], 0)}
                </td>
                <td data-name={t.sla.countTime} className="numeric">
                  {slotTime(sla.slots[k], t)}
                </td>
                <td aria-hidden="true" className="counts-bar">
                  <span className="bar" style={{ width: `${(100 * sla.slots[k]) / all}%` }} />
                </td>
              </tr>
            ))}
          <tr className="counts-sum">
            <td>{t.sla.due}</td>
            <td data-name={t.sla.countSlots} className="numeric">
              {decimal(sla.due, 0)}
            </td>
            <td data-name={t.sla.countTime} className="numeric">
              {slotTime(sla.due, t)}
            </td>
            <td aria-hidden="true" className="counts-bar" />
          </tr>
        </tbody>
      </table>
    </section>
  );
}

function ByMiner({ contract, month }: { contract: ContractDetail; month: string }) {
  const t = useContractText();
  const [shown, show] = useState(false);
  return (
    <section className="panel" aria-label={t.sla.miners}>
      <div className="panel-head">
        <h2>{t.sla.miners}</h2>
        {!shown && (
          <button type="button" className="button page-do" onClick={() => show(true)}>
            {t.sla.show}
          </button>
        )}
      </div>
      {shown && <MinerRows contract={contract} month={month} />}
    </section>
  );
}

function MinerRows({ contract, month }: { contract: ContractDetail; month: string }) {
  const t = useContractText();
  const text = useText();
  const list = useSlaMiners(contract.id, month);
  const minerName = useMinerName();
  const siteName = useSiteName(contract.sites);
  if (list.isPending) return <p className="quiet">{text.loading}</p>;
  if (!list.data) return <Problem title={t.sla.minersLoadError} error={list.error} onRetry={() => void list.refetch()} />;
  const rows = list.data.pages.flatMap((p) => p.items);
  return (
    <>
      <p className="quiet small">{t.sla.minersHelp}</p>
      <table className="list">
        <thead>
          <tr>
            <th scope="col">{t.miner}</th>
            <th scope="col">{t.site}</th>
            <th scope="col" className="numeric">
              {t.sla.availabilityClosed}
            </th>
            <th scope="col" className="numeric">
              {t.slots.state.up}
            </th>
            <th scope="col" className="numeric">
              {t.sla.notUp}
            </th>
            <th scope="col" className="numeric">
              {t.sla.excused}
            </th>
            <th scope="col" className="numeric">
              {t.sla.openSlots}
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((m) => (
            <tr key={`${m.site_id} ${m.miner_id}`}>
              <td>
                <Link to={`${contractPath(contract.id, 'slots')}?month=${month}&site=${encodeURIComponent(m.site_id)}&miner=${encodeURIComponent(m.miner_id)}`}>{minerName(m)}</Link>
              </td>
              <td data-name={t.site}>{siteName(m.site_id)}</td>
              <td data-name={t.sla.availabilityClosed} className="numeric">
                {m.availability_ppm === undefined ? text.none : ppmText(m.availability_ppm)}
              </td>
              <td data-name={t.slots.state.up} className="numeric">
                {decimal(m.slots.up, 0)}
              </td>
              <td data-name={t.sla.notUp} className="numeric">
                {decimal(m.slots.degraded + m.slots.down + m.slots.unknown_down, 0)}
              </td>
              <td data-name={t.sla.excused} className="numeric">
                {decimal(m.slots.curtailment + m.slots.maintenance + m.slots.unknown_excused, 0)}
              </td>
              <td data-name={t.sla.openSlots} className="numeric">
                {decimal(m.slots.unknown_open, 0)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {list.hasNextPage && (
        <button type="button" className="button" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
          {list.isFetchingNextPage ? text.loading : t.more}
        </button>
      )}
    </>
  );
}
