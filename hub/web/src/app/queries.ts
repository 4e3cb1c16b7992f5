// The page's questions to the hub that are not part of the live stream.
import { QueryClient, useQuery } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';
import type { ApiKey, JoinToken, Peer, PeerList } from '../api/types';
import { allPages } from './pages';

export const keys = {
  session: ['session'] as const,
  health: ['health'] as const,
  sites: ['sites'] as const,
  agents: ['agents'] as const,
  miner: (id: string) => ['miner', id] as const,
  series: (id: string) => ['series', id] as const,
  siteSeries: (id: string) => ['site-series', id] as const,
  peers: ['peers'] as const,
  joinTokens: ['join-tokens'] as const,
  waitingSites: ['waiting-sites'] as const,
  apiKeys: ['api-keys'] as const,
  authorities: ['authorities'] as const,
  audit: (filter: object) => ['audit', filter] as const,
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
export function useSites(enabled = true) {
  return useQuery({ queryKey: keys.sites, enabled, refetchInterval: 15_000, queryFn: ({ signal }) => call(http.GET('/api/sites', { signal })) });
}

export function useAgents() {
  return useQuery({
    queryKey: keys.agents,
    refetchInterval: 30_000,
    queryFn: ({ signal }) => call(http.GET('/api/agents', { signal })),
  });
}

/** Each site's end of the tunnel by the site's id, and the hub's end. */
export function usePeers(enabled: boolean) {
  return useQuery({
    queryKey: keys.peers,
    enabled,
    refetchInterval: 15_000,
    queryFn: async ({ signal }) => {
      const { items, first } = await allPages<Peer, PeerList>(
        (cursor) => call(http.GET('/api/peers', { signal, params: { query: { limit: 500, ...(cursor ? { cursor } : {}) } } })),
        20,
      );
      return { tunnel: first.tunnel, bySite: new Map(items.map((p) => [p.site_id, p])) };
    },
  });
}

/** No token is good for longer, so older ones need not be read to find those that can be used. */
const longestToken = 24 * 3_600_000; // ms

/** The newest tokens, among them all that can still be used. */
export function useJoinTokens(enabled: boolean) {
  return useQuery({
    queryKey: keys.joinTokens,
    enabled,
    refetchInterval: 5_000,
    queryFn: async ({ signal }) => {
      const from = Date.now() - 2 * longestToken; // twice: this computer's clock may be off
      const { items, more } = await allPages<JoinToken, { items: JoinToken[]; next?: string }>(
        (cursor) => call(http.GET('/api/join-tokens', { signal, params: { query: { limit: 200, ...(cursor ? { cursor } : {}) } } })),
        10,
        (last) => Date.parse(last.created_at) < from,
      );
      return { items, more };
    },
  });
}

/** The sites that wait for a person to compare fingerprints, the longest waiting first. */
export function useWaitingSites(enabled: boolean) {
  return useQuery({
    queryKey: keys.waitingSites,
    enabled,
    refetchInterval: 5_000,
    queryFn: async ({ signal }) => (await call(http.GET('/api/join-tokens/waiting', { signal }))).items,
  });
}

/** API keys, the newest first, those that have ended too; more says that there are older ones. */
export function useApiKeys() {
  return useQuery({
    queryKey: keys.apiKeys,
    refetchInterval: 60_000,
    queryFn: async ({ signal }) => {
      const { items, more } = await allPages<ApiKey, { items: ApiKey[]; next?: string }>(
        (cursor) => call(http.GET('/api/apikeys', { signal, params: { query: { limit: 500, ...(cursor ? { cursor } : {}) } } })),
        4,
      );
      return { items, more };
    },
  });
}
