// What the operator asked to see of the fleet: filters, sort and columns, their form in the address
// bar, and the pure functions that apply them.
import { minerStates, type MinerState } from '../api/types';
import { isStale, type MinerRow } from './row';

export const columnIds = [
  'address', 'site', 'state', 'age', 'hashrate', 'ratio', 'hashrateAvg', 'tempChip', 'tempBoard', 'power', 'efficiency',
  'fanMax', 'model', 'firmware', 'worker', 'uptime', 'accepted', 'rejected', 'hwErrors',
] as const;
export type ColumnId = (typeof columnIds)[number];

/** Columns shown unless the address bar says otherwise. */
export const defaultColumns: readonly ColumnId[] = [
  'address', 'site', 'state', 'age', 'hashrate', 'ratio', 'tempChip', 'tempBoard', 'power', 'efficiency', 'fanMax',
  'model', 'firmware', 'worker', 'uptime', 'rejected',
];
/** The same on a narrow screen. */
export const narrowColumns: readonly ColumnId[] = ['address', 'state', 'age', 'hashrate', 'tempChip', 'power', 'model'];

export interface View {
  q: string;
  site: string; // id, '' for all
  states: readonly MinerState[]; // empty for all
  firmware: string; // '' for all
  age: '' | 'stale' | 'fresh';
  sort: ColumnId;
  desc: boolean;
  columns: readonly ColumnId[] | null; // null for the screen's default
}

export const plainView: View = {
  q: '', site: '', states: [], firmware: '', age: '', sort: 'address', desc: false, columns: null,
};

const isColumn = (s: string): s is ColumnId => (columnIds as readonly string[]).includes(s);
const isState = (s: string): s is MinerState => (minerStates as readonly string[]).includes(s);

/** Reads a view from the address bar; what it does not understand is as if it were not there. */
export function parseView(search: string): View {
  const p = new URLSearchParams(search);
  const sort = p.get('sort') ?? '';
  const desc = sort.startsWith('-');
  const column = desc ? sort.slice(1) : sort;
  const age = p.get('age');
  const columns = (p.get('cols') ?? '').split(',').filter(isColumn);
  return {
    q: (p.get('q') ?? '').slice(0, 200),
    site: p.get('site') ?? '',
    states: minerStates.filter((s) => (p.get('state') ?? '').split(',').filter(isState).includes(s)),
    firmware: p.get('firmware') ?? '',
    age: age === 'stale' || age === 'fresh' ? age : '',
    sort: isColumn(column) ? column : plainView.sort,
    desc: isColumn(column) ? desc : plainView.desc,
    columns: columns.length > 0 ? columnIds.filter((c) => columns.includes(c)) : null,
  };
}

/** Writes a view for the address bar: '' or '?…', the shortest that parseView reads back. */
export function formatView(v: View): string {
  const p = new URLSearchParams();
  if (v.q) p.set('q', v.q);
  if (v.site) p.set('site', v.site);
  if (v.states.length > 0) p.set('state', v.states.join(','));
  if (v.firmware) p.set('firmware', v.firmware);
  if (v.age) p.set('age', v.age);
  if (v.sort !== plainView.sort || v.desc) p.set('sort', (v.desc ? '-' : '') + v.sort);
  if (v.columns) p.set('cols', v.columns.join(','));
  const s = p.toString().replaceAll('%2C', ',');
  return s ? `?${s}` : '';
}

type Key = number | string | null;

/** Share of the nominal rate, 1 meaning all of it. */
export const ratioOf = (r: MinerRow): number | null =>
  r.hashrate !== null && r.ideal !== null && r.ideal > 0 ? r.hashrate / r.ideal : null;

/** Joules per terahash: power over rate; unknown at rate zero. */
export const efficiencyOf = (r: MinerRow): number | null =>
  r.hashrate !== null && r.hashrate > 0 && r.power !== null ? (r.power * 1e12) / r.hashrate : null;

/** Rejected share of all answered shares, 0 to 1. */
export const rejectedOf = (r: MinerRow): number | null => {
  if (r.accepted === null || r.rejected === null) return null;
  const all = r.accepted + r.rejected;
  return all > 0 ? r.rejected / all : null;
};

