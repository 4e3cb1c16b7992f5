// The slots of a contract: of all its miners on a day, or of one miner in a month, and why one is what it is. The address bar says which.
import { useMemo, useState } from 'react';
import type { ContractDetail } from '../api/types';
import { useClock } from '../app/live';
import { contractPath, Link, navigate, useSearch } from '../app/router';
import { DayChoice, MonthChoice, slotTime, useMinerName } from '../contracts/area';
import { useDaySlots, useMinerSlots } from '../contracts/queries';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';
import { dayMs, dayStart, monthOf, readMonth, slotMs, slotsPerDay, utcDay, utcTime } from '../utc';
import { formatPlace, parsePlace, type SlotsPlace } from './place';
import { SlotGrid, SlotLegend, slotText, type SlotRow } from './slot-grid';
import { notable, runs, slotOf, trouble, type SlotState } from './slots';
import { WhyPanel } from './why-panel';

/** A row, and whose it is. */
interface MinerSlots extends SlotRow {
  site: string;
  miner: string;
  name: string;
}

export default function SlotsView({ contract }: { contract: ContractDetail }) {
  const today = useClock((now) => utcDay(now));
  const place = parsePlace(useSearch(), today);
  const go = (next: Partial<SlotsPlace>, how: 'push' | 'replace' = 'replace') => navigate(`${contractPath(contract.id, 'slots')}${formatPlace({ ...place, ...next })}`, how);
  return place.miner === null ? <DayMap contract={contract} place={place} go={go} /> : <MonthMap contract={contract} place={place} go={go} site={place.miner.site} miner={place.miner.id} />;
}

interface MapProps {
  contract: ContractDetail;
  place: SlotsPlace;
  go: (next: Partial<SlotsPlace>, how?: 'push' | 'replace') => void;
}

function DayMap({ contract, place, go }: MapProps) {
  const t = useContractText();
  const text = useText();
  const minerName = useMinerName();
  const list = useDaySlots(contract.id, place.day);
  const [sort, setSort] = useState<'trouble' | 'name'>('trouble');
  const [only, setOnly] = useState(false);
  const start = dayStart(place.day) ?? 0;
  const items = list.data?.items;
  const rows = useMemo(() => {
    const all = (items ?? []).map((m): MinerSlots & { trouble: number } => {
      const name = minerName(m);
      return { id: `${m.site_id} ${m.miner_id}`, site: m.site_id, miner: m.miner_id, name, label: name, states: m.states, dayMs: start, trouble: trouble(m.states) };
    });
    const byName = (a: MinerSlots, b: MinerSlots) => a.name.localeCompare(b.name, 'en', { numeric: true });
    all.sort((a, b) => (sort === 'trouble' ? b.trouble - a.trouble : 0) || byName(a, b));
    return only ? all.filter((r) => r.trouble > 0) : all;
    // eslint-disable-next-line react-hooks/exhaustive-deps -- names follow the fleet, which changes every second; those of the last loading do
  }, [items, sort, only, start]);
  const chosen = place.why === null ? null : { row: `${place.why.site} ${place.why.miner}`, slot: slotOf(place.why.atMs, start) };
  return (
    <Map
      label={t.slots.allMiners}
      rowName={t.miner}
      rows={rows}
      chosen={chosen}
      contract={contract}
      place={place}
      go={go}
      loading={list.isPending}
      error={list.error}
      retry={() => void list.refetch()}
      empty={(items?.length ?? 0) > 0 ? t.slots.noTrouble : t.slots.none}
      head={
        <>
          <DayChoice day={place.day} onChange={(day) => go({ day, why: null })} />
          <label className="field-inline">
            {t.slots.sort}{' '}
            <select className="select" value={sort} onChange={(e) => setSort(e.target.value === 'name' ? 'name' : 'trouble')}>
              <option value="trouble">{t.slots.sorts.trouble}</option>
              <option value="name">{t.slots.sorts.name}</option>
            </select>
          </label>
          <label className="check">
            <input type="checkbox" checked={only} onChange={(e) => setOnly(e.target.checked)} /> {t.slots.onlyTrouble}
          </label>
          <span className="quiet" role="status">
            {list.isPending ? text.loading : t.slots.loaded(rows.length)}
          </span>
        </>
      }
    />
  );
}

function MonthMap({ contract, place, go, site, miner }: MapProps & { site: string; miner: string }) {
  const t = useContractText();
  const name = useMinerName()({ miner_id: miner });
  const month = readMonth(monthOf(dayStart(place.day) ?? 0)) ?? { name: '', fromMs: 0, toMs: 0, days: 0 };
  const list = useMinerSlots(contract.id, site, miner, { name: month.name, first: utcDay(month.fromMs), last: utcDay(month.toMs - dayMs) }, month.days > 0);
  const rows = (list.data?.items ?? []).map((d): MinerSlots => ({ id: d.day, site, miner, name, label: d.day, states: d.states, dayMs: dayStart(d.day) ?? 0 }));
  const why = place.why?.miner === miner && place.why.site === site ? place.why : null;
  const chosen = why === null ? null : { row: utcDay(why.atMs), slot: slotOf(why.atMs, dayStart(utcDay(why.atMs)) ?? 0) };
  return (
    <Map
      label={t.slots.oneMiner(name)}
      rowName={t.slots.day}
      rows={rows}
      chosen={chosen}
      contract={contract}
      place={place}
      go={go}
      loading={list.isPending}
      error={list.error}
      retry={() => void list.refetch()}
      empty={t.slots.none}
      head={
        <>
          <Link to={`${contractPath(contract.id, 'slots')}${formatPlace({ ...place, miner: null, why: null })}`}>‹ {t.slots.back}</Link>
          <MonthChoice month={month.name} onChange={(m) => go({ day: `${m}-01`, why: null })} /> <span className="quiet small">{t.slots.onlyDays}</span>
        </>
      }
    />
  );
}

