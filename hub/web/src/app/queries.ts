// The page's questions to the hub that are not part of the live stream.
import { QueryClient, useQuery } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';

export const keys = {
  session: ['session'] as const,
  health: ['health'] as const,
  sites: ['sites'] as const,
  agents: ['agents'] as const,
  miner: (id: string) => ['miner', id] as const,
  series: (id: string) => ['series', id] as const,
  siteSeries: (id: string) => ['site-series', id] as const,
};

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 5_000,
        // A refusal stays one; only an absent or failing hub is worth asking again.
        retry: (failures, err) => failures < 2 && (!(err instanceof ApiError) || err.status === 0 || err.status >= 500),
        refetchOnWindowFocus: true,
      },
    },
  });
}

/** Who is signed in; null when nobody is. */
export function useSession() {
  return useQuery({
    queryKey: keys.session,
    staleTime: 60_000,
    refetchInterval: 5 * 60_000,
    queryFn: async ({ signal }) => {
      try {
        return await call(http.GET('/api/session', { signal }));
      } catch (err) {
        if (err instanceof ApiError && err.status === 401) return null;
        throw err;
      }
    },
  });
}

export function useHealth() {
  return useQuery({
    queryKey: keys.health,
    refetchInterval: 60_000,
    queryFn: ({ signal }) => call(http.GET('/health', { signal })),
  });
}

/** All sites; the live stream replaces single ones between two fetches. */
export function useSites() {
  return useQuery({ queryKey: keys.sites, refetchInterval: 15_000, queryFn: ({ signal }) => call(http.GET('/api/sites', { signal })) });
}

export function useAgents() {
  return useQuery({
    queryKey: keys.agents,
    refetchInterval: 30_000,
    queryFn: ({ signal }) => call(http.GET('/api/agents', { signal })),
  });
}
