// What each column of the fleet table shows.
import { columnVisibilityFeature, createColumnHelper, rowSortingFeature, tableFeatures } from '@tanstack/react-table';
import type { ReactNode } from 'react';
import type { Site } from '../api/types';
import { useLive, useAge } from '../app/live';
import { Link, minerPath } from '../app/router';
import { count, duration, efficiency, percent, power, rate, rpm, temperature } from '../format';
import type { Messages } from '../text/en';
import { useText } from '../text/text';
import { Age, Mark, StateLabel, TextOr, Value } from '../ui/parts';
import type { MinerRow } from './row';
import { columnIds, efficiencyOf, ratioOf, rejectedOf, type ColumnId } from './view';

export const features = tableFeatures({ columnVisibilityFeature, rowSortingFeature });
const helper = createColumnHelper<typeof features, MinerRow>();

/** Width in px, that on a narrow screen where it differs, and whether the column holds numbers, which are
 * set flush right and sort from the top. */
export const layout: Record<ColumnId, { width: number; narrow?: number; numeric: boolean }> = {
  address: { width: 174, narrow: 112, numeric: false },
  site: { width: 132, numeric: false },
  state: { width: 212, narrow: 106, numeric: false },
  age: { width: 132, narrow: 76, numeric: false },
  hashrate: { width: 106, narrow: 94, numeric: true },
  ratio: { width: 92, numeric: true },
  hashrateAvg: { width: 116, numeric: true },
  tempChip: { width: 88, numeric: true },
  tempBoard: { width: 94, numeric: true },
  power: { width: 92, numeric: true },
  efficiency: { width: 106, numeric: true },
  fanMax: { width: 102, numeric: true },
  model: { width: 168, numeric: false },
  firmware: { width: 118, numeric: false },
  worker: { width: 176, numeric: false },
  uptime: { width: 92, numeric: true },
  accepted: { width: 96, numeric: true },
  rejected: { width: 86, numeric: true },
  hwErrors: { width: 92, numeric: true },
};

interface CellProps {
  row: MinerRow;
  t: Messages;
}

const cells: Record<ColumnId, (props: CellProps) => ReactNode> = {
  address: AddressCell,
  site: SiteCell,
  state: StateCell,
  age: ({ row }) => <Age atMs={row.atMs} pollIntervalS={row.pollInterval} />,
  hashrate: ({ row, t }) => <Value of={rate(row.hashrate, t)} />,
  ratio: RatioCell,
  hashrateAvg: ({ row, t }) => <Value of={rate(row.hashrateAvg, t)} />,
  tempChip: ({ row, t }) => <Value of={temperature(row.tempChip, t)} />,
  tempBoard: ({ row, t }) => <Value of={temperature(row.tempBoard, t)} />,
  power: ({ row, t }) => <Value of={power(row.power, t)} />,
  efficiency: ({ row, t }) => <Value of={efficiency(efficiencyOf(row), t)} />,
  fanMax: ({ row, t }) => <Value of={rpm(row.fanMax, t)} />,
  model: ({ row }) => <TextOr value={row.model} />,
  firmware: ({ row }) => <TextOr value={row.firmware} />,
  worker: ({ row }) => <TextOr value={row.worker} />,
  uptime: UptimeCell,
  accepted: ({ row }) => <Value of={count(row.accepted)} />,
  rejected: ({ row, t }) => <Value of={percent(rejectedOf(row), 2, t)} />,
  hwErrors: ({ row }) => <Value of={count(row.hwErrors)} />,
};

function AddressCell({ row }: CellProps) {
  const host = row.address.replace(/:4028$/, '');
  return (
    // The grid itself takes the keyboard; a tab stop per row would be ten thousand of them.
    <Link to={minerPath(row.id)} tabIndex={-1} className="cell-link">
      {host || row.id}
      {/* The port that nearly all miners use, left out where there is little room. */}
      {host !== row.address && <span className="usual-port">:4028</span>}
    </Link>
  );
}

function SiteCell({ row }: CellProps) {
  const { store } = useLive();
  return <TextOr value={store.siteName(row.site)} />;
}

function UptimeCell({ row, t }: CellProps) {
  return row.uptime === null ? <Value of={null} /> : <>{duration(row.uptime, t)}</>;
}

function RatioCell({ row, t }: CellProps) {
  const ratio = ratioOf(row);
  if (ratio === null) return <Value of={null} />;
  // A miner that sleeps or starts is below its nominal rate for a reason that its state gives.
  const low = ratio < 0.8 && (row.state === 'hashing' || row.state === 'degraded');
  return (
    <span className={low ? 'low' : undefined}>
      {low && <Mark shape="warn" />} <Value of={percent(ratio, 0, t)} />
    </span>
  );
}

/** The state, and for a miner without an answer why, and when it last gave one. */
function StateCell({ row, t }: CellProps) {
  const answered = useAge(row.answeredMs);
  const failed = row.outcome !== 'ok' && row.outcome !== '';
  const why = failed ? (t.outcome[row.outcome] ?? row.outcome) : '';
  const last = answered === null ? t.fleet.neverAnswered : t.fleet.lastAnswer(answered);
  return (
    <span className="cell-state" title={failed ? `${why}, ${last}` : undefined}>
      <StateLabel state={row.state} />
      {failed && <span className="quiet cell-why"> {why}</span>}
      {failed && row.outcome !== 'partial' && <span className="sr">, {last}</span>}
    </span>
  );
}

function FleetCell({ id, row }: { id: ColumnId; row: MinerRow }) {
  const t = useText();
  const Cell = cells[id];
  return <Cell row={row} t={t} />;
}

export const columns = helper.columns(
  columnIds.map((id) => {
    // The value is of no matter, because the table does not sort; without one it offers no sorting.
    return helper.accessor((row) => row.id, {
      id,
      enableSorting: true,
      sortDescFirst: layout[id].numeric,
      cell: ({ row }) => <FleetCell id={id} row={row.original} />,
    });
  }),
);

/** Whether a site's link is known to be cut, so that its miners' silence is not taken for their own. */
export function cutSites(sites: readonly Site[] | null | undefined): ReadonlySet<string> {
  return new Set((sites ?? []).filter((s) => !s.connected).map((s) => s.id));
}
