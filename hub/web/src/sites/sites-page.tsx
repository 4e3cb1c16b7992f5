// The sites: is each one linked, how old is its newest data, and what do its miners do. A cut link is
// never shown as miners that are down.
import { lazy, Suspense, useMemo, useState, type ReactNode } from 'react';
import { minerStates, type Agent, type Site } from '../api/types';
import { useAge, useClock, useLive } from '../app/live';
import { useMay } from '../app/may';
import { useAgents, useSites } from '../app/queries';
import { Link, navigate } from '../app/router';
import { isStale } from '../fleet/row';
import { formatView, plainView } from '../fleet/view';
import { count, decimal, duration, moment, ms, powerSum, rateSum, type Quantity } from '../format';
import { useText } from '../text/text';
import { Ago, ErrorBoundary, Mark, Problem, TextOr, Value } from '../ui/parts';

// The charts are not needed to show the sites: they load with the first card that shows its history.
const SiteHistoryCharts = lazy(() => import('./site-history'));
// Nor is what only some keys may see or do.
const ConnectButton = lazy(() => import('./connect-button'));
const Joining = lazy(() => import('./joining'));
const SiteLink = lazy(() => import('./site-link'));
const CaNotice = lazy(() => import('./ca-notice'));
const TunnelNotice = lazy(() => import('./tunnel-notice'));

/** With more sites than these a card shows its history only when asked: each is a question to the hub. */
const openHistories = 3;

export function SitesPage() {
  const t = useText();
  const may = useMay();
  const sites = useSites();
  const agents = useAgents();
  const bySite = useMemo(() => new Map((agents.data?.items ?? []).map((a) => [a.site_id, a])), [agents.data]);
  if (sites.isPending) return <p className="quiet">{t.loading}</p>;
  if (!sites.data) return <Problem title={t.sites.loadError} error={sites.error} onRetry={() => void sites.refetch()} />;
  const items = [...(sites.data.items ?? [])].sort((a, b) => a.name.localeCompare(b.name));
  return (
    <div className="sites">
      <div className="page-head">
        <h1>{t.sites.title}</h1>
        <span className="quiet">{t.sites.count(items.length)}</span>
        {may('sites:write') && (
          <Area name="connect">
            <ConnectButton sites={items} />
          </Area>
        )}
      </div>
      {sites.error && <Problem title={t.sites.loadError} error={sites.error} />}
      {may('sites:write') && (
        <Area name="joining">
          <Joining />
        </Area>
      )}
      {may('peers:read') && (
        <Area name="tunnel">
          <TunnelNotice />
        </Area>
      )}
      {items.length === 0 ? (
        <p className="notice">{t.sites.none}</p>
      ) : (
        <>
          <Overall sites={items} />
          <ul className="site-list">
            {items.map((s) => (
              <li key={s.id}>
                <SitePanel site={s} agent={bySite.get(s.id)} history={items.length <= openHistories} />
              </li>
            ))}
          </ul>
        </>
      )}
      {may('certificates:read') && (
        <Area name="certificates">
          <CaNotice />
        </Area>
      )}
    </div>
  );
}

/** A part that loads by itself and fails by itself. */
function Area({ name, children }: { name: string; children: ReactNode }) {
  const t = useText();
  return (
    <ErrorBoundary title={t.error.title} area={name}>
      <Suspense fallback={null}>{children}</Suspense>
    </ErrorBoundary>
  );
}

const sum = (sites: readonly Site[], of: (s: Site) => number | undefined): number | null => {
  const known = sites.map(of).filter((n) => n !== undefined);
  return known.length === 0 ? null : known.reduce((a, b) => a + b, 0);
};

const attention = (s: Site) =>
  s.miners.degraded + s.miners.overheated + s.miners.faulty + s.miners.no_pool + s.miners.unknown;

