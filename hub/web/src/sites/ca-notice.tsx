// What is wrong with the certificate authority, which every site's link rests on.
import { useQuery } from '@tanstack/react-query';
import { call, http } from '../api/client';
import { keys } from '../app/queries';
import { useManageText } from '../text/manage';
import { Mark, Problem } from '../ui/parts';

export default function CaNotice() {
  const t = useManageText();
  const status = useQuery({
    queryKey: keys.authorities,
    refetchInterval: 60_000,
    // The roots and the warnings come with every page of certificates: the smallest will do.
    queryFn: ({ signal }) => call(http.GET('/api/certificates', { signal, params: { query: { kind: 'hub', limit: 1 } } })),
  });
  if (status.error) return <Problem title={t.ca.loadError} error={status.error} onRetry={() => void status.refetch()} />;
  const notReady = status.data?.sites_not_ready ?? [];
  const notes = [...(status.data?.warnings ?? []), ...(notReady.length > 0 ? [t.ca.notReady(notReady.join(', '))] : [])];
  if (notes.length === 0) return null;
  return (
    <section className="notice" aria-label={t.ca.warnings}>
      <p className="notice-title">
        <Mark shape="warn" /> {t.ca.warnings}
      </p>
      {notes.map((note) => (
        <p key={note}>{note}</p>
      ))}
    </section>
  );
}
