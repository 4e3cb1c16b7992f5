// Which miners of a site match what was typed. Pure.
import type { MinerRow } from '../fleet/row';

export function matching(all: Iterable<MinerRow>, site: number, search: string): MinerRow[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const out: MinerRow[] = [];
  for (const r of all) if (r.site === site && words.every((w) => r.search.includes(w))) out.push(r);
  return out.sort((a, b) => (a.addressKey < b.addressKey ? -1 : a.addressKey > b.addressKey ? 1 : 0));
}