function Overall({ sites }: { sites: readonly Site[] }) {
  const t = useText();
  const miners = sum(sites, (s) => s.miners.total) ?? 0;
  const stale = sum(sites, (s) => s.miners.stale) ?? 0;
  const connected = sites.filter((s) => s.connected).length;
  return (
    <section className="figures" aria-label={t.sites.overall}>
      <Figure label={t.sites.hashrate} of={rateSum(sum(sites, (s) => s.hashrate_hs), t)} />
      <Figure label={t.sites.power} of={powerSum(sum(sites, (s) => s.power_w), t)} />
      <Figure label={t.sites.miners} of={count(miners)} note={stale > 0 ? t.sites.staleMiners(stale) : undefined} />
      <Figure
        label={t.sites.notHashing}
        of={count(sum(sites, attention))}
        title={t.sites.notHashingHint}
        note={
          <Link to={`/fleet${formatView({ ...plainView, states: ['degraded', 'overheated', 'faulty', 'no_pool', 'unknown'] })}`}>
            {t.sites.show}
          </Link>
        }
      />
      <Figure label={t.sites.sitesConnected} of={{ value: t.sites.of(connected, sites.length), unit: '' }} />
    </section>
  );
}

function Figure({ label, of, note, title }: { label: string; of: Quantity | null; note?: ReactNode; title?: string }) {
  return (
    <div className="figure" title={title}>
      <div className="figure-label">{label}</div>
      <div className="figure-value">
        <Value of={of} />
      </div>
      <div className="figure-note">{note}</div>
    </div>
  );
}

function SitePanel({ site, agent, history }: { site: Site; agent: Agent | undefined; history: boolean }) {
  const t = useText();
  const [chosen, choose] = useState<boolean | null>(null);
  const open = chosen ?? history;
  const fleet = `/fleet${formatView({ ...plainView, site: site.id })}`;
  return (
    <article className={`panel site${site.connected && !site.revoked_at ? '' : ' site-cut'}`} aria-labelledby={`site-${site.id}`}>
      <div className="site-head">
        <h2 id={`site-${site.id}`}>
          <Link to={fleet}>{site.name}</Link>
        </h2>
        <LinkBadge site={site} />
      </div>
      <LinkHelp site={site} />
      <div className="site-body">
        <States site={site} />
        <dl className="facts">
          <Fact label={t.sites.hashrate}>
            <Value of={rateSum(site.hashrate_hs, t)} />
          </Fact>
          <Fact label={t.sites.power}>
            <Value of={powerSum(site.power_w, t)} />
          </Fact>
          <Fact label={t.sites.lastBatch}>
            <Ago atMs={ms(site.last_batch_at)} />
          </Fact>
          <Fact label={t.sites.interval}>
            {site.poll_interval_s === undefined ? <TextOr value={null} /> : duration(site.poll_interval_s, t)}
          </Fact>
          <Fact label={t.sites.skew}>
            <Skew skewMs={site.clock_skew_ms} />
          </Fact>
          <Fact label={t.sites.agent}>
            <TextOr value={site.agent_version ?? agent?.version} />
          </Fact>
          {agent && (
            <Fact label={t.sites.committed}>
              <Value of={count(agent.committed_batches)} />
            </Fact>
          )}
        </dl>
      </div>
      <Area name={`link ${site.id}`}>
        <SiteLink site={site} agent={agent} />
      </Area>
      <section className="site-history" aria-label={t.sites.historyOf(site.name)}>
        <button type="button" className="button button-quiet" aria-expanded={open} onClick={() => choose(!open)}>
          {open ? t.sites.hideHistory : t.sites.showHistory}
        </button>
        {open && (
          <ErrorBoundary title={t.error.title} area={`history ${site.id}`}>
            <Suspense fallback={<p className="quiet">{t.loading}</p>}>
              <SiteHistoryCharts id={site.id} />
            </Suspense>
          </ErrorBoundary>
        )}
      </section>
    </article>
  );
}

export function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div className="fact">
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** How long until a moment; one that has passed is a warning. */
export function Until({ atMs }: { atMs: number | null }) {
  const t = useText();
  const { clock } = useLive();
  const seconds = useClock((now) => (atMs === null ? null : Math.floor((atMs - now) / 60_000) * 60));
  if (seconds === null) return <TextOr value={null} />;
  if (seconds >= 0) {
    return <span title={atMs === null ? undefined : moment(atMs, clock.exact(), t)}>{t.age.ahead(duration(seconds, t))}</span>;
  }
  return (
    <span className="bad">
      <Mark shape="warn" /> {t.age.passed(duration(-seconds, t))}
    </span>
  );
}

/** Linked, but without a batch for longer than a site that polls could be. */
function useSilent(site: Site): boolean {
  const last = ms(site.last_batch_at);
  return useClock((now) => site.connected && last !== null && isStale(last + 10_000, site.poll_interval_s, now));
}

