// Entries of the audit log as files: one JSON object a line, as the hub's own file has them, or a table.
import type { AuditEntry } from '../api/types';

export const formats = ['jsonl', 'csv'] as const;
export type Format = (typeof formats)[number];

export function asFile(entries: readonly AuditEntry[], format: Format): string {
  if (format === 'jsonl') return entries.map((e) => `${JSON.stringify(e)}\n`).join('');
  const columns = ['timestamp', 'event_id', 'level', 'category', 'action', 'user_id', 'user_email', 'user_role', 'ip_address', 'status', 'details', 'seq', 'hash'] as const;
  const rows = entries.map((e) => columns.map((c) => cell(c === 'details' ? JSON.stringify(e.details) : String(e[c] ?? ''))).join(','));
  return `${columns.join(',')}\r\n${rows.map((r) => `${r}\r\n`).join('')}`;
}

/** A cell that no spreadsheet takes for a formula: texts of entries may come from outside. */
function cell(text: string): string {
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
