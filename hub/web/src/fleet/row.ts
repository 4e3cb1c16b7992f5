// One row of the fleet as the page keeps it, read from the compact arrays of the snapshot and the
// events. The hub names its columns, so a hub with more columns, or in another order, is read too.
import { parseState, type MinerState } from '../api/types';

/** A miner's newest sample. null means that the hub does not know the value: never zero. */
export interface MinerRow {
  readonly id: string;
  readonly site: number; // index into the snapshot's sites
  readonly address: string;
  readonly model: string | null;
  readonly firmware: string | null;
  /** The firmware with whose it is: several makers call theirs the same. */
  readonly firmwareOf: string | null;
  readonly worker: string | null;
  readonly state: MinerState;
  readonly outcome: string;
  readonly atMs: number | null; // when the newest poll was made, answered or not
  readonly answeredMs: number | null; // when the miner last answered
  readonly hashrate: number | null; // H/s
  readonly hashrateAvg: number | null; // H/s
  readonly ideal: number | null; // H/s
  readonly tempBoard: number | null; // °C
  readonly tempChip: number | null; // °C
  readonly power: number | null; // W
  readonly fanMax: number | null; // rpm
  readonly uptime: number | null; // s
  readonly accepted: number | null; // shares
  readonly rejected: number | null; // shares
  readonly hwErrors: number | null;
  readonly pollInterval: number | null; // s
  // What follows is derived once, so that filtering and sorting ten thousand rows stays cheap.
  readonly search: string; // lower case, everything the search box looks at but the site's name
  readonly addressKey: string; // sorts addresses by number
}

const num = (v: unknown): number | null => (typeof v === 'number' && Number.isFinite(v) ? v : null);
const str = (v: unknown): string | null => (typeof v === 'string' && v !== '' ? v : null);

/** A key under which 10.0.0.9 comes before 10.0.0.10. */
export function addressKey(address: string): string {
  return address.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(5, '0'));
}

/** Names a firmware apart from another maker's of the same name: each maker's own is called stock. */
export function firmwareOf(maker: string | null, firmware: string | null): string | null {
  return firmware === 'stock' && maker !== null ? `${maker} ${firmware}` : firmware;
}

/** Makes the reader of rows for a snapshot's columns, or says which column is missing. */
export function rowReader(columns: readonly string[]): (row: readonly unknown[]) => MinerRow {
  const at = (name: string) => columns.indexOf(name);
  for (const needed of ['id', 'site', 'address', 'state', 'at_ms']) {
    if (at(needed) < 0) throw new Error(`the hub's snapshot has no column ${needed}`);
  }
  const i = {
    id: at('id'), site: at('site'), address: at('address'), model: at('model'), firmware: at('firmware'),
    worker: at('worker'), state: at('state'), outcome: at('outcome'), at: at('at_ms'), answered: at('answered_ms'),
    rate: at('hashrate_hs'), avg: at('hashrate_avg_hs'), ideal: at('ideal_hs'), board: at('temp_board_c'),
    chip: at('temp_chip_c'), power: at('power_w'), fan: at('fan_rpm_max'), uptime: at('uptime_s'),
    accepted: at('accepted'), rejected: at('rejected'), hw: at('hw_errors'), interval: at('poll_interval_s'),
    maker: at('maker'),
  };
  return (r) => {
    const id = String(r[i.id]);
    const address = str(r[i.address]) ?? '';
    const model = str(r[i.model]);
    const firmware = str(r[i.firmware]);
    const worker = str(r[i.worker]);
    return {
      id, site: num(r[i.site]) ?? -1, address, model, firmware, firmwareOf: firmwareOf(str(r[i.maker]), firmware), worker,
      state: parseState(r[i.state]),
      outcome: str(r[i.outcome]) ?? '',
      atMs: num(r[i.at]), answeredMs: num(r[i.answered]),
      hashrate: num(r[i.rate]), hashrateAvg: num(r[i.avg]), ideal: num(r[i.ideal]),
      tempBoard: num(r[i.board]), tempChip: num(r[i.chip]), power: num(r[i.power]), fanMax: num(r[i.fan]),
      uptime: num(r[i.uptime]), accepted: num(r[i.accepted]), rejected: num(r[i.rejected]), hwErrors: num(r[i.hw]),
      pollInterval: num(r[i.interval]),
      search: `${address} ${model ?? ''} ${firmware ?? ''} ${worker ?? ''} ${id}`.toLowerCase(),
      addressKey: addressKey(address),
    };
  };
}

/** Assumed where the hub does not say how often a site polls, in s. */
export const defaultPollInterval = 30;

/** How old a sample may be before it is stale, in ms: two poll intervals. */
export function staleAfterMs(pollIntervalS: number | null | undefined): number {
  return 2_000 * (pollIntervalS != null && pollIntervalS > 0 ? pollIntervalS : defaultPollInterval);
}

/** The longest that an agent waits between two polls of a miner that does not answer, in ms. */
const maxSilenceMs = 60_000;

/** Whether a poll without an answer is old only because its miner, being silent, is polled rarely. */
export function isPolledRarely(outcome: string, atMs: number | null, pollIntervalS: number | null | undefined, nowMs: number): boolean {
  if (outcome === 'ok' || outcome === 'partial' || outcome === '' || atMs === null) return false;
  return isStale(atMs, pollIntervalS, nowMs) && nowMs - atMs <= maxSilenceMs + staleAfterMs(pollIntervalS) && nowMs >= atMs;
}

/** How far a site's clock may be ahead of the hub's, in ms: beyond it nobody knows how old a sample is. */
const clockToleranceMs = 120_000;

/** Whether a sample made at atMs must not be shown as live at nowMs. */
export function isStale(atMs: number | null, pollIntervalS: number | null | undefined, nowMs: number): boolean {
  return atMs === null || nowMs - atMs > staleAfterMs(pollIntervalS) || atMs - nowMs > clockToleranceMs;
}
