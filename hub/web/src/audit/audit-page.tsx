// The audit log: who did what, when, from where, and whether it was allowed. Every text in it is data.
import { useEffect, useId, useRef, useState, type FormEvent } from 'react';
import { useInfiniteQuery } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { AuditEntry, AuditList } from '../api/types';
import { useLive } from '../app/live';
import { allPages } from '../app/pages';
import { keys } from '../app/queries';
import { navigate, useSearch } from '../app/router';
import { moment, ms } from '../format';
import { useManageText } from '../text/manage';
import { useText } from '../text/text';
import { CopyText } from '../ui/copy';
import { Mark, Problem, TextOr } from '../ui/parts';
import { asFile, type Format } from './export';
import { categories, formatFilter, fromField, levels, noFilter, parseFilter, question, toField, type Filter } from './filter';
import '../ui/manage.css';
import './audit.css';

const page = (filter: Filter, limit: number, cursor: string | undefined, signal: AbortSignal) =>
  call(http.GET('/api/audit', { signal, params: { query: { ...question(filter), limit, ...(cursor ? { cursor } : {}) } } }));

export default function AuditPage() {
  const t = useManageText();
  const text = useText();
  const filter = parseFilter(useSearch());
  const list = useInfiniteQuery({
    queryKey: keys.audit(filter),
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => page(filter, 100, pageParam, signal),
    getNextPageParam: (last) => last.next,
  });
  const entries = list.data?.pages.flatMap((p) => p.items) ?? [];
  const head = list.data?.pages[0]?.head;
  return (
    <div className="management">
      <div className="page-head">
        <h1>{text.nav.audit}</h1>
        <button type="button" className="button button-quiet page-do" onClick={() => void list.refetch()}>
          {t.audit.refresh}
        </button>
      </div>
      <FilterForm key={formatFilter(filter)} filter={filter} />
      {list.error && <Problem title={t.audit.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.data && (
        <section className="panel" aria-label={t.audit.entries}>
          <Export filter={filter} />
          {entries.length === 0 ? <p className="quiet">{t.audit.none}</p> : <Entries of={entries} />}
          {list.hasNextPage && (
            <p>
              <button type="button" className="button" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
                {list.isFetchingNextPage ? text.loading : t.more}
              </button>
            </p>
          )}
        </section>
      )}
      {head && (
        <section className="panel audit-head" aria-label={t.audit.head}>
          <h2>{t.audit.head}</h2>
          <p className="quiet">{t.audit.headHelp}</p>
          <CopyText text={head} name={t.audit.head} />
        </section>
      )}
    </div>
  );
}

function FilterForm({ filter }: { filter: Filter }) {
  const t = useManageText();
  const id = useId();
  const [f, set] = useState(filter);
  const apply = (next: Filter) => navigate(`/audit${formatFilter(next)}`);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    apply({ ...f, user: f.user.trim(), action: f.action.trim() });
  };
  return (
    <form className="panel audit-filter" onSubmit={submit} aria-label={t.audit.filter}>
      <div className="field">
        <label htmlFor={`${id}-user`}>{t.audit.user}</label>
        <input id={`${id}-user`} className="input" maxLength={200} autoComplete="off" spellCheck={false} value={f.user} onChange={(e) => set({ ...f, user: e.target.value })} />
      </div>
      <div className="field">
        <label htmlFor={`${id}-action`}>{t.audit.action}</label>
        <input id={`${id}-action`} className="input" maxLength={63} autoComplete="off" spellCheck={false} value={f.action} onChange={(e) => set({ ...f, action: e.target.value })} />
      </div>
      <div className="field">
        <label htmlFor={`${id}-category`}>{t.audit.category}</label>
        <select
          id={`${id}-category`}
          className="select"
          value={f.category}
          onChange={(e) => set({ ...f, category: categories.find((c) => c === e.target.value) ?? '' })}
        >
          <option value="">{t.audit.any}</option>
          {categories.map((c) => (
            <option key={c} value={c}>
              {t.audit.categories[c]}
            </option>
          ))}
        </select>
      </div>
      <div className="field">
        <label htmlFor={`${id}-level`}>{t.audit.level}</label>
        <select id={`${id}-level`} className="select" value={f.level} onChange={(e) => set({ ...f, level: levels.find((l) => l === e.target.value) ?? '' })}>
          <option value="">{t.audit.any}</option>
          {levels.map((l) => (
            <option key={l} value={l}>
              {t.audit.levels[l]}
            </option>
          ))}
        </select>
      </div>
      <div className="field audit-since">
        <label htmlFor={`${id}-since`}>{t.audit.since}</label>
        <input id={`${id}-since`} className="input" type="datetime-local" value={toField(f.since)} onChange={(e) => set({ ...f, since: fromField(e.target.value) })} />
      </div>
      <div className="audit-filter-do">
        <button type="submit" className="button button-main">
          {t.audit.apply}
        </button>
        {formatFilter(filter) !== '' && (
          <button type="button" className="button" onClick={() => apply(noFilter)}>
            {t.audit.clear}
          </button>
        )}
      </div>
    </form>
  );
}

