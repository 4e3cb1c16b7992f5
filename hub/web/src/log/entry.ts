// What an entry of the log says, in one line, and which entries the address bar asks for.
import type { LogEntry } from '../api/types';
import { ms } from '../format';
import type { LogMessages } from '../text/log.en';
import { utcDay, utcTime } from '../utc';

export const entryKinds = ['hour', 'site_key', 'hub_key', 'terms', 'excuse', 'statement', 'restatement', 'audit_head'] as const;
export type EntryKind = (typeof entryKinds)[number];

/** The kind that the address bar asks for; what is none counts as all. */
export function parseKind(search: string): EntryKind | undefined {
  const asked = new URLSearchParams(search).get('kind');
  return entryKinds.find((k) => k === asked);
}

const begin = (id: string | undefined) => (id ?? '').slice(0, 8);
const hourMs = 3_600_000;

/** An entry in one line. Members that its kind should have and has not are left empty, never guessed. */
export function subjectOf(e: LogEntry, t: LogMessages, siteName: (id: string) => string): string {
  const s = t.subject;
  const site = e.site_id === undefined ? '' : siteName(e.site_id);
  switch (e.kind) {
    case 'hour': {
      const from = ms(e.hour);
      if (from === null) return s.unknown;
      return s.hour(site, `${utcDay(from)} ${utcTime(from)}`, utcTime(from + hourMs), e.leaves ?? 0);
    }
    case 'site_key':
      return s.siteKey(site, e.event ?? '');
    case 'hub_key':
      return s.hubKey(e.role ?? '', e.event ?? '');
    case 'terms':
      return s.terms(begin(e.contract_id), e.version ?? 0);
    case 'excuse':
      return s.excuse(begin(e.excuse_id));
    case 'statement':
      return s.statement(begin(e.contract_id), e.month ?? '', e.seq ?? 0);
    case 'restatement':
      return s.restatement(begin(e.contract_id), e.month ?? '', e.seq ?? 0, begin(e.supersedes));
    case 'audit_head':
      return s.auditHead(e.seq ?? 0);
    default:
      return s.unknown; // a later hub's
  }
}
