import { expect, it } from 'vitest';
import { covers, hasEnded, keyMarks } from './marks';

const now = Date.parse('2026-11-26T12:00:00Z');
const inDays = (d: number) => new Date(now + d * 86_400_000).toISOString();

it.each([
  ['one without an end', { state: 'active', old: false }, []],
  ['one with time', { state: 'active', old: false, expires_at: inDays(15) }, []],
  ['14 days', { state: 'expiring', old: false, expires_at: inDays(14) }, ['ends14']],
  ['a list read a while ago', { state: 'active', old: false, expires_at: inDays(13) }, ['ends14']],
  ['3 days', { state: 'expiring', old: false, expires_at: inDays(3) }, ['ends3']],
  ['old and ending', { state: 'expiring', old: true, expires_at: inDays(1) }, ['ends3', 'old']],
  ['old', { state: 'active', old: true }, ['old']],
  ['ended since it was read', { state: 'expiring', old: true, expires_at: inDays(0) }, ['expired']],
  ['revoked', { state: 'revoked', old: false, expires_at: inDays(2) }, ['revoked']],
] as const)('%s', (_, key, want) => {
  const marks = keyMarks(key, now);
  expect(marks).toEqual(want);
  expect(hasEnded(marks)).toBe(want.some((m) => m === 'expired' || m === 'revoked'));
});

it('lets nobody decide about more than they hold', () => {
  expect(covers(['sites:read', 'apikeys:write'], false, ['sites:read'])).toBe(true);
  expect(covers(['sites:read'], false, ['sites:read', 'sites:revoke'])).toBe(false);
  expect(covers(['sites:read'], false, ['owner'])).toBe(false);
  expect(covers(['owner'], false, ['owner'])).toBe(false);
  expect(covers([], true, ['owner', 'sites:read'])).toBe(true);
});
