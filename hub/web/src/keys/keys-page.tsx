// API keys: who has one, what it may do, when it was last used and when it ends; making, replacing and revoking them.
import { useState, type ReactNode } from 'react';
import type { ApiKey } from '../api/types';
import { useAge, useClock, useLive } from '../app/live';
import { useMay } from '../app/may';
import { useApiKeys, useSession } from '../app/queries';
import { duration, moment, ms } from '../format';
import { useManageText } from '../text/manage';
import { useText } from '../text/text';
import { Mark, Problem } from '../ui/parts';
import { KeyDialog } from './key-dialog';
import { covers, hasEnded, keyMarks, type KeyMark } from './marks';
import { RevokeKeyDialog } from './revoke-key-dialog';
import '../ui/manage.css';
import './keys.css';

type Open = { do: 'make' } | { do: 'copy' | 'revoke'; key: ApiKey } | null;

export default function KeysPage() {
  const t = useManageText();
  const text = useText();
  const may = useMay();
  const session = useSession();
  const list = useApiKeys();
  const { clock } = useLive();
  const [ended, showEnded] = useState(false);
  const [open, setOpen] = useState<Open>(null);
  // Once a minute is enough for marks; they come with the list besides.
  const minute = useClock((now) => Math.floor(now / 60_000));
  if (list.isPending) return <p className="quiet">{text.loading}</p>;
  if (!list.data) return <Problem title={t.keys.loadError} error={list.error} onRetry={() => void list.refetch()} />;
  const now = Math.max(minute * 60_000, clock.now());
  const held = session.data?.permissions ?? [];
  const own = session.data?.key_id;
  const isOwner = list.data.items.some((k) => k.id === own && k.permissions.includes('owner'));
  const rows = list.data.items.map((key) => ({ key, marks: keyMarks(key, now) }));
  const shown = rows.filter((r) => ended || !hasEnded(r.marks));
  const close = () => setOpen(null);
  return (
    <div className="management">
      <div className="page-head">
        <h1>{text.nav.keys}</h1>
        <span className="quiet">{t.keys.count(rows.filter((r) => !hasEnded(r.marks)).length)}</span>
        {may('apikeys:write') && (
          <button type="button" className="button button-main page-do" onClick={() => setOpen({ do: 'make' })}>
            {t.keys.make}
          </button>
        )}
      </div>
      {list.error && <Problem title={t.keys.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      <section className="panel" aria-label={text.nav.keys}>
        <label className="check keys-ended">
          <input type="checkbox" checked={ended} onChange={(e) => showEnded(e.target.checked)} /> {t.keys.showEnded}
        </label>
        <table className="list keys-list">
          <thead>
            <tr>
              <th scope="col">{t.keys.name}</th>
              <th scope="col">{t.keys.permissions}</th>
              <th scope="col">{t.keys.ends}</th>
              <th scope="col">{t.keys.lastUsed}</th>
              <th scope="col">{t.keys.made}</th>
              <th scope="col">
                <span className="sr">{t.keys.actions}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map(({ key, marks }) => {
              const mine = key.id === own;
              const mayDecide = may('apikeys:write') && !hasEnded(marks);
              const all = covers(held, isOwner, key.permissions);
              return (
                <tr key={key.id} className={hasEnded(marks) ? 'key-ended' : undefined}>
                  <td>
                    <strong>{key.name}</strong> {mine && <span className="tag">{t.keys.yours}</span>}
                    {key.customer_id && <div className="quiet small">{t.keys.ofCustomer(key.customer_name ?? key.customer_id)}</div>}
                    {key.user_id && <div className="quiet small">{t.keys.ofUser(key.user_id)}</div>}
                    {key.certificate && <div className="quiet small">{t.keys.byCertificate(key.certificate)}</div>}
                  </td>
                  <td data-name={t.keys.permissions} className="key-permissions">
                    {key.permissions.includes('owner') ? t.keys.everything : key.permissions.join(', ')}
                  </td>
                  <td data-name={t.keys.ends}>
                    <End of={key} marks={marks} />
                  </td>
                  <td data-name={t.keys.lastUsed}>
                    <LastUsed of={key} />
                  </td>
                  <td data-name={t.keys.made}>
                    <AgoText at={key.created_at} />
                  </td>
                  <td className="list-do">
                    {mayDecide && all && (
                      <button type="button" className="button button-quiet" aria-label={t.keys.copyOf(key.name)} onClick={() => setOpen({ do: 'copy', key })}>
                        {t.keys.copy}
                      </button>
                    )}
                    {mayDecide && (all || mine) && (
                      <button type="button" className="button button-quiet" aria-label={t.keys.revokeOf(key.name)} onClick={() => setOpen({ do: 'revoke', key })}>
                        {t.keys.revoke}
                      </button>
                    )}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
        {shown.length === 0 && <p className="quiet">{t.keys.none}</p>}
        {list.data.more && <p className="quiet">{t.keys.moreKeys}</p>}
      </section>
      {open?.do === 'make' && <KeyDialog held={held} isOwner={isOwner} onClose={close} />}
      {open?.do === 'copy' && <KeyDialog held={held} isOwner={isOwner} from={open.key} onClose={close} />}
      {open?.do === 'revoke' && <RevokeKeyDialog apiKey={open.key} mine={open.key.id === own} onClose={close} />}
    </div>
  );
}

function End({ of, marks }: { of: ApiKey; marks: readonly KeyMark[] }) {
  const t = useManageText();
  const text = useText();
  const { clock } = useLive();
  const at = ms(of.expires_at);
  const left = useClock((now) => (at === null ? null : duration((at - now) / 1000, text)));
  const revoked = useAge(ms(of.revoked_at));
  const badges: ReactNode[] = marks.map((mark) => {
    switch (mark) {
      case 'revoked':
        return <Badge key={mark} tone="bad" text={t.keys.revoked(revoked ?? '')} />;
      case 'expired':
        return <Badge key={mark} tone="bad" text={t.keys.expired} />;
      case 'ends3':
        return <Badge key={mark} tone="bad" text={text.age.ahead(left ?? '')} />;
      case 'ends14':
        return <Badge key={mark} tone="warn" text={text.age.ahead(left ?? '')} />;
      case 'old':
        return <Badge key={mark} tone="warn" text={t.keys.old} />;
    }
  });
  const plain = at === null ? t.keys.never : text.age.ahead(left ?? '');
  const spoken = marks.some((m) => m !== 'old');
  return (
    <span className="key-end" title={at === null ? undefined : moment(at, clock.exact(), text)}>
      {!spoken && <span>{plain}</span>}
      {badges}
      {of.revoked_why && <span className="quiet small">{of.revoked_why}</span>}
    </span>
  );
}

function Badge({ tone, text }: { tone: 'bad' | 'warn'; text: string }) {
  return (
    <span className={`badge badge-${tone}`}>
      <Mark shape="warn" /> {text}
    </span>
  );
}

function AgoText({ at }: { at: string }) {
  const text = useText();
  const age = useAge(ms(at));
  return <>{age === null ? text.none : text.age.ago(age)}</>;
}

function LastUsed({ of }: { of: ApiKey }) {
  const t = useManageText();
  if (!of.last_used_at) return <span className="none">{t.keys.neverUsed}</span>;
  return (
    <>
      <AgoText at={of.last_used_at} />
      {of.last_used_address && <div className="quiet small">{of.last_used_address}</div>}
    </>
  );
}
