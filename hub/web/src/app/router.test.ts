import { expect, it } from 'vitest';
import { minerPath, parseRoute } from './router';

it.each([
  ['/', { page: 'sites' }],
  ['/sites/', { page: 'sites' }],
  ['/fleet', { page: 'fleet' }],
  ['/keys', { page: 'keys' }],
  ['/audit/', { page: 'audit' }],
  ['/miners/6f1d2c3b', { page: 'miner', id: '6f1d2c3b' }],
  ['/miners/%E0%A4%A', { page: 'unknown' }],
  ['/miners', { page: 'unknown' }],
  ['/fleet/x', { page: 'unknown' }],
])('%s', (path, want) => {
  expect(parseRoute(path)).toEqual(want);
});

it('leads back to the id it was made of, whatever that holds', () => {
  const id = '../x?y#<z>';
  expect(parseRoute(minerPath(id))).toEqual({ page: 'miner', id });
});
