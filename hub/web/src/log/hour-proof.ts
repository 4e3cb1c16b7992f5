const hourMs = 3_600_000;

/** Where the proof file of a miner's hour is: the hour of that moment, in UTC, in one chain of batches. */
export function hourProofPath(site: string, miner: string, atMs: number, spool: string | undefined): string {
  const path = `/api/proofs/hours/${encodeURIComponent(site)}/${encodeURIComponent(miner)}/${Math.floor(atMs / hourMs)}`;
  return spool ? `${path}?spool_id=${encodeURIComponent(spool)}` : path;
}
