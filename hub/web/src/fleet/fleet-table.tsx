// The fleet as a grid of which only the visible rows are in the document. The grid is one stop of the
// keyboard: arrows move an active row, Enter opens it.
import { memo, useEffect, useId, useMemo, useRef, useState, type KeyboardEvent, type MouseEvent } from 'react';
import { useTable, type Cell } from '@tanstack/react-table';
import { defaultRangeExtractor, useVirtualizer, type Range } from '@tanstack/react-virtual';
import { useStale } from '../app/live';
import { minerPath, navigate } from '../app/router';
import { useText } from '../text/text';
import { Mark } from '../ui/parts';
import { columns as definitions, features, layout } from './columns';
import type { MinerRow } from './row';
import type { FleetStore } from './store';
import { columnIds, type ColumnId } from './view';

const rowHeight = 34; // px, the same as --row in fleet.css
const overscan = 6;
/** Rows in the document at most, spacers and header not counted, however tall the screen. */
const maxRows = 56;

const visibleRange = (range: Range) => defaultRangeExtractor(range).slice(0, maxRows);

interface Props {
  rows: readonly MinerRow[];
  store: FleetStore;
  columns: readonly ColumnId[];
  narrow: boolean;
  sort: ColumnId;
  desc: boolean;
  cutSites: ReadonlySet<string>;
  total: number;
  onSort: (column: ColumnId, desc: boolean) => void;
  onClear: () => void;
}

