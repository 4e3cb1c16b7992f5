import { expect, it } from 'vitest';
import { Clock } from './clock';

it('follows the hub, not a wrong clock of this computer', () => {
  let local = 1_000_000;
  const clock = new Clock(() => local);
  clock.observe(1_600_000); // ten minutes ahead of here
  expect(clock.exact()).toBe(1_600_000);
  local += 1_000;
  clock.observe(1_600_700); // the answer was 300 ms on its way: no reason to go back
  expect(clock.exact()).toBe(1_601_000);
  clock.observe(1_601_050);
  expect(clock.exact()).toBe(1_601_050);
});

it('believes a clock that was set back', () => {
  const clock = new Clock(() => 0);
  clock.observe(60_000);
  clock.observe(10_000);
  expect(clock.exact()).toBe(10_000);
});

it('stands still between two ticks, so that the ages of one painting agree', () => {
  let local = 5_000;
  const clock = new Clock(() => local);
  const stop = clock.subscribe(() => undefined);
  local += 400;
  expect(clock.now()).toBe(5_000);
  clock.tick();
  expect(clock.now()).toBe(5_400);
  stop();
});
