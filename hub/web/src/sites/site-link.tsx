// One site's link: its end of the tunnel, how it reaches the hub, and what may be done about it.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Agent, Peer, Site } from '../api/types';
import { useAge } from '../app/live';
import { useMay } from '../app/may';
import { keys, usePeers } from '../app/queries';
import { bytes, join, ms } from '../format';
import { useManageText } from '../text/manage';
import { useText } from '../text/text';
import { Dialog, Field } from '../ui/dialog';
import { Ago, Mark, Problem, TextOr } from '../ui/parts';
import { ConnectDialog } from './connect';
import { wayOf } from './link-state';
import { Fact, Until } from './sites-page';

type Open = 'rotate' | 'revoke' | 'let-in' | null;

export default function SiteLink({ site, agent }: { site: Site; agent: Agent | undefined }) {
  const t = useManageText();
  const may = useMay();
  const peers = usePeers(may('peers:read'));
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const peer = peers.data?.bySite.get(site.id);
  const enabled = peers.data?.tunnel.enabled ?? false;
  return (
    <section className="site-link" aria-label={t.link.of(site.name)}>
      <div className="site-link-head">
        <h3>{t.link.title}</h3>
        {peer && <TunnelBadge peer={peer} />}
        {peers.data && !peer && !site.revoked_at && <span className="quiet small">{enabled ? t.link.noPeer : t.link.hubOff}</span>}
        <div className="site-do">
          {peer && may('peers:write') && (
            <button type="button" className="button button-quiet" aria-label={t.link.rotateOf(site.name)} onClick={() => setOpen('rotate')}>
              {t.link.rotate}
            </button>
          )}
          {site.revoked_at && may('sites:write') && (
            <button type="button" className="button" aria-label={t.link.letInOf(site.name)} onClick={() => setOpen('let-in')}>
              {t.link.letIn}
            </button>
          )}
          {!site.revoked_at && may('sites:revoke') && (
            <button type="button" className="button button-quiet" aria-label={t.link.revokeOf(site.name)} onClick={() => setOpen('revoke')}>
              {t.link.revoke}
            </button>
          )}
        </div>
      </div>
      {peer?.quarantined_at && (
        <div className="notice notice-bad">
          <p>
            <Mark shape="warn" /> {t.link.quarantined(peer.quarantine_reason ?? '')}
          </p>
          <p className="quiet">{t.link.quarantineHelp}</p>
        </div>
      )}
      <Facts site={site} agent={agent} peer={peer} />
      {open === 'rotate' && <RotateDialog site={site} onClose={close} />}
      {open === 'revoke' && <RevokeDialog site={site} onClose={close} />}
      {open === 'let-in' && <ConnectDialog sites={[site]} siteName={site.name} onClose={close} />}
    </section>
  );
}

function TunnelBadge({ peer }: { peer: Peer }) {
  const t = useManageText();
  const [tone, shape] = ({ connected: ['good', 'ok'], silent: ['warn', 'warn'], never_seen: ['warn', 'warn'], quarantined: ['bad', 'cut'] } as const)[peer.state];
  return (
    <span className={`badge badge-${tone}`}>
      <Mark shape={shape} /> {t.link.states[peer.state] ?? peer.state}
    </span>
  );
}

function Facts({ site, agent, peer }: { site: Site; agent: Agent | undefined; peer: Peer | undefined }) {
  const t = useManageText();
  const text = useText();
  const way = wayOf(site.connected, agent?.remote_address, peer?.address);
  const wanted = useAge(ms(peer?.rotate_wanted_at));
  const handshake = ms(peer?.handshake_at);
  return (
    <dl className="facts">
      <Fact label={t.link.way}>
        <TextOr value={way && t.link.ways[way]} />
      </Fact>
      {agent && (
        <Fact label={t.link.certificate}>
          <Until atMs={ms(agent.certificate_not_after)} />
        </Fact>
      )}
      {peer && (
        <>
          <Fact label={t.link.address}>{peer.address}</Fact>
          <Fact label={t.link.endpoint}>
            <TextOr value={peer.observed_endpoint ?? peer.endpoint} />
          </Fact>
          <Fact label={t.link.handshake}>{handshake === null ? <span className="none">{t.link.noHandshake}</span> : <Ago atMs={handshake} />}</Fact>
          <Fact label={t.link.traffic}>
            {join(bytes(peer.received_bytes), text)} / {join(bytes(peer.sent_bytes), text)}
          </Fact>
          {(peer.next_public_key !== undefined || wanted !== null) && (
            <Fact label={t.link.newKey}>{peer.next_public_key === undefined ? t.link.newKeyWanted(wanted ?? '') : t.link.newKeyMade}</Fact>
          )}
        </>
      )}
    </dl>
  );
}

function RotateDialog({ site, onClose }: { site: Site; onClose: () => void }) {
  const t = useManageText();
  const queries = useQueryClient();
  const rotate = useMutation({
    mutationFn: () => call(http.POST('/api/peers/{id}/rotate', { params: { path: { id: site.id } } })),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: keys.peers });
      onClose();
    },
  });
  return (
    <Dialog title={t.link.rotateTitle(site.name)} onClose={onClose}>
      <p>{t.link.rotateHelp}</p>
      {rotate.error && <Problem title={t.link.rotateFailed} error={rotate.error} />}
      <div className="dialog-buttons">
        <button type="button" className="button" onClick={onClose}>
          {t.cancel}
        </button>
        <button type="button" className="button button-main" disabled={rotate.isPending} onClick={() => rotate.mutate()}>
          {t.link.rotateDo}
        </button>
      </div>
    </Dialog>
  );
}

function RevokeDialog({ site, onClose }: { site: Site; onClose: () => void }) {
  const t = useManageText();
  const queries = useQueryClient();
  const id = useId();
  const [why, setWhy] = useState('');
  const [typed, setTyped] = useState('');
  const revoke = useMutation({
    mutationFn: () => call(http.POST('/api/sites/{id}/revoke', { params: { path: { id: site.id } }, body: { why: why.trim() } })),
    onSuccess: async () => {
      await Promise.all([keys.sites, keys.peers, keys.agents].map((queryKey) => queries.invalidateQueries({ queryKey })));
      onClose();
    },
  });
  const ready = why.trim() !== '' && typed.trim() === site.name.trim();
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !revoke.isPending) revoke.mutate();
  };
  return (
    <Dialog title={t.link.revokeTitle(site.name)} onClose={onClose}>
      <ul className="effects">
        {t.link.revokeEffects.map((effect) => (
          <li key={effect}>{effect}</li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <Field label={t.link.why} htmlFor={`${id}-why`} hint={t.link.whyHint} hintId={`${id}-hint`}>
          <input id={`${id}-why`} className="input" required maxLength={500} value={why} aria-describedby={`${id}-hint`} onChange={(e) => setWhy(e.target.value)} />
        </Field>
        <Field label={t.link.typeName(site.name)} htmlFor={`${id}-name`}>
          <input id={`${id}-name`} className="input" required autoComplete="off" spellCheck={false} value={typed} onChange={(e) => setTyped(e.target.value)} />
        </Field>
        {revoke.error && <Problem title={t.link.revokeFailed} error={revoke.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-bad" disabled={!ready || revoke.isPending}>
            {revoke.isPending ? t.link.revoking : t.link.revokeDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
