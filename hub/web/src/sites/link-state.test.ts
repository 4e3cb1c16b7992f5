import { expect, it } from 'vitest';
import { wayOf } from './link-state';

it.each([
  [true, '10.8.0.2:40112', '10.8.0.2', 'tunnel'],
  [true, '10.8.0.20:40112', '10.8.0.2', 'direct'],
  [true, '203.0.113.7:40112', '10.8.0.2', 'direct'],
  [true, '203.0.113.7:40112', undefined, 'direct'],
  [true, '[2001:db8::7]:40112', undefined, 'direct'],
  [false, '10.8.0.2:40112', '10.8.0.2', null],
  [true, undefined, '10.8.0.2', null],
] as const)('connected %s from %s with tunnel address %s: %s', (connected, remote, address, want) => {
  expect(wayOf(connected, remote, address)).toBe(want);
});
