// The page's questions to the hub about contracts, their months, excuses and statements.
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Assignment, Contract, Customer, DayMiner, Excuse } from '../api/types';
import { allPages, type Page } from '../app/pages';

export const contractKeys = {
  customers: ['customers'] as const,
  contracts: ['contracts'] as const,
  contract: (id: string) => ['contract', id] as const,
  assignments: (id: string) => ['contract', id, 'assignments'] as const,
  sla: (id: string, month: string) => ['contract', id, 'sla', month] as const,
  slaMiners: (id: string, month: string) => ['contract', id, 'sla-miners', month] as const,
  daySlots: (id: string, day: string) => ['contract', id, 'day', day] as const,
  minerSlots: (id: string, site: string, miner: string, month: string) => ['contract', id, 'slots', site, miner, month] as const,
  why: (id: string, site: string, miner: string, at: number) => ['contract', id, 'why', site, miner, at] as const,
  excuses: ['excuses'] as const,
  excusesOf: (month: string) => ['excuses', month] as const,
  statements: ['statements'] as const,
  statementsOf: (contract: string) => ['statements', contract] as const,
  statement: (hash: string) => ['statement', hash] as const,
  disputes: ['disputes'] as const,
};

const at = (cursor: string | undefined) => (cursor ? { cursor } : {});

export function useCustomers(enabled = true) {
  return useQuery({
    queryKey: contractKeys.customers,
    enabled,
    refetchInterval: 60_000,
    queryFn: ({ signal }) => allPages<Customer, Page<Customer>>((cursor) => call(http.GET('/api/customers', { signal, params: { query: { limit: 500, ...at(cursor) } } })), 10),
  });
}

export function useContracts(enabled = true) {
  return useQuery({
    queryKey: contractKeys.contracts,
    enabled,
    refetchInterval: 60_000,
    queryFn: ({ signal }) => allPages<Contract, Page<Contract>>((cursor) => call(http.GET('/api/contracts', { signal, params: { query: { limit: 500, ...at(cursor) } } })), 10),
  });
}

export function useContract(id: string) {
  return useQuery({
    queryKey: contractKeys.contract(id),
    refetchInterval: 60_000,
    queryFn: ({ signal }) => call(http.GET('/api/contracts/{id}', { signal, params: { path: { id } } })),
  });
}

/** Every assignment of a contract, those that have ended too. */
export function useAssignments(id: string) {
  return useQuery({
    queryKey: contractKeys.assignments(id),
    refetchInterval: 60_000,
    queryFn: ({ signal }) =>
      allPages<Assignment, Page<Assignment>>((cursor) => call(http.GET('/api/contracts/{id}/miners', { signal, params: { path: { id }, query: { limit: 1000, ...at(cursor) } } })), 50),
  });
}

export function useSla(id: string, month: string) {
  return useQuery({
    queryKey: contractKeys.sla(id, month),
    refetchInterval: 30_000,
    queryFn: ({ signal }) => call(http.GET('/api/contracts/{id}/sla', { signal, params: { path: { id }, query: { month } } })),
  });
}

export function useSlaMiners(id: string, month: string) {
  return useInfiniteQuery({
    queryKey: contractKeys.slaMiners(id, month),
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => call(http.GET('/api/contracts/{id}/sla/miners', { signal, params: { path: { id }, query: { month, limit: 100, ...at(pageParam) } } })),
    getNextPageParam: (last) => last.next,
  });
}

/** The slots of all miners of a day: 5,000 of them are five pages. */
export function useDaySlots(id: string, day: string) {
  return useQuery({
    queryKey: contractKeys.daySlots(id, day),
    refetchInterval: 60_000,
    queryFn: ({ signal }) =>
      allPages<DayMiner, Page<DayMiner>>((cursor) => call(http.GET('/api/contracts/{id}/slots/day', { signal, params: { path: { id }, query: { day, limit: 1000, ...at(cursor) } } })), 100),
  });
}

export function useMinerSlots(id: string, site: string, miner: string, month: { name: string; first: string; last: string }, enabled: boolean) {
  return useQuery({
    queryKey: contractKeys.minerSlots(id, site, miner, month.name),
    enabled,
    refetchInterval: 60_000,
    queryFn: ({ signal }) =>
      call(http.GET('/api/contracts/{id}/slots', { signal, params: { path: { id }, query: { site_id: site, miner_id: miner, from_day: month.first, to_day: month.last } } })),
  });
}

export function useWhy(id: string, site: string, miner: string, atMs: number) {
  return useQuery({
    queryKey: contractKeys.why(id, site, miner, atMs),
    queryFn: ({ signal }) =>
      call(http.GET('/api/contracts/{id}/why', { signal, params: { path: { id }, query: { site_id: site, miner_id: miner, at: new Date(atMs).toISOString() } } })),
  });
}

export function useExcuses(month: string, from: string, to: string) {
  return useQuery({
    queryKey: contractKeys.excusesOf(month),
    refetchInterval: 60_000,
    queryFn: ({ signal }) => allPages<Excuse, Page<Excuse>>((cursor) => call(http.GET('/api/excuses', { signal, params: { query: { from, to, limit: 500, ...at(cursor) } } })), 10),
  });
}

export function useStatements(contract?: string) {
  return useInfiniteQuery({
    queryKey: contract === undefined ? contractKeys.statements : contractKeys.statementsOf(contract),
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => call(http.GET('/api/statements', { signal, params: { query: { limit: 50, ...(contract === undefined ? {} : { contract_id: contract }), ...at(pageParam) } } })),
    getNextPageParam: (last) => last.next,
  });
}

export function useStatement(hash: string) {
  return useQuery({
    queryKey: contractKeys.statement(hash),
    queryFn: ({ signal }) => call(http.GET('/api/statements/{hash}', { signal, params: { path: { hash } } })),
  });
}

export function useDisputes() {
  return useInfiniteQuery({
    queryKey: contractKeys.disputes,
    initialPageParam: undefined as string | undefined,
    refetchInterval: 60_000,
    queryFn: ({ pageParam, signal }) => call(http.GET('/api/disputes', { signal, params: { query: { limit: 100, ...at(pageParam) } } })),
    getNextPageParam: (last) => last.next,
  });
}
