// Sites on their way in: who waits for approval, and which tokens can still be used.
import { useState } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { JoinToken } from '../api/types';
import { useAge, useClock } from '../app/live';
import { keys, useJoinTokens, useWaitingSites } from '../app/queries';
import { duration, ms } from '../format';
import { useManageText } from '../text/manage';
import { useText } from '../text/text';
import { Dialog } from '../ui/dialog';
import { Problem, TextOr } from '../ui/parts';
import { Fingerprint } from './fingerprint';
import '../ui/manage.css';

const usable = new Set(['open', 'waiting', 'approved']);

export default function Joining() {
  const t = useManageText();
  const tokens = useJoinTokens(true);
  const waiting = useWaitingSites(true);
  const error = tokens.error ?? waiting.error;
  const open = (tokens.data?.items ?? []).filter((x) => usable.has(x.state));
  const waits = waiting.data?.length ?? 0;
  return (
    <div className={error || open.length > 0 || waits > 0 ? 'joining' : 'sr'}>
      {/* Spoken when somebody comes or has gone. */}
      <p role="status" className="sr">
        {waits > 0 && t.join.waitingCount(waits)}
      </p>
      {error && (
        <Problem
          title={t.join.loadError}
          error={error}
          onRetry={() => {
            void tokens.refetch();
            void waiting.refetch();
          }}
        />
      )}
      {waiting.data && waits > 0 && (
        <section aria-label={t.join.waiting}>
          <ul className="waiting-list">
            {waiting.data.map((token) => (
              <li key={token.id}>
                <Waiting token={token} />
              </li>
            ))}
          </ul>
        </section>
      )}
      {open.length > 0 && <Tokens tokens={open} more={tokens.data?.more ?? false} />}
    </div>
  );
}

function Waiting({ token }: { token: JoinToken }) {
  const t = useManageText();
  const came = useAge(ms(token.came_at));
  const [open, setOpen] = useState<'approve' | 'refuse' | null>(null);
  const close = () => setOpen(null);
  return (
    <div className="panel waiting">
      <h3>{t.join.waits(token.site_name)}</h3>
      <p className="quiet">
        {t.join.cameFrom(token.came_from ?? '', came ?? '')}
        {token.agent_version && `, ${t.join.agentVersion(token.agent_version)}`}
      </p>
      <div>
        <p className="quiet small">{t.join.fingerprint}</p>
        <Fingerprint of={token.fingerprint ?? ''} />
      </div>
      <p>{t.join.compare}</p>
      <div className="joining-bar">
        <button type="button" className="button button-main" aria-label={t.join.approveOf(token.site_name)} onClick={() => setOpen('approve')}>
          {t.join.approve}
        </button>
        <button type="button" className="button" aria-label={t.join.refuseOf(token.site_name)} onClick={() => setOpen('refuse')}>
          {t.join.refuse}
        </button>
      </div>
      {open === 'approve' && <DecideDialog token={token} approve onClose={close} />}
      {open === 'refuse' && <DecideDialog token={token} approve={false} onClose={close} />}
    </div>
  );
}

function useReload() {
  const queries = useQueryClient();
  return () => Promise.all([keys.joinTokens, keys.waitingSites, keys.sites].map((queryKey) => queries.invalidateQueries({ queryKey })));
}

