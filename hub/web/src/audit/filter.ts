// Which entries of the audit log are shown, as the address bar and as the hub's question.
import type { AuditFilter } from '../api/types';

export const categories = ['authentication', 'data_access', 'configuration', 'permission', 'encryption', 'api_key', 'suspicious'] as const;
export const levels = ['INFO', 'WARNING', 'ERROR', 'SECURITY', 'CRITICAL'] as const;

export interface Filter {
  user: string;
  action: string;
  category: (typeof categories)[number] | '';
  level: (typeof levels)[number] | '';
  /** A moment as RFC 3339, in UTC; empty: from the beginning. */
  since: string;
}

export const noFilter: Filter = { user: '', action: '', category: '', level: '', since: '' };

/** Reads the address bar; what is not a filter counts as none. */
export function parseFilter(search: string): Filter {
  const q = new URLSearchParams(search);
  const text = (name: string, max: number) => (q.get(name) ?? '').slice(0, max);
  const since = Date.parse(q.get('since') ?? '');
  return {
    user: text('user', 200),
    action: text('action', 63),
    category: categories.find((c) => c === q.get('category')) ?? '',
    level: levels.find((l) => l === q.get('level')) ?? '',
    since: Number.isFinite(since) ? new Date(since).toISOString() : '',
  };
}

export function formatFilter(f: Filter): string {
  const q = new URLSearchParams(Object.entries(f).filter(([, v]) => v !== '')).toString();
  return q === '' ? '' : `?${q}`;
}

/** What the hub is asked: nothing of what is empty. */
export function question(f: Filter): AuditFilter {
  return {
    ...(f.user && { user: f.user }),
    ...(f.action && { action: f.action }),
    ...(f.category && { category: f.category }),
    ...(f.level && { level: f.level }),
    ...(f.since && { since: f.since }),
  };
}

const two = (n: number) => String(n).padStart(2, '0');

/** A moment as a field for date and time takes it, on this computer's clock. */
export function toField(rfc3339: string): string {
  const d = new Date(rfc3339);
  if (!Number.isFinite(d.getTime())) return '';
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}`;
}

export function fromField(field: string): string {
  const at = Date.parse(field); // without a zone: this computer's
  return Number.isFinite(at) ? new Date(at).toISOString() : '';
}