const keyOf: Record<ColumnId, (r: MinerRow, siteName: (i: number) => string) => Key> = {
  address: (r) => r.addressKey,
  site: (r, siteName) => siteName(r.site).toLowerCase(),
  state: (r) => minerStates.indexOf(r.state),
  hashrate: (r) => r.hashrate,
  ratio: ratioOf,
  hashrateAvg: (r) => r.hashrateAvg,
  tempChip: (r) => r.tempChip,
  tempBoard: (r) => r.tempBoard,
  power: (r) => r.power,
  efficiency: efficiencyOf,
  fanMax: (r) => r.fanMax,
  model: (r) => r.model?.toLowerCase() ?? null,
  firmware: (r) => r.firmware?.toLowerCase() ?? null,
  worker: (r) => r.worker?.toLowerCase() ?? null,
  uptime: (r) => r.uptime,
  accepted: (r) => r.accepted,
  rejected: rejectedOf,
  hwErrors: (r) => r.hwErrors,
  age: (r) => (r.atMs === null ? null : -r.atMs),
};

/** Sums over the filtered miners. Only fresh samples count: a rate of two hours ago is not a rate. */
export interface Totals {
  miners: number;
  stale: number;
  hashrate: number; // H/s
  hashrateKnown: number; // fresh miners that reported a rate
  power: number; // W
  powerKnown: number;
  // Power and rate of the miners that reported both: what an efficiency may be computed from.
  bothHashrate: number;
  bothPower: number;
}

export interface Selection {
  rows: readonly MinerRow[];
  totals: Totals;
  /** Miners by state under all the other filters: what choosing a state would show. */
  byState: Record<MinerState, number>;
}

/** Applies a view to the fleet at a moment. Unknown values sort last in either direction. */
export function select(
  all: Iterable<MinerRow>,
  view: View,
  sites: readonly { id: string; name: string }[],
  nowMs: number,
): Selection {
  const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  const siteSearch = sites.map((s) => s.name.toLowerCase());
  const site = view.site === '' ? -1 : sites.findIndex((s) => s.id === view.site);
  const byState = Object.fromEntries(minerStates.map((s) => [s, 0])) as Record<MinerState, number>;
  const totals: Totals = {
    miners: 0, stale: 0, hashrate: 0, hashrateKnown: 0, power: 0, powerKnown: 0, bothHashrate: 0, bothPower: 0,
  };
  const key = keyOf[view.sort];
  const siteName = (i: number) => sites[i]?.name ?? '';
  const picked: { row: MinerRow; key: Key }[] = [];

  for (const row of all) {
    if (view.site !== '' && row.site !== site) continue;
    // A name without a maker means that of any: links made before makers were named say so.
    if (view.firmware !== '' && row.firmwareOf !== view.firmware && row.firmware !== view.firmware) continue;
    const stale = isStale(row.atMs, row.pollInterval, nowMs);
    if (view.age !== '' && (view.age === 'stale') !== stale) continue;
    if (words.length > 0) {
      const name = siteSearch[row.site] ?? '';
      if (!words.every((w) => row.search.includes(w) || name.includes(w))) continue;
    }
    byState[row.state]++;
    if (view.states.length > 0 && !view.states.includes(row.state)) continue;
    picked.push({ row, key: key(row, siteName) });
    totals.miners++;
    if (stale) {
      totals.stale++;
      continue;
    }
    if (row.hashrate !== null) {
      totals.hashrate += row.hashrate;
      totals.hashrateKnown++;
    }
    if (row.power !== null) {
      totals.power += row.power;
      totals.powerKnown++;
    }
    if (row.hashrate !== null && row.power !== null) {
      totals.bothHashrate += row.hashrate;
      totals.bothPower += row.power;
    }
  }

  const sign = view.desc ? -1 : 1;
  picked.sort((a, b) => {
    if (a.key !== b.key) {
      if (a.key === null) return 1;
      if (b.key === null) return -1;
      return a.key < b.key ? -sign : sign;
    }
    if (a.row.addressKey !== b.row.addressKey) return a.row.addressKey < b.row.addressKey ? -1 : 1;
    return a.row.id < b.row.id ? -1 : a.row.id > b.row.id ? 1 : 0;
  });
  return { rows: picked.map((p) => p.row), totals, byState };
}