function DecideDialog({ token, approve, onClose }: { token: JoinToken; approve: boolean; onClose: () => void }) {
  const t = useManageText();
  const reload = useReload();
  const [same, setSame] = useState(false);
  // The fingerprint that was on the screen when the dialog opened is the one that the hub is told.
  const [fingerprint] = useState(token.fingerprint ?? '');
  const decide = useMutation({
    mutationFn: () => {
      const order = { params: { path: { id: token.id } }, body: { fingerprint } };
      return call(approve ? http.POST('/api/join-tokens/{id}/approve', order) : http.POST('/api/join-tokens/{id}/refuse', order));
    },
    onSuccess: async () => {
      await reload();
      onClose();
    },
  });
  return (
    <Dialog title={approve ? t.join.approveTitle(token.site_name) : t.join.refuseTitle(token.site_name)} onClose={onClose}>
      {approve ? (
        <>
          <p>{t.join.compare}</p>
          <Fingerprint of={fingerprint} />
          <label className="check check-top">
            <input type="checkbox" checked={same} onChange={(e) => setSame(e.target.checked)} /> <span>{t.join.same}</span>
          </label>
        </>
      ) : (
        <p>{t.join.refuseHelp}</p>
      )}
      {decide.error && <Problem title={approve ? t.join.approveFailed : t.join.refuseFailed} error={decide.error} />}
      <div className="dialog-buttons">
        <button type="button" className="button" onClick={onClose}>
          {t.cancel}
        </button>
        <button
          type="button"
          className={`button ${approve ? 'button-main' : 'button-bad'}`}
          disabled={decide.isPending || (approve && !same)}
          onClick={() => decide.mutate()}
        >
          {approve ? t.join.approveDo : t.join.refuseDo}
        </button>
      </div>
    </Dialog>
  );
}

function Tokens({ tokens, more }: { tokens: readonly JoinToken[]; more: boolean }) {
  const t = useManageText();
  const [revoking, setRevoking] = useState<JoinToken | null>(null);
  return (
    <section className="panel" aria-label={t.join.tokens}>
      <h2>{t.join.tokens}</h2>
      <table className="list">
        <thead>
          <tr>
            <th scope="col">{t.join.site}</th>
            <th scope="col">{t.join.state}</th>
            <th scope="col">{t.join.from}</th>
            <th scope="col">{t.join.approvalWanted}</th>
            <th scope="col">{t.join.expires}</th>
            <th scope="col">
              <span className="sr">{t.join.revoke}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {tokens.map((token) => (
            <tr key={token.id}>
              <td>{token.site_name}</td>
              <td data-name={t.join.state}>{t.join.states[token.state] ?? token.state}</td>
              <td data-name={t.join.from}>{token.source ?? t.join.anywhere}</td>
              <td data-name={t.join.approvalWanted}>{token.approval ? t.yes : t.no}</td>
              <td data-name={t.join.expires}>
                <Ahead atMs={ms(token.expires_at)} />
              </td>
              <td className="list-do">
                <button type="button" className="button button-quiet" aria-label={t.join.revokeOf(token.site_name)} onClick={() => setRevoking(token)}>
                  {t.join.revoke}
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {more && <p className="quiet">{t.join.tokensMore}</p>}
      {revoking && <RevokeTokenDialog token={revoking} onClose={() => setRevoking(null)} />}
    </section>
  );
}

function Ahead({ atMs }: { atMs: number | null }) {
  const text = useText();
  const left = useClock((now) => (atMs === null ? null : duration((atMs - now) / 1000, text)));
  return left === null ? <TextOr value={null} /> : <>{text.age.ahead(left)}</>;
}

function RevokeTokenDialog({ token, onClose }: { token: JoinToken; onClose: () => void }) {
  const t = useManageText();
  const reload = useReload();
  const revoke = useMutation({
    mutationFn: () => call(http.DELETE('/api/join-tokens/{id}', { params: { path: { id: token.id } } })),
    onSuccess: async () => {
      await reload();
      onClose();
    },
  });
  return (
    <Dialog title={t.join.revokeTitle(token.site_name)} onClose={onClose}>
      <p>{t.join.revokeHelp}</p>
      {revoke.error && <Problem title={t.join.revokeFailed} error={revoke.error} />}
      <div className="dialog-buttons">
        <button type="button" className="button" onClick={onClose}>
          {t.cancel}
        </button>
        <button type="button" className="button button-bad" disabled={revoke.isPending} onClick={() => revoke.mutate()}>
          {t.join.revoke}
        </button>
      </div>
    </Dialog>
  );
}
