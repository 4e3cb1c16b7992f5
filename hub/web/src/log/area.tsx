// What the log's two pages share: where one is, a list whose entries open, members that can be copied.
import { useId, useState, type ReactNode } from 'react';
import { Link } from '../app/router';
import { Utc } from '../contracts/area';
import { useLogText } from '../text/log';
import { CopyText } from '../ui/copy';
import '../ui/manage.css';
import '../contracts/contracts.css';
import './log.css';

export function LogArea({ here, lead, onRefresh, children }: { here: 'log' | 'anchors'; lead: string; onRefresh: () => void; children: ReactNode }) {
  const t = useLogText();
  return (
    <div className="management log-area">
      <nav className="tabs" aria-label={t.tabs.label}>
        {(['log', 'anchors'] as const).map((a) => (
          <Link key={a} to={`/${a}`} className="tab" aria-current={a === here ? 'page' : undefined}>
            {t.tabs[a]}
          </Link>
        ))}
        {/* A document of its own, outside of this page. */}
        <a className="tab" href="/verify/">
          {t.tabs.verify}
        </a>
      </nav>
      <div className="page-head">
        <h1>
          {t.title}
          <span className="sr">: {t.tabs[here]}</span>
        </h1>
        <button type="button" className="button button-quiet page-do" onClick={onRefresh}>
          {t.refresh}
        </button>
      </div>
      <p className="quiet contract-lead">{lead}</p>
      {children}
    </div>
  );
}

/** A row of a list with a button that opens what belongs to it below. */
export function OpenRow({ name, label, columns, cells, children }: { name: string; label: string; columns: number; cells: ReactNode; children: () => ReactNode }) {
  const id = useId();
  const [open, setOpen] = useState(false);
  return (
    <>
      <tr className={open ? 'log-row log-row-open' : 'log-row'}>
        <td>
          <button type="button" className="button button-quiet log-open" aria-expanded={open} aria-controls={open ? id : undefined} aria-label={label} onClick={() => setOpen(!open)}>
            <span aria-hidden="true" className="log-arrow">
              {open ? '▾' : '▸'}
            </span>{' '}
            {name}
          </button>
        </td>
        {cells}
      </tr>
      {open && (
        <tr className="log-detail-row">
          <td colSpan={columns} id={id}>
            <section className="log-detail" aria-label={label}>
              {children()}
            </section>
          </td>
        </tr>
      )}
    </>
  );
}

/** A member that can be copied; nothing where there is none. */
export function Member({ name, text }: { name: string; text: string | undefined }) {
  if (!text) return null;
  return (
    <div className="log-member">
      <h3>{name}</h3>
      <CopyText text={text} name={name} />
    </div>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** A moment, or that there was none. */
export function When({ at }: { at: string | undefined }) {
  const t = useLogText();
  return at === undefined ? <span className="none">{t.anchors.never}</span> : <Utc at={at} />;
}
