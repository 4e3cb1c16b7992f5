// The miners of an hour are those of which a slot of it begins within an assignment, in whatever order hours are asked for.
import { describe, expect, test } from 'vitest';
import { slotMS, slotsPerHour } from './evidence';
import { name, rosters } from './roster';
import { assignedHours, type Assignment } from './statement';

const id = (n: number) => new Uint8Array(16).fill(n);

/** The same by looking at every slot. */
function assigned(a: Assignment, hour: number): boolean {
  for (let slot = hour * slotsPerHour; slot < (hour + 1) * slotsPerHour; slot++) {
    if (slot * slotMS >= a.fromMS && (a.toMS === 0 || slot * slotMS < a.toMS)) return true;
  }
  return false;
}

describe('the miners of an hour', () => {
  test('are those that are assigned in a slot of it', () => {
    let x = 7;
    const random = (n: number) => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) % n;
    for (let round = 0; round < 200; round++) {
      const all = Array.from({ length: 6 }, (_, i) => {
        const fromMS = 1 + random(40 * slotMS);
        // Also those that end before a slot begins, and those that end on one.
        const toMS = random(4) === 0 ? 0 : fromMS + (random(3) === 0 ? random(slotMS) : random(5) * slotMS);
        const a: Assignment = { id: id(i), contract: id(100), site: id(random(2)), miner: id(random(5)), fromMS, toMS };
        return { ...a, minerHash: id(a.miner[0] ?? 0), hours: assignedHours(a) };
      });
      const sites = rosters(all);
      for (let n = 0; n < 12; n++) {
        const hour = random(6);
        for (const site of [id(0), id(1)]) {
          const want = new Set(all.filter((a) => a.site[0] === site[0] && assigned(a, hour)).map((a) => name(a.miner)));
          expect(new Set(sites.get(name(site))?.at(hour).keys()), JSON.stringify(all.map((a) => [a.fromMS, a.toMS]))).toEqual(want);
        }
      }
      for (const [site, r] of sites) expect(r.size).toBe(new Set(all.filter((a) => name(a.site) === site).map((a) => name(a.miner))).size);
    }
  });
});
