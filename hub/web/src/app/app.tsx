// The frame of the page: who is signed in, where one is, and whether the data is live.
import { lazy, Suspense, useEffect, type ReactNode } from 'react';
import { useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Session } from '../api/types';
import { FleetPage } from '../fleet/fleet-page';
import { SitesPage } from '../sites/sites-page';
import { LanguageChoice } from '../text/language-choice';
import { useLanguage, useText } from '../text/text';
import { ErrorBoundary, Problem } from '../ui/parts';
import { LiveProvider } from './live';
import { useMay } from './may';
import { keys, useSession } from './queries';
import { Link, navigate, parseRoute, usePath } from './router';
import { SignIn } from './sign-in';
import { StatusBar } from './status-bar';

// The charts are not needed to show the fleet: they load with the first miner that is opened.
const MinerPage = lazy(() => import('../miner/miner-page'));
// Nor is what only some keys may see.
const KeysPage = lazy(() => import('../keys/keys-page'));
const AuditPage = lazy(() => import('../audit/audit-page'));
// Nor are contracts and what is around them.
const ContractsPage = lazy(() => import('../contracts/contracts-page'));
const ContractPage = lazy(() => import('../contracts/contract-page'));
const CustomersPage = lazy(() => import('../contracts/customers-page'));
const ExcusesPage = lazy(() => import('../excuses/excuses-page'));
const StatementsPage = lazy(() => import('../statements/statements-page'));
const StatementPage = lazy(() => import('../statements/statement-page'));
const DisputesPage = lazy(() => import('../disputes/disputes-page'));
// Nor are the log and its anchors, which a hub may show without a key too.
const LogPage = lazy(() => import('../log/log-page'));
const AnchorsPage = lazy(() => import('../anchors/anchors-page'));
const PublicPages = lazy(() => import('../log/public'));

/** Areas around contracts share one entry of the navigation: the first of them that the key may see. */
const contractAreas = [
  ['/contracts', 'contracts:read'],
  ['/statements', 'statements:read'],
  ['/disputes', 'disputes:read'],
  ['/customers', 'customers:read'],
] as const;

export function App() {
  const t = useText();
  const session = useSession();
  const { language } = useLanguage();
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);

  if (session.isPending) return <p className="splash">{t.loading}</p>;
  // While a signed-in session is only being checked again, a hub that is away must not hide the page.
  if (session.error && session.data === undefined) {
    return (
      <main className="splash">
        <Problem title={t.product} error={session.error} onRetry={() => void session.refetch()} />
      </main>
    );
  }
  if (!session.data) return <WithoutKey />;
  return (
    <LiveProvider fleet={session.data.permissions.includes('miners:read')}>
      <Frame session={session.data} />
    </LiveProvider>
  );
}

function WithoutKey() {
  const t = useText();
  const { page } = parseRoute(usePath());
  if (page !== 'log' && page !== 'anchors') return <SignIn />;
  return (
    <ErrorBoundary title={t.error.title} area={page}>
      <Suspense fallback={<p className="splash">{t.loading}</p>}>
        <PublicPages page={page} />
      </Suspense>
    </ErrorBoundary>
  );
}

