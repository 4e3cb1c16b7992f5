// Where one is in the slots of a contract, as the address bar says it. Pure.
import { dayStart, monthOf, readMonth, rfc3339, slotMs, utcDay } from '../utc';

export interface SlotsPlace {
  day: string; // of one miner: its month is shown
  miner: { site: string; id: string } | null; // null: all of them
  why: { site: string; miner: string; atMs: number } | null; // the slot that is asked about
}

/** Reads the address bar; what is no place in it is as if it were not there. */
export function parsePlace(search: string, today: string): SlotsPlace {
  const q = new URLSearchParams(search);
  const text = (name: string) => (q.get(name) ?? '').slice(0, 64);
  const at = Date.parse(q.get('at') ?? '');
  const [site, id] = [text('site'), text('miner')];
  const [whySite, whyMiner] = [text('why_site') || site, text('why') || id];
  const why = Number.isFinite(at) && whySite !== '' && whyMiner !== '' ? { site: whySite, miner: whyMiner, atMs: Math.floor(at / slotMs) * slotMs } : null;
  let day = text('day');
  if (dayStart(day) === null) {
    const month = readMonth(text('month'));
    if (month !== null) day = month.name === monthOf(dayStart(today) ?? 0) ? today : utcDay(month.fromMs);
    else day = why === null ? today : utcDay(why.atMs);
  }
  return { day, miner: site !== '' && id !== '' ? { site, id } : null, why };
}

export function formatPlace(p: SlotsPlace): string {
  const q = new URLSearchParams();
  q.set('day', p.day);
  if (p.miner) {
    q.set('site', p.miner.site);
    q.set('miner', p.miner.id);
  }
  if (p.why) {
    if (p.why.miner !== p.miner?.id || p.why.site !== p.miner.site) {
      q.set('why_site', p.why.site);
      q.set('why', p.why.miner);
    }
    q.set('at', rfc3339(p.why.atMs));
  }
  return `?${q.toString()}`;
}
