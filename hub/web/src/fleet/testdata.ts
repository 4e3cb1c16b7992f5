// Snapshots and rows for tests, in the hub's form.
import type { Snapshot } from '../api/types';

export const columns = [
  'id', 'site', 'address', 'model', 'firmware', 'worker', 'state', 'outcome', 'at_ms', 'answered_ms', 'hashrate_hs',
  'hashrate_avg_hs', 'ideal_hs', 'temp_board_c', 'temp_chip_c', 'power_w', 'fan_rpm_max', 'uptime_s', 'accepted',
  'rejected', 'hw_errors', 'poll_interval_s', 'maker',
];

export const now = Date.parse('2026-11-23T12:00:00.000Z');

export function raw(id: string, values: Record<string, unknown> = {}): unknown[] {
  const all: Record<string, unknown> = {
    site: 0, address: '10.0.0.1:4028', model: 'Antminer S19', firmware: 'stock', worker: 'farm.1', state: 'hashing',
    outcome: 'ok', at_ms: now - 3_000, answered_ms: now - 3_000, hashrate_hs: 100e12, ideal_hs: 110e12, power_w: 3_000,
    poll_interval_s: 10, ...values, id,
  };
  return columns.map((c) => all[c] ?? null);
}

export function snapshot(rows: unknown[][], version = 100): Snapshot {
  return {
    at: new Date(now).toISOString(),
    version,
    columns,
    sites: [
      { id: 'site-a', name: 'North' },
      { id: 'site-b', name: 'South' },
    ],
    rows,
  };
}

export const patch = (version: number, rows: unknown[][]) => ({ at: new Date(now + version).toISOString(), version, rows });
