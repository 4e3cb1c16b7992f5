import { expect, it } from 'vitest';
import { contractPath, minerPath, parseRoute, statementPath } from './router';

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
  ['/contracts', { page: 'contracts' }],
  ['/customers', { page: 'customers' }],
  ['/excuses/', { page: 'excuses' }],
  ['/disputes', { page: 'disputes' }],
  ['/log', { page: 'log' }],
  ['/anchors/', { page: 'anchors' }],
  ['/log/7', { page: 'unknown' }],
  ['/contracts/6f1d', { page: 'contract', id: '6f1d', part: 'sla' }],
  ['/contracts/6f1d/slots', { page: 'contract', id: '6f1d', part: 'slots' }],
  ['/contracts/6f1d/other', { page: 'unknown' }],
  ['/contracts/6f1d/slots/x', { page: 'unknown' }],
  ['/statements', { page: 'statements' }],
  ['/statements/ab12', { page: 'statement', hash: 'ab12' }],
  ['/statements/ab12/x', { page: 'unknown' }],
])('%s', (path, want) => {
  expect(parseRoute(path)).toEqual(want);
});

it('leads back to the id it was made of, whatever that holds', () => {
  const id = '../x?y#<z>';
  expect(parseRoute(minerPath(id))).toEqual({ page: 'miner', id });
  expect(parseRoute(contractPath(id, 'miners'))).toEqual({ page: 'contract', id, part: 'miners' });
  expect(parseRoute(statementPath(id))).toEqual({ page: 'statement', hash: id });
});