function Frame({ session }: { session: Session }) {
  const t = useText();
  const may = useMay();
  const path = usePath();
  const contracts = contractAreas.find(([, needed]) => may(needed))?.[0];
  // Whoever may not see sites begins where their contracts are.
  const start = path === '/' && !may('sites:read') ? (contracts ?? '/') : path;
  const route = parseRoute(start);
  let page: ReactNode;
  let title: string;
  switch (route.page) {
    case 'sites':
      [page, title] = [<SitesPage key="sites" />, t.nav.sites];
      break;
    case 'fleet':
      [page, title] = [<FleetPage key="fleet" />, t.nav.fleet];
      break;
    case 'miner':
      [page, title] = [<MinerPage key={route.id} id={route.id} />, t.nav.fleet];
      break;
    case 'keys':
      [page, title] = [<KeysPage key="keys" />, t.nav.keys];
      break;
    case 'audit':
      [page, title] = [<AuditPage key="audit" />, t.nav.audit];
      break;
    case 'contracts':
      [page, title] = [<ContractsPage key="contracts" />, t.nav.contracts];
      break;
    case 'contract':
      [page, title] = [<ContractPage key={route.id} id={route.id} part={route.part} />, t.nav.contracts];
      break;
    case 'customers':
      [page, title] = [<CustomersPage key="customers" />, t.nav.contracts];
      break;
    case 'excuses':
      [page, title] = [<ExcusesPage key="excuses" />, t.nav.contracts];
      break;
    case 'statements':
      [page, title] = [<StatementsPage key="statements" />, t.nav.contracts];
      break;
    case 'statement':
      [page, title] = [<StatementPage key={route.hash} hash={route.hash} />, t.nav.contracts];
      break;
    case 'disputes':
      [page, title] = [<DisputesPage key="disputes" />, t.nav.contracts];
      break;
    case 'log':
      [page, title] = [<LogPage key="log" />, t.log.nav];
      break;
    case 'anchors':
      [page, title] = [<AnchorsPage key="anchors" />, t.log.nav];
      break;
    case 'unknown':
      [page, title] = [<NotFound key="unknown" />, t.product];
  }
  useEffect(() => {
    document.title = t.title(title);
  }, [t, title]);

  return (
    <div className="frame">
      <a className="skip" href="#content">
        {t.skip}
      </a>
      <header className="top">
        <Link to="/" className="brand">
          <img src="/mark.svg" alt="" width="22" height="22" /> <span>{t.product}</span>
        </Link>
        <nav aria-label={t.nav.label}>
          {may('sites:read') && (
            <NavLink to="/" here={route.page === 'sites'}>
              {t.nav.sites}
            </NavLink>
          )}
          {may('miners:read') && (
            <NavLink to="/fleet" here={route.page === 'fleet' || route.page === 'miner'}>
              {t.nav.fleet}
            </NavLink>
          )}
          {contracts !== undefined && (
            <NavLink to={contracts} here={aroundContracts.has(route.page)}>
              {t.nav.contracts}
            </NavLink>
          )}
          {may('apikeys:read') && (
            <NavLink to="/keys" here={route.page === 'keys'}>
              {t.nav.keys}
            </NavLink>
          )}
          {may('audit:read') && (
            <NavLink to="/audit" here={route.page === 'audit'}>
              {t.nav.audit}
            </NavLink>
          )}
          <NavLink to="/log" here={route.page === 'log' || route.page === 'anchors'}>
            {t.log.nav}
          </NavLink>
          <a className="nav-link" href="/verify/">
            {t.nav.verify}
          </a>
          <a className="nav-link" href="/docs/">
            {t.nav.docs}
          </a>
        </nav>
        <Account session={session} />
      </header>
      <main id="content" tabIndex={-1} className={`content content-${route.page}`}>
        <ErrorBoundary title={t.error.title} area={path}>
          <Suspense fallback={<p className="quiet">{t.loading}</p>}>{page}</Suspense>
        </ErrorBoundary>
      </main>
      <ErrorBoundary title={t.error.title} area="status">
        <StatusBar />
      </ErrorBoundary>
    </div>
  );
}

const aroundContracts: ReadonlySet<string> = new Set(['contracts', 'contract', 'customers', 'excuses', 'statements', 'statement', 'disputes']);

function NavLink({ to, here, children }: { to: string; here: boolean; children: ReactNode }) {
  return (
    <Link to={to} className="nav-link" aria-current={here ? 'page' : undefined}>
      {children}
    </Link>
  );
}

function NotFound() {
  const t = useText();
  return (
    <div className="notice">
      <p>{t.error.notFound}</p>
      <Link to="/">{t.error.goSites}</Link>
    </div>
  );
}

function Account({ session }: { session: Session }) {
  const t = useText();
  const queries = useQueryClient();
  const signOut = async () => {
    try {
      await call(http.DELETE('/api/session'));
    } finally {
      navigate('/', 'replace');
      queries.setQueryData(keys.session, null);
      // What was shown belongs to the key that has just left.
      queries.removeQueries({ predicate: (q) => q.queryKey[0] !== keys.session[0] });
    }
  };
  return (
    <div className="account">
      <LanguageChoice />
      <span className="account-name" title={t.account.signedInAs(session.name)}>
        {session.name}
      </span>
      <button type="button" className="button button-quiet" onClick={() => void signOut()}>
        {t.account.signOut}
      </button>
    </div>
  );
}