function Entries({ of }: { of: readonly AuditEntry[] }) {
  const t = useManageText();
  return (
    <table className="list audit-list">
      <thead>
        <tr>
          <th scope="col">{t.audit.time}</th>
          <th scope="col">{t.audit.level}</th>
          <th scope="col">{t.audit.action}</th>
          <th scope="col">{t.audit.status}</th>
          <th scope="col">{t.audit.user}</th>
          <th scope="col">{t.audit.details}</th>
        </tr>
      </thead>
      <tbody>
        {of.map((e) => (
          <Entry key={e.seq} of={e} />
        ))}
      </tbody>
    </table>
  );
}

function Entry({ of: e }: { of: AuditEntry }) {
  const t = useManageText();
  const text = useText();
  const { clock } = useLive();
  const at = ms(e.timestamp);
  const members = Object.entries(e.details);
  return (
    <tr>
      <td className="audit-time">{at === null ? e.timestamp : <time dateTime={e.timestamp}>{moment(at, clock.exact(), text)}</time>}</td>
      <td>
        <Level of={e.level} />
      </td>
      <td data-name={t.audit.action}>
        <code>{e.action}</code>
        <div className="quiet small">{t.audit.categories[e.category] ?? e.category}</div>
      </td>
      <td data-name={t.audit.status}>
        <span className={e.status === 'success' ? undefined : 'bad'}>{t.audit.statuses[e.status] ?? e.status}</span>
      </td>
      <td data-name={t.audit.user} className="audit-user">
        <TextOr value={e.user_email ?? e.user_id} />
        <div className="quiet small">{[e.user_role, e.ip_address].filter(Boolean).join(', ')}</div>
      </td>
      <td data-name={t.audit.details}>
        <details>
          <summary>{members.length === 0 ? t.audit.more : members.map(([k, v]) => `${k}: ${short(v)}`).join(', ')}</summary>
          <dl className="audit-members">
            {[...members, ['event_id', e.event_id] as const, ['seq', e.seq] as const, ['hash', e.hash] as const].map(([k, v]) => (
              <div key={k}>
                <dt>{k}</dt>
                <dd>{typeof v === 'string' ? v : JSON.stringify(v)}</dd>
              </div>
            ))}
          </dl>
        </details>
      </td>
    </tr>
  );
}

/** A value in one line, cut where it is long: the whole of it is below. */
function short(v: unknown): string {
  const text = typeof v === 'string' ? v : JSON.stringify(v);
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

function Level({ of }: { of: AuditEntry['level'] }) {
  const t = useManageText();
  const name = t.audit.levels[of] ?? of;
  if (of === 'INFO') return <span className="quiet">{name}</span>;
  const tone = of === 'ERROR' || of === 'CRITICAL' ? 'bad' : 'warn';
  return (
    <span className={`badge badge-${tone}`}>
      <Mark shape="warn" /> {name}
    </span>
  );
}

const exportPage = 500;
/** Entries that one file may hold: what is more belongs to the command line. */
const exportPages = 200;

function Export({ filter }: { filter: Filter }) {
  const t = useManageText();
  const [said, say] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);

  const run = async (format: Format) => {
    const control = new AbortController();
    stop.current?.abort();
    stop.current = control;
    setBusy(true);
    setError(null);
    say('');
    try {
      let read = 0;
      const { items, more } = await allPages<AuditEntry, AuditList>(async (cursor) => {
        const p = await page(filter, exportPage, cursor, control.signal);
        read += p.items.length;
        say(t.audit.exporting(t.count(read)));
        return p;
      }, exportPages);
      download(`audit-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.${format}`, asFile(items, format), format === 'csv' ? 'text/csv' : 'application/jsonl');
      say(more ? t.audit.exportedPart(t.count(items.length)) : t.audit.exported(t.count(items.length)));
    } catch (err) {
      if (control.signal.aborted) return;
      say('');
      setError(err);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="audit-export">
      <span className="quiet small" role="status">
        {said}
      </span>
      <button type="button" className="button" disabled={busy} onClick={() => void run('jsonl')}>
        {t.audit.exportJson}
      </button>
      <button type="button" className="button" disabled={busy} onClick={() => void run('csv')}>
        {t.audit.exportCsv}
      </button>
      {error !== null && <Problem title={t.audit.exportFailed} error={error} />}
    </div>
  );
}

function download(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the file when the click returns; a moment more costs nothing.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
