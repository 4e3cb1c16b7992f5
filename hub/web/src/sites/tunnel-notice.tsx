// What is wrong with the tunnel as a whole: once, not on every site.
import { usePeers } from '../app/queries';
import { useManageText } from '../text/manage';
import { Mark, Problem } from '../ui/parts';

export default function TunnelNotice() {
  const t = useManageText();
  const peers = usePeers(true);
  if (peers.error) return <Problem title={t.link.loadError} error={peers.error} onRetry={() => void peers.refetch()} />;
  const tunnel = peers.data?.tunnel;
  if (!tunnel?.problem) return null;
  return (
    <p className="notice notice-bad">
      <Mark shape="warn" /> {t.link.hubProblem(tunnel.problem)}
    </p>
  );
}
