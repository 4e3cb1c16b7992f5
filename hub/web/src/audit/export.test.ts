import { expect, it } from 'vitest';
import type { AuditEntry } from '../api/types';
import { asFile } from './export';

const entry = (more: Partial<AuditEntry>): AuditEntry => ({
  timestamp: '2026-11-26T12:00:00.000Z', event_id: '6f1d2c3b-0000-4000-8000-000000000000', level: 'INFO', category: 'authentication', action: 'login', status: 'success',
  details: {}, seq: 1, hash: 'aa', ...more,
});

it('is one object a line, whatever the texts hold', () => {
  const entries = [entry({ details: { why: 'two\nlines\u2028three' } }), entry({ seq: 2 })];
  const lines = asFile(entries, 'jsonl').split('\n');
  expect(lines).toHaveLength(3);
  expect(lines.slice(0, 2).map((l) => JSON.parse(l) as unknown)).toEqual(entries);
});

it('is a table in which no text becomes a formula or another column', () => {
  const text = asFile([entry({ action: '=HYPERLINK("http://evil.example")', user_email: 'a,b', user_id: '@x', details: { a: 'say "hi"' } })], 'csv');
  const [head, row, rest] = text.split('\r\n');
  expect(head).toBe('timestamp,event_id,level,category,action,user_id,user_email,user_role,ip_address,status,details,seq,hash');
  expect(row).toContain(`"'=HYPERLINK(""http://evil.example"")",'@x,"a,b",`);
  expect(row).toContain('"{""a"":""say \\""hi\\""""}"');
  expect(rest).toBe('');
});
