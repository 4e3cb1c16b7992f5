// The fleet: filters above, the table, and the sums of what the filters leave.
import { useDeferredValue, useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import { minerStates, type MinerState } from '../api/types';
import { useFleet, useLink, useLive } from '../app/live';
import { useSites } from '../app/queries';
import { navigate, useSearch } from '../app/router';
import { efficiency, powerSum, rateSum } from '../format';
import { useText } from '../text/text';
import { Mark, Value } from '../ui/parts';
import { cutSites } from './columns';
import { FleetTable } from './fleet-table';
import { useSelection } from './use-selection';
import {
  columnIds, defaultColumns, formatView, narrowColumns, parseView, plainView, type ColumnId, type Selection, type View,
} from './view';

const narrow = '(max-width: 720px)';
const subscribeNarrow = (listener: () => void) => {
  const query = window.matchMedia(narrow);
  query.addEventListener('change', listener);
  return () => query.removeEventListener('change', listener);
};

export function FleetPage() {
  const t = useText();
  const store = useFleet();
  const link = useLink();
  if (!store.ready) {
    return (
      <div className="notice" role="status">
        {link.state === 'lost' ? t.fleet.loadError : t.fleet.waiting}
      </div>
    );
  }
  return <Fleet />;
}

function Fleet() {
  const { store, clock } = useLive();
  const search = useSearch();
  const view = useMemo(() => parseView(search), [search]);
  // Typing stays fluent: the table follows the search box, it does not hold it up.
  const deferred = useDeferredValue(view);
  const selection = useSelection(store, clock, deferred);
  const sites = useSites();
  const cut = useMemo(() => cutSites(sites.data?.items), [sites.data]);
  const isNarrow = useSyncExternalStore(subscribeNarrow, () => window.matchMedia(narrow).matches);
  const columns = view.columns ?? (isNarrow ? narrowColumns : defaultColumns);

  const change = (part: Partial<View>, how: 'push' | 'replace' = 'push') => {
    const next = { ...parseView(location.search), ...part };
    navigate(location.pathname + formatView(next), how);
  };
  return (
    <div className="fleet">
      <Filters view={view} change={change} columns={columns} selection={selection} />
      <FleetTable
        rows={selection.rows}
        store={store}
        columns={columns}
        narrow={isNarrow}
        sort={view.sort}
        desc={view.desc}
        cutSites={cut}
        onSort={(sort, desc) => change({ sort, desc })}
        total={store.size}
        onClear={() => navigate('/fleet')}
      />
      <Totals selection={selection} all={store.size} />
    </div>
  );
}

interface FiltersProps {
  view: View;
  change: (part: Partial<View>, how?: 'push' | 'replace') => void;
  columns: readonly ColumnId[];
  selection: Selection;
}

function Filters({ view, change, columns, selection }: FiltersProps) {
  const t = useText();
  const store = useFleet();
  const filtered = formatView({ ...view, sort: plainView.sort, desc: false, columns: null }) !== '';
  const toggle = (s: MinerState) =>
    change({ states: minerStates.filter((k) => (k === s) !== view.states.includes(k)) });
  return (
    <search className="filters">
      <h1 className="sr">{t.fleet.title}</h1>
      <SearchBox q={view.q} change={(q) => change({ q }, 'replace')} />
      <select
        className="select"
        aria-label={t.fleet.site}
        value={view.site}
        onChange={(e) => change({ site: e.target.value })}
      >
        <option value="">{t.fleet.allSites}</option>
        {store.sites.map((s) => (
          <option key={s.id} value={s.id}>
            {s.name}
          </option>
        ))}
      </select>
      <select
        className="select"
        aria-label={t.fleet.firmware}
        value={view.firmware}
        onChange={(e) => change({ firmware: e.target.value })}
      >
        <option value="">{t.fleet.allFirmwares}</option>
        {store.firmwares.map((f) => (
          <option key={f} value={f}>
            {f}
          </option>
        ))}
      </select>
      <select
        className="select"
        aria-label={t.fleet.age}
        value={view.age}
        onChange={(e) => change({ age: e.target.value as View['age'] })}
      >
        <option value="">{t.fleet.anyAge}</option>
        <option value="fresh">{t.fleet.fresh}</option>
        <option value="stale">{t.fleet.stale}</option>
      </select>
      <ColumnChoice columns={columns} chosen={view.columns !== null} change={change} />
      {filtered && (
        <button
          type="button"
          className="button button-quiet"
          onClick={() => change({ ...plainView, sort: view.sort, desc: view.desc, columns: view.columns })}
        >
          {t.fleet.clear}
        </button>
      )}
      <div className="chips" role="group" aria-label={t.fleet.states}>
        {minerStates.map((s) => (
          <button
            key={s}
            type="button"
            className={`chip chip-${s}`}
            aria-pressed={view.states.includes(s)}
            title={t.stateMeaning[s]}
            onClick={() => toggle(s)}
          >
            <Mark shape={s} /> {t.state[s]} <span className="chip-count">{selection.byState[s].toLocaleString('en')}</span>
          </button>
        ))}
      </div>
    </search>
  );
}

function SearchBox({ q, change }: { q: string; change: (q: string) => void }) {
  const t = useText();
  const [text, setText] = useState(q);
  const [seen, setSeen] = useState(q);
  // The back button and shared links change the address: the box follows it.
  if (q !== seen) {
    setSeen(q);
    setText(q);
  }
  useEffect(() => {
    if (text === q) return;
    const timer = setTimeout(() => change(text), 150);
    return () => clearTimeout(timer);
  }, [text, q, change]);
  return (
    <input
      type="search"
      className="input input-search"
      aria-label={t.fleet.search}
      placeholder={t.fleet.search}
      value={text}
      maxLength={200}
      spellCheck={false}
      onChange={(e) => setText(e.target.value)}
    />
  );
}

function ColumnChoice({
  columns,
  chosen,
  change,
}: {
  columns: readonly ColumnId[];
  chosen: boolean;
  change: FiltersProps['change'];
}) {
  const t = useText();
  return (
    <details className="columns-choice">
      <summary className="button button-quiet">{t.fleet.columns}</summary>
      <div className="columns-list" role="group" aria-label={t.fleet.columns}>
        {columnIds.map((c) => (
          <label key={c} className="check">
            <input
              type="checkbox"
              checked={columns.includes(c)}
              disabled={c === 'address' || c === 'age'}
              onChange={() => change({ columns: columnIds.filter((k) => (k === c) !== columns.includes(k)) }, 'replace')}
            />{' '}
            {t.fleet.column[c]}
          </label>
        ))}
        <button type="button" className="button" disabled={!chosen} onClick={() => change({ columns: null }, 'replace')}>
          {t.fleet.columnsReset}
        </button>
      </div>
    </details>
  );
}

function Totals({ selection, all }: { selection: Selection; all: number }) {
  const t = useText();
  const { totals } = selection;
  const each = totals.bothHashrate > 0 ? (totals.bothPower * 1e12) / totals.bothHashrate : null;
  return (
    <div className="totals" role="group" aria-label={t.fleet.total(totals.miners, all)}>
      <span className="totals-count">{t.fleet.total(totals.miners, all)}</span>
      {totals.stale > 0 && (
        <span className="totals-stale">
          <Mark shape="stale" /> {t.fleet.totalStale(totals.stale)}
        </span>
      )}
      <span className="totals-sum">
        <Value of={rateSum(totals.hashrateKnown > 0 ? totals.hashrate : null, t)} />{' '}
        <span className="quiet">{t.fleet.from(totals.hashrateKnown)}</span>
      </span>
      <span className="totals-sum">
        <Value of={powerSum(totals.powerKnown > 0 ? totals.power : null, t)} />{' '}
        <span className="quiet">{t.fleet.from(totals.powerKnown)}</span>
      </span>
      <span className="totals-sum">
        <Value of={efficiency(each, t)} />
      </span>
    </div>
  );
}
