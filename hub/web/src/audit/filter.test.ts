import { expect, it } from 'vitest';
import { formatFilter, fromField, noFilter, parseFilter, question, toField } from './filter';

it('comes back from the address bar as it was', () => {
  const f = { user: 'a&b=c@example.com', action: 'apikey_create', category: 'api_key', level: 'SECURITY', since: '2026-11-26T10:30:00.000Z' } as const;
  expect(parseFilter(formatFilter(f))).toEqual(f);
  expect(formatFilter(noFilter)).toBe('');
});

it('takes nothing from the address bar that is not a filter', () => {
  expect(parseFilter('?level=LOUD&category=x&since=yesterday&page=3')).toEqual(noFilter);
  expect(parseFilter(`?action=${'a'.repeat(500)}`).action).toHaveLength(63);
});

it('asks the hub only for what is set', () => {
  expect(question(noFilter)).toEqual({});
  expect(question({ ...noFilter, level: 'ERROR' })).toEqual({ level: 'ERROR' });
});

it('shows a moment on this computer’s clock and reads it back', () => {
  const at = '2026-03-01T23:59:00.000Z';
  expect(fromField(toField(at))).toBe(at);
  expect(toField('')).toBe('');
  expect(fromField('')).toBe('');
});
