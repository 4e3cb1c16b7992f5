// Which miners of a contract belong to an hour of a site.
import type { Assignment } from './statement';

/** An assignment with what is asked of it for every hour. */
export interface Assigned extends Assignment {
  readonly minerHash: Uint8Array;
  readonly hours: { readonly from: number; readonly to: number }; // to is the first that is not
}

/** An id of 16 bytes as a key of maps: two of them a character. */
export function name(b: Uint8Array): string {
  const c = (i: number): number => ((b[i] ?? 0) << 8) | (b[i + 1] ?? 0);
  return String.fromCharCode(c(0), c(2), c(4), c(6), c(8), c(10), c(12), c(14));
}

/** The contract's miners at one site. They rarely change, so those of an hour are mostly those of the hour before. */
class Roster {
  private readonly all: Assigned[] = [];
  private readonly names = new Set<string>();
  private from = 0; // the hours for which miners holds
  private to = 0;
  private miners = new Map<string, Uint8Array>();

  /** How many miners there are in the whole month. */
  get size(): number {
    return this.names.size;
  }

  add(a: Assigned): void {
    this.all.push(a);
    this.names.add(name(a.miner));
    this.to = this.from;
  }

  /** By id, the hash of the id of each miner that is assigned in the hour. */
  at(hour: number): ReadonlyMap<string, Uint8Array> {
    if (hour >= this.from && hour < this.to) return this.miners;
    this.from = 0;
    this.to = Number.POSITIVE_INFINITY;
    this.miners = new Map();
    for (const a of this.all) {
      const { from, to } = a.hours;
      if (hour >= from && hour < to) this.miners.set(name(a.miner), a.minerHash);
      for (const edge of [from, to]) {
        if (edge <= hour) this.from = Math.max(this.from, edge);
        else this.to = Math.min(this.to, edge);
      }
    }
    return this.miners;
  }
}

/** By site. */
export function rosters(assignments: readonly Assigned[]): Map<string, Roster> {
  const out = new Map<string, Roster>();
  for (const a of assignments) {
    const site = name(a.site);
    const r = out.get(site) ?? new Roster();
    out.set(site, r);
    r.add(a);
  }
  return out;
}
