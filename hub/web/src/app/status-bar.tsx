// The line at the foot of the page: is what one sees live, how old is it, which hub is this.
import { duration } from '../format';
import { useText } from '../text/text';
import { Mark } from '../ui/parts';
import { useAge, useClock, useFleet, useLink } from './live';
import { useMay } from './may';
import { useHealth } from './queries';

export function StatusBar() {
  const t = useText();
  const may = useMay();
  const store = useFleet();
  const health = useHealth();
  const updated = useAge(store.ready ? store.atMs : null);
  return (
    <footer className="status">
      {may('miners:read') ? <LinkState /> : <span className="link">{t.link.none}</span>}
      {updated !== null && <span className="status-part">{t.link.update(updated)}</span>}
      {store.ready && <span className="status-part status-miners">{t.link.miners(store.size)}</span>}
      {health.data && <span className="status-part status-hub">{t.link.hub(health.data.version)}</span>}
    </footer>
  );
}

function LinkState() {
  const t = useText();
  const link = useLink();
  const name = { live: t.link.live, connecting: t.link.connecting, lost: t.link.lost, 'signed-out': t.link.signedOut }[
    link.state
  ];
  return (
    <span className={`link link-${link.state}`}>
      <Mark shape={link.state === 'live' ? 'hashing' : link.state === 'lost' ? 'cut' : 'unknown'} />{' '}
      <span className="sr">{t.link.label}: </span>
      {/* Spoken only when the state changes, not with every second of an interruption. */}
      <span role="status">{name}</span>
      {link.state === 'lost' && <LostFor sinceMs={link.sinceMs} />}
    </span>
  );
}

function LostFor({ sinceMs }: { sinceMs: number }) {
  const t = useText();
  // sinceMs is of this computer's clock, and so is the difference.
  const text = useClock(() => duration((Date.now() - sinceMs) / 1000, t));
  return <span>, {t.link.lostFor(text)}</span>;
}
