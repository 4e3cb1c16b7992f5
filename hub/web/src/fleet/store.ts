// The fleet in memory: filled by one snapshot, kept current by the patches of the events stream. It
// knows nothing of React or of the network.
import type { Patch, Snapshot } from '../api/types';
import { rowReader, type MinerRow } from './row';

type Listener = () => void;

export class FleetStore {
  #rows = new Map<string, MinerRow>();
  #read: ((row: readonly unknown[]) => MinerRow) | undefined;
  #sites: readonly { id: string; name: string }[] = [];
  #firmwares: readonly string[] = [];
  #version = 0;
  #atMs = 0;
  #changes = 0;
  #membership = 0;
  readonly #listeners = new Set<Listener>();

  /** Calls listener after every change. */
  readonly subscribe = (listener: Listener): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Grows with every change: what a React subscription compares. */
  readonly changes = (): number => this.#changes;
  /** Grows when miners come or go. */
  readonly membership = (): number => this.#membership;

  get ready(): boolean {
    return this.#read !== undefined;
  }
  /** The hub's number of the newest change applied. */
  get version(): number {
    return this.#version;
  }
  /** The hub's time of that change, ms. */
  get atMs(): number {
    return this.#atMs;
  }
  get size(): number {
    return this.#rows.size;
  }
  get sites(): readonly { id: string; name: string }[] {
    return this.#sites;
  }
  /** Firmware families that occur, sorted. */
  get firmwares(): readonly string[] {
    return this.#firmwares;
  }

  all(): Iterable<MinerRow> {
    return this.#rows.values();
  }
  get(id: string): MinerRow | undefined {
    return this.#rows.get(id);
  }
  siteName(index: number): string | undefined {
    return this.#sites[index]?.name;
  }

  /** Replaces everything. */
  load(s: Snapshot): void {
    const read = rowReader(s.columns);
    const rows = new Map<string, MinerRow>();
    for (const raw of s.rows) {
      if (!raw) continue;
      const row = read(raw);
      rows.set(row.id, row);
    }
    this.#read = read;
    this.#rows = rows;
    this.#sites = s.sites;
    this.#version = s.version;
    this.#atMs = Date.parse(s.at);
    this.#membership++;
    this.#collectFirmwares();
    this.#changed();
  }

  /** Applies one event. It answers false, and changes nothing, when a new snapshot is needed first:
   * nothing was loaded yet, or a row belongs to a site that the snapshot did not list. */
  apply(p: Patch): boolean {
    const read = this.#read;
    if (!read) return false;
    // Rows are whole, so the same version once more does no harm: a resumed stream repeats its end.
    if (p.version < this.#version) return true;
    const rows = p.rows.filter((r) => r !== null).map(read);
    if (rows.some((r) => r.site < 0 || r.site >= this.#sites.length)) return false;
    let came = false;
    let firmware = false;
    for (const row of rows) {
      const before = this.#rows.get(row.id);
      came ||= before === undefined;
      firmware ||= before?.firmwareOf !== row.firmwareOf;
      this.#rows.set(row.id, row);
    }
    this.#version = p.version;
    this.#atMs = Date.parse(p.at);
    if (came) this.#membership++;
    if (firmware) this.#collectFirmwares();
    this.#changed();
    return true;
  }

  #collectFirmwares(): void {
    const seen = new Set<string>();
    for (const r of this.#rows.values()) if (r.firmwareOf !== null) seen.add(r.firmwareOf);
    this.#firmwares = [...seen].sort();
  }

  #changed(): void {
    this.#changes++;
    for (const l of this.#listeners) l();
  }
}