function LinkBadge({ site }: { site: Site }) {
  const t = useText();
  const seen = useAge(ms(site.last_seen_at));
  const quietFor = useAge(ms(site.last_batch_at));
  const silent = useSilent(site);
  if (site.revoked_at) {
    return (
      <span className="badge badge-bad">
        <Mark shape="cut" /> {t.sites.revoked}
      </span>
    );
  }
  if (silent) {
    return (
      <span className="badge badge-warn">
        <Mark shape="warn" /> {t.sites.silent(quietFor ?? '')}
      </span>
    );
  }
  if (site.connected) {
    return (
      <span className="badge badge-good">
        <Mark shape="ok" /> {t.sites.connected}
      </span>
    );
  }
  return (
    <span className="badge badge-bad">
      <Mark shape="cut" /> {seen === null ? t.sites.never : t.sites.cut(seen)}
    </span>
  );
}

function LinkHelp({ site }: { site: Site }) {
  const t = useText();
  const { clock } = useLive();
  const silent = useSilent(site);
  const seen = ms(site.last_seen_at);
  const notes: string[] = [];
  const revoked = ms(site.revoked_at);
  if (revoked !== null) notes.push(t.sites.revokedHelp(moment(revoked, clock.exact(), t), site.revoked_why ?? t.none));
  else if (!site.connected) notes.push(seen === null ? t.sites.neverHelp : t.sites.cutHelp(moment(seen, clock.exact(), t)));
  if (silent) notes.push(t.sites.silentHelp);
  const skew = Math.abs(site.clock_skew_ms ?? 0);
  if (skew > 2_000) notes.push(skew > 30_000 ? t.sites.skewBad : t.sites.skewWarn);
  if (site.pending_links > 0) notes.push(t.sites.backlog(site.pending_links));
  if (notes.length === 0) return null;
  return (
    <div className="site-help">
      {notes.map((n) => (
        <p key={n}>{n}</p>
      ))}
    </div>
  );
}

function Skew({ skewMs }: { skewMs: number | undefined }) {
  if (skewMs === undefined) return <TextOr value={null} />;
  const size = Math.abs(skewMs);
  const sign = size < 5 ? '' : skewMs < 0 ? '−' : '+'; // nothing remains of less after rounding
  const text = `${sign}${decimal(size / 1000, size < 10_000 ? 2 : 0)} s`;
  if (size <= 2_000) return <>{text}</>;
  return (
    <span className={size > 30_000 ? 'bad' : 'low'}>
      <Mark shape="warn" /> {text}
    </span>
  );
}

/** The states as one bar, and as numbers that lead to the miners in question. */
function States({ site }: { site: Site }) {
  const t = useText();
  const go = (to: string) => () => navigate(to);
  const present = minerStates.filter((s) => site.miners[s] > 0);
  const total = Math.max(1, present.reduce((n, s) => n + site.miners[s], 0));
  const view = { ...plainView, site: site.id };
  return (
    <div className="states">
      <svg className="state-bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">
        {present.map((s, i) => {
          const before = present.slice(0, i).reduce((n, k) => n + site.miners[k], 0);
          return (
            <rect
              key={s}
              className={`bar-${s}`}
              x={(before / total) * 1000}
              y="0"
              width={(site.miners[s] / total) * 1000}
              height="10"
              onClick={go(`/fleet${formatView({ ...view, states: [s] })}`)}
            />
          );
        })}
      </svg>
      <ul className="state-counts" aria-label={t.sites.byState}>
        <li>
          <Link to={`/fleet${formatView(view)}`} className="state-count">
            <span className="state-number">{site.miners.total.toLocaleString('en')}</span> {t.sites.miners}
          </Link>
        </li>
        {present.map((s) => (
          <li key={s}>
            <Link to={`/fleet${formatView({ ...view, states: [s] })}`} className={`state-count state state-${s}`}>
              <Mark shape={s} /> <span className="state-number">{site.miners[s].toLocaleString('en')}</span>{' '}
              {t.state[s]}
            </Link>
          </li>
        ))}
        {site.miners.stale > 0 && (
          <li>
            <Link to={`/fleet${formatView({ ...view, age: 'stale' })}`} className="state-count age-stale">
              <Mark shape="stale" /> <span className="state-number">{site.miners.stale.toLocaleString('en')}</span>{' '}
              {t.age.stale}
            </Link>
          </li>
        )}
      </ul>
    </div>
  );
}
