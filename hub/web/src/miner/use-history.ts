// Fetches a miner's history and keeps its end current: whole once for a range, then only the tail each
// time the live stream brings a new sample of that miner.
import { useEffect } from 'react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import { keys } from '../app/queries';
import { append, ranges, readSeries, type History, type RangeId } from './series';

async function fetchSeries(id: string, fromS: number, toS: number, stepS: number, signal?: AbortSignal): Promise<History> {
  const series = await call(
    http.GET('/api/miners/{id}/series', {
      signal,
      params: {
        path: { id },
        query: {
          from: new Date(fromS * 1000).toISOString(),
          to: new Date(toS * 1000).toISOString(),
          step: `${stepS}s`,
        },
      },
    }),
  );
  return readSeries(series);
}

export function useHistory(id: string, range: RangeId, stepS: number, nowMs: () => number, newestMs: number | null) {
  const queries = useQueryClient();
  const query = useQuery({
    queryKey: [...keys.series(id), range, stepS],
    staleTime: 10 * 60_000,
    // A backlog that arrives after an outage fills gaps far behind the tail.
    refetchInterval: 2 * 60_000,
    queryFn: ({ signal }) => {
      const now = nowMs() / 1000;
      const from = Math.floor((now - ranges[range]) / stepS) * stepS;
      return fetchSeries(id, from, now, stepS, signal);
    },
  });
  const loaded = query.data !== undefined;
  useEffect(() => {
    if (newestMs === null || !loaded) return;
    const key = [...keys.series(id), range, stepS];
    const stop = new AbortController();
    const bring = async () => {
      const old = queries.getQueryData<History>(key);
      const last = old?.times.at(-1);
      if (!old || last === undefined) {
        // Nothing was recorded before: the first sample is a reason to ask for the whole range again.
        await queries.invalidateQueries({ queryKey: key });
        return;
      }
      const now = nowMs() / 1000;
      // Two steps back: a sample may arrive after its step is over.
      const tail = await fetchSeries(id, last - stepS, now, stepS, stop.signal);
      queries.setQueryData<History>(key, (current) => current && append(current, tail, now - ranges[range] - stepS));
    };
    // A missed tail is no loss: the next sample brings it, or the whole range is fetched again.
    bring().catch(() => undefined);
    return () => stop.abort();
  }, [newestMs, loaded, id, range, stepS, nowMs, queries]);
  return query;
}