interface SharedProps extends MapProps {
  label: string;
  rowName: string;
  rows: readonly MinerSlots[];
  chosen: { row: string; slot: number } | null;
  loading: boolean;
  error: unknown;
  retry: () => void;
  empty: string;
  head: React.ReactNode;
}

function Map({ label, rowName, rows, chosen, contract, place, go, loading, error, retry, empty, head }: SharedProps) {
  const t = useContractText();
  const text = useText();
  const minerName = useMinerName();
  const [asTable, setAsTable] = useState(false);
  const present = useMemo(() => {
    const seen = new Set<SlotState>();
    for (const r of rows) for (const run of runs(r.states)) seen.add(run.state);
    return seen;
  }, [rows]);
  const ask = (r: SlotRow, slot: number) => {
    const row = rows.find((x) => x.id === r.id);
    if (row) go({ why: { site: row.site, miner: row.miner, atMs: row.dayMs + slot * slotMs } });
  };
  const why = place.why;
  const whyRow = why === null ? undefined : rows.find((r) => r.site === why.site && r.miner === why.miner);
  return (
    <>
      <section className="panel slots-panel" aria-label={label}>
        <div className="panel-head">
          <h2>{label}</h2>
          {rows.length > 0 && (
            <button type="button" className="button button-quiet page-do" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
              {asTable ? t.slots.asMap : t.slots.asTable}
            </button>
          )}
        </div>
        <div className="contract-filter">{head}</div>
        {error !== null && <Problem title={t.slots.loadError} error={error} onRetry={retry} />}
        {loading && <p className="quiet">{text.loading}</p>}
        {!loading && error === null && rows.length === 0 && <p className="quiet">{empty}</p>}
        {rows.length > 0 && (
          <>
            <SlotLegend present={present} />
            {asTable ? <SlotTable rows={rows} rowName={rowName} onWhy={ask} /> : <SlotGrid label={label} rowName={rowName} rows={rows} chosen={chosen} onChoose={ask} />}
          </>
        )}
        <p className="quiet small">{t.utcNote}</p>
      </section>
      {why !== null && (
        <WhyPanel
          key={`${why.site} ${why.miner} ${why.atMs}`}
          contract={contract.id}
          site={why.site}
          miner={why.miner}
          name={whyRow?.name ?? minerName({ miner_id: why.miner })}
          atMs={why.atMs}
          month={place.miner === null}
          onMonth={() => go({ miner: { site: why.site, id: why.miner }, day: utcDay(why.atMs) }, 'push')}
          onClose={() => go({ why: null })}
        />
      )}
    </>
  );
}

/** Rows of the table at most. */
const tableRows = 400;

/** The same in words: every stretch that is not plainly up. */
function SlotTable({ rows, rowName, onWhy }: { rows: readonly MinerSlots[]; rowName: string; onWhy: (row: SlotRow, slot: number) => void }) {
  const t = useContractText();
  const all = rows.flatMap((row) => notable(row.states).map((run) => ({ row, run })));
  return (
    <>
      <p className="quiet small">{all.length === 0 ? t.slots.noTrouble : t.slots.tableLead}</p>
      {all.length > 0 && (
        <table className="list">
          <thead>
            <tr>
              <th scope="col">{rowName}</th>
              <th scope="col">{t.slots.stretch}</th>
              <th scope="col">{t.slots.stateHead}</th>
              <th scope="col" className="numeric">
                {t.slots.length}
              </th>
              <th scope="col">
                <span className="sr">{t.actions}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {all.slice(0, tableRows).map(({ row, run }) => {
              const from = row.dayMs + run.from * slotMs;
              return (
                <tr key={`${row.id} ${run.from}`}>
                  <td>{row.label}</td>
                  <td data-name={t.slots.stretch}>
                    {utcTime(from)} – {run.to === slotsPerDay ? '24:00' : utcTime(row.dayMs + run.to * slotMs)}
                  </td>
                  <td data-name={t.slots.stateHead}>{t.slots.state[run.state]}</td>
                  <td data-name={t.slots.length} className="numeric">
                    {slotTime(run.to - run.from, t)}
                  </td>
                  <td className="list-do">
                    <button type="button" className="button button-quiet" aria-label={t.slots.whyOf(`${row.label} ${slotText(row, run.from, t)}`)} onClick={() => onWhy(row, run.from)}>
                      {t.why.title}
                    </button>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
      {all.length > tableRows && <p className="quiet">{t.slots.tableMore(all.length - tableRows)}</p>}
    </>
  );
}
