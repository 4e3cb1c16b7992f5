// What every area of the page shares once someone is signed in: the clock, the fleet and its stream.
import { createContext, use, useEffect, useState, useSyncExternalStore, type ReactNode } from 'react';
import { useQueryClient, type QueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Site, SiteList } from '../api/types';
import { Clock } from '../clock';
import { isStale, type MinerRow } from '../fleet/row';
import { FleetStore } from '../fleet/store';
import { FleetStream, type Link } from '../fleet/stream';
import { duration } from '../format';
import { useText } from '../text/text';
import { keys } from './queries';

interface Live {
  clock: Clock;
  store: FleetStore;
  stream: FleetStream;
}

const Context = createContext<Live | null>(null);

/** fleet: whether the key may see miners; who may not is sent no stream, and asks for none. */
export function LiveProvider({ fleet, children }: { fleet: boolean; children: ReactNode }) {
  const queries = useQueryClient();
  const [live] = useState(() => newLive(queries));
  useEffect(() => {
    if (!fleet) return;
    const { stream } = live;
    // When the hub no longer knows this session, asking for it again shows the sign-in page.
    const unsubscribe = stream.subscribe(() => {
      if (stream.link().state === 'signed-out') void queries.invalidateQueries({ queryKey: keys.session });
    });
    stream.start();
    return () => {
      unsubscribe();
      void stream.close();
    };
  }, [live, queries, fleet]);
  return <Context value={live}>{children}</Context>;
}

function newLive(queries: QueryClient): Live {
  const clock = new Clock();
  const store = new FleetStore();
  const stream = new FleetStream({
    store,
    snapshot: (signal) => call(http.GET('/api/snapshot', { signal })),
    onHubTime: (ms) => clock.observe(ms),
    onSites: (changed) => {
      queries.setQueryData<SiteList>(keys.sites, (old) => old && { ...old, items: mergeSites(old.items ?? [], changed) });
    },
  });
  return { clock, store, stream };
}

function mergeSites(old: readonly Site[], changed: readonly Site[]): Site[] {
  const merged = new Map(old.map((s) => [s.id, s]));
  for (const s of changed) merged.set(s.id, s);
  return [...merged.values()];
}

export function useLive(): Live {
  const live = use(Context);
  if (!live) throw new Error('useLive outside of LiveProvider');
  return live;
}

export function useLink(): Link {
  const { stream } = useLive();
  return useSyncExternalStore(stream.subscribe, stream.link);
}

/** Renders again whenever the fleet changed, at most once a second. */
export function useFleet(): FleetStore {
  const { store } = useLive();
  useSyncExternalStore(store.subscribe, store.changes);
  return store;
}

/** One miner's live row; renders again only when that row changes. */
export function useMinerRow(id: string): MinerRow | undefined {
  const { store } = useLive();
  return useSyncExternalStore(store.subscribe, () => store.get(id));
}

/** A value derived from the clock: renders again only when the derived value changes, so that ten
 * thousand ages cost what the visible changes cost. */
export function useClock<T extends string | number | boolean | null>(derive: (nowMs: number) => T): T {
  const { clock } = useLive();
  return useSyncExternalStore(clock.subscribe, () => derive(clock.now()));
}

export function useStale(atMs: number | null, pollIntervalS: number | null | undefined): boolean {
  return useClock((now) => isStale(atMs, pollIntervalS, now));
}

/** How long ago a moment was, as text that keeps itself current. */
export function useAge(atMs: number | null): string | null {
  const t = useText();
  return useClock((now) => (atMs === null ? null : duration((now - atMs) / 1000, t)));
}