export function FleetTable({ rows, store, columns, narrow, sort, desc, cutSites, total, onSort, onClear }: Props) {
  const t = useText();
  const gridId = useId();
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<string | null>(null);

  // eslint-disable-next-line react-hooks/incompatible-library -- nothing here is memoised over its functions
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan,
    rangeExtractor: visibleRange,
  });
  const items = virtual.getVirtualItems();
  const first = items[0]?.index ?? 0;
  const last = items.at(-1)?.index ?? -1;

  // The order is of the last selection, the values are of now.
  const data = rows.slice(first, last + 1).map((r) => store.get(r.id) ?? r);
  const visibility = useMemo(
    () => Object.fromEntries(columnIds.map((c) => [c, columns.includes(c)])),
    [columns],
  );
  const table = useTable({
    features,
    columns: definitions,
    data,
    getRowId: (row) => row.id,
    // Sorting is done once for the whole fleet, in view.ts; the table sees only what is in sight.
    manualSorting: true,
    enableSortingRemoval: false,
    state: { sorting: [{ id: sort, desc }], columnVisibility: visibility },
    onSortingChange: (update) => {
      const next = typeof update === 'function' ? update([{ id: sort, desc }]) : update;
      const by = next[0];
      if (by) onSort(by.id as ColumnId, by.desc);
    },
  });

  // A new order or filter begins at its top.
  const order = `${sort} ${desc}`;
  useEffect(() => {
    scroller.current?.scrollTo({ top: 0 });
  }, [order]);

  const open = (id: string) => navigate(minerPath(id));
  const activeIndex = active === null ? -1 : rows.findIndex((r) => r.id === active);
  const activeShown = activeIndex >= first && activeIndex <= last;
  const move = (to: number) => {
    const index = Math.max(0, Math.min(rows.length - 1, to));
    const row = rows[index];
    if (!row) return;
    setActive(row.id);
    virtual.scrollToIndex(index);
  };
  const onKeyDown = (e: KeyboardEvent<HTMLDivElement>) => {
    if (e.target !== e.currentTarget || e.altKey || e.ctrlKey || e.metaKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / rowHeight) - 2);
    const from = activeIndex < 0 ? first - 1 : activeIndex;
    switch (e.key) {
      case 'ArrowDown': move(from + 1); break;
      case 'ArrowUp': move(activeIndex < 0 ? first : from - 1); break;
      case 'PageDown': move(from + page); break;
      case 'PageUp': move(from - page); break;
      case 'Home': move(0); break;
      case 'End': move(rows.length - 1); break;
      case 'Enter':
        if (active === null || activeIndex < 0) return;
        open(active);
        break;
      default: return;
    }
    e.preventDefault();
  };

  const widthOf = (c: ColumnId) => (narrow ? layout[c].narrow : undefined) ?? layout[c].width;
  const width = columns.reduce((sum, c) => sum + widthOf(c), 0);
  const above = first * rowHeight;
  const below = Math.max(0, (rows.length - last - 1) * rowHeight);
  const rowId = (index: number) => `${gridId}-${index}`;

  return (
    <div
      ref={scroller}
      className="grid-scroller"
      role="grid"
      tabIndex={0}
      aria-label={t.fleet.gridLabel}
      aria-rowcount={rows.length + 1}
      aria-colcount={columns.length}
      aria-activedescendant={activeShown ? rowId(activeIndex) : undefined}
      onKeyDown={onKeyDown}
    >
      <table className="grid" role="presentation" style={{ minWidth: width }}>
        <colgroup>
          {columns.map((c) => (
            <col key={c} style={{ width: widthOf(c) }} />
          ))}
        </colgroup>
        {/* The presentation role above takes the parts' own roles with it. */}
        {/* eslint-disable-next-line jsx-a11y/no-redundant-roles */}
        <thead role="rowgroup">
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} role="row" aria-rowindex={1}>
              {group.headers.map((header, i) => {
                const id = header.column.id as ColumnId;
                const sorted = header.column.getIsSorted();
                return (
                  <th
                    key={header.id}
                    role="columnheader"
                    scope="col"
                    aria-colindex={i + 1}
                    aria-sort={sorted === 'asc' ? 'ascending' : sorted === 'desc' ? 'descending' : 'none'}
                    className={layout[id].numeric ? 'numeric' : undefined}
                  >
                    <button type="button" className="sort" onClick={header.column.getToggleSortingHandler()}>
                      {t.fleet.column[id]}
                      <span className="sort-mark" aria-hidden="true">
                        {sorted === 'asc' ? '▲' : sorted === 'desc' ? '▼' : ''}
                      </span>
                    </button>
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        {/* eslint-disable-next-line jsx-a11y/no-redundant-roles */}
        <tbody role="rowgroup">
          {above > 0 && <Spacer height={above} columns={columns.length} />}
          {table.getRowModel().rows.map((row, i) => {
            const miner = row.original;
            const index = first + i;
            return (
              <Row
                key={miner.id}
                domId={rowId(index)}
                miner={miner}
                index={index}
                active={miner.id === active}
                cut={cutSites.has(store.sites[miner.site]?.id ?? '')}
                columns={columns}
                cells={row.getVisibleCells()}
                onOpen={open}
                onActive={setActive}
              />
            );
          })}
          {below > 0 && <Spacer height={below} columns={columns.length} />}
        </tbody>
      </table>
      {rows.length === 0 && (
        <div className="grid-empty">
          <p>{total === 0 ? t.fleet.noMiners : t.fleet.empty}</p>
          {total > 0 && (
            <button type="button" className="button" onClick={onClear}>
              {t.fleet.clear}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Stands for the rows that are not in the document. */
function Spacer({ height, columns }: { height: number; columns: number }) {
  return (
    <tr aria-hidden="true" className="spacer">
      <td colSpan={columns} style={{ height }} />
    </tr>
  );
}

interface RowProps {
  domId: string;
  miner: MinerRow;
  index: number;
  active: boolean;
  cut: boolean;
  columns: readonly ColumnId[];
  cells: Cell<typeof features, MinerRow, unknown>[];
  onOpen: (id: string) => void;
  onActive: (id: string) => void;
}

// The table makes new cell objects at every update; a row is drawn again only when what it shows changed.
const Row = memo(MinerTableRow, (a, b) =>
  a.miner === b.miner && a.index === b.index && a.active === b.active && a.cut === b.cut && a.columns === b.columns,
);

function MinerTableRow({ domId, miner, index, active, cut, cells, onOpen, onActive }: RowProps) {
  const t = useText();
  const stale = useStale(miner.atMs, miner.pollInterval);
  const click = (e: MouseEvent<HTMLTableRowElement>) => {
    // A link in the row knows itself what to do; selecting text is not opening.
    if (e.defaultPrevented || (e.target as Element).closest('a') || window.getSelection()?.type === 'Range') return;
    onActive(miner.id);
    onOpen(miner.id);
  };
  return (
    // The keyboard reaches rows through the grid's active descendant, not through each of them.
    <tr
      id={domId}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={active}
      data-at={miner.atMs ?? undefined}
      className={`row${stale ? ' row-stale' : ''}${index % 2 === 1 ? ' row-odd' : ''}`}
      onClick={click}
    >
      {cells.map((cell, i) => {
        const id = cell.column.id as ColumnId;
        return (
          <td key={cell.id} role="gridcell" aria-colindex={i + 1} className={layout[id].numeric ? 'numeric' : undefined}>
            {id === 'site' && cut && (
              <span className="cut" title={t.fleet.cutSite}>
                <Mark shape="cut" />
                <span className="sr">{t.fleet.cutSite} </span>
              </span>
            )}
            <CellContent cell={cell} />
          </td>
        );
      })}
    </tr>
  );
}

function CellContent({ cell }: { cell: Cell<typeof features, MinerRow, unknown> }) {
  const render = cell.column.columnDef.cell;
  return typeof render === 'function' ? render(cell.getContext()) : null;
}
