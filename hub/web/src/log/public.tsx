// The log and its anchors for whoever has no key. Where the hub does not show them without one, it asks for the key.
import { lazy, Suspense, useEffect } from 'react';
import { ApiError } from '../api/client';
import { Link } from '../app/router';
import { SignIn } from '../app/sign-in';
import { LanguageChoice } from '../text/language-choice';
import { useLogText } from '../text/log';
import { useText } from '../text/text';
import { ErrorBoundary } from '../ui/parts';
import { useCheckpoint } from './queries';

const LogPage = lazy(() => import('./log-page'));
const AnchorsPage = lazy(() => import('../anchors/anchors-page'));

export default function PublicPages({ page }: { page: 'log' | 'anchors' }) {
  const t = useText();
  const l = useLogText();
  const checkpoint = useCheckpoint();
  const refused = checkpoint.error instanceof ApiError && checkpoint.error.status === 401;
  const shown = !checkpoint.isPending && !refused;
  useEffect(() => {
    if (shown) document.title = t.title(l.title);
  }, [shown, t, l]);
  if (checkpoint.isPending) return <p className="splash">{t.loading}</p>;
  if (refused) return <SignIn />;
  return (
    <div className="frame">
      <a className="skip" href="#content">
        {t.skip}
      </a>
      <header className="top">
        <Link to="/" className="brand">
          <img src="/mark.svg" alt="" width="22" height="22" /> <span>{t.product}</span>
        </Link>
        <span className="quiet">{l.publicNote}</span>
        <div className="account">
          <LanguageChoice />
          <Link to="/" className="button">
            {l.signIn}
          </Link>
        </div>
      </header>
      <main id="content" tabIndex={-1} className="content">
        <ErrorBoundary title={t.error.title} area={page}>
          <Suspense fallback={<p className="quiet">{t.loading}</p>}>{page === 'log' ? <LogPage key="log" /> : <AnchorsPage key="anchors" />}</Suspense>
        </ErrorBoundary>
      </main>
    </div>
  );
}
