// The page's questions about the log, its anchors and proofs.
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';
import type { ProofState } from '../api/types';
import type { EntryKind } from './entry';

export const logKeys = {
  checkpoint: ['log', 'checkpoint'] as const,
  entries: (kind: string) => ['log', 'entries', kind] as const,
  inclusion: (index: number, size: number) => ['log', 'inclusion', index, size] as const,
  anchors: ['anchors', 'list'] as const,
  anchorStatus: ['anchors', 'status'] as const,
  proofState: (hash: string) => ['proof', 'statement', hash] as const,
};

/** Whether the hub has no such thing yet, which is no failure: a log without a checkpoint. */
export const isNothingYet = (err: unknown): boolean => err instanceof ApiError && (err.status === 404 || err.status === 409);

export function useCheckpoint() {
  return useQuery({ queryKey: logKeys.checkpoint, refetchInterval: 15_000, queryFn: ({ signal }) => call(http.GET('/api/log/checkpoint', { signal })) });
}

export function useEntries(kind: EntryKind | undefined) {
  return useInfiniteQuery({
    queryKey: logKeys.entries(kind ?? ''),
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => call(http.GET('/api/log/entries', { signal, params: { query: { limit: 50, ...(kind ? { kind } : {}), ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next,
  });
}

export function useInclusion(index: number, size: number) {
  return useQuery({
    queryKey: logKeys.inclusion(index, size),
    enabled: index < size,
    staleTime: Infinity, // of one size it never changes
    queryFn: ({ signal }) => call(http.GET('/api/log/entries/{index}/inclusion', { signal, params: { path: { index }, query: { size } } })),
  });
}

export function useAnchors() {
  return useInfiniteQuery({
    queryKey: logKeys.anchors,
    initialPageParam: undefined as string | undefined,
    refetchInterval: 15_000,
    queryFn: ({ pageParam, signal }) => call(http.GET('/api/anchors', { signal, params: { query: { limit: 50, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    getNextPageParam: (last) => last.next,
  });
}

export function useAnchorStatus() {
  return useQuery({ queryKey: logKeys.anchorStatus, refetchInterval: 10_000, queryFn: ({ signal }) => call(http.GET('/api/anchors/status', { signal })) });
}

export function useProofState(hash: string) {
  return useQuery<ProofState>({
    queryKey: logKeys.proofState(hash),
    refetchInterval: (q) => (q.state.data?.final ? false : 15_000),
    queryFn: ({ signal }) => call(http.GET('/api/statements/{hash}/proof/status', { signal, params: { path: { hash } } })),
  });
}
