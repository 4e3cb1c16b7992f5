// Names for the shapes of the hub's answers, taken from the generated schema and nowhere else.
import type { paths } from './schema';

type Get<P extends keyof paths> = paths[P] extends {
  get: { responses: { 200: { content: { 'application/json': infer T } } } };
}
  ? T
  : never;

type Made<P extends keyof paths> = paths[P] extends {
  post: { responses: { 201: { content: { 'application/json': infer T } } } };
}
  ? T
  : never;

export type Session = Get<'/api/session'>;
export type Health = Get<'/health'>;
export type SiteList = Get<'/api/sites'>;
export type Site = NonNullable<SiteList['items']>[number];
export type AgentList = Get<'/api/agents'>;
export type Agent = NonNullable<AgentList['items']>[number];
export type PeerList = Get<'/api/peers'>;
export type Peer = PeerList['items'][number];
export type JoinToken = Get<'/api/join-tokens'>['items'][number];
export type NewJoinToken = Made<'/api/join-tokens'>;
export type ApiKey = Get<'/api/apikeys'>['items'][number];
export type NewApiKey = Made<'/api/apikeys'>;
export type AuditList = Get<'/api/audit'>;
export type AuditEntry = AuditList['items'][number];
export type AuditFilter = NonNullable<paths['/api/audit']['get']['parameters']['query']>;
export type MinerDetail = Get<'/api/miners/{id}'>;
export type Board = NonNullable<MinerDetail['boards']>[number];
export type Pool = NonNullable<MinerDetail['pools']>[number];
export type Series = Get<'/api/miners/{id}/series'>;
export type BoardsSeries = Get<'/api/miners/{id}/boards'>;
export type PoolsSeries = Get<'/api/miners/{id}/pools'>;
export type SiteSeries = Get<'/api/sites/{id}/series'>;
export type Snapshot = Get<'/api/snapshot'>;

export type Customer = Get<'/api/customers'>['items'][number];
export type Contract = Get<'/api/contracts'>['items'][number];
export type ContractDetail = Get<'/api/contracts/{id}'>;
export type ContractVersion = ContractDetail['versions'][number];
export type Terms = ContractVersion['terms'];
export type Assignment = Get<'/api/contracts/{id}/miners'>['items'][number];
export type Excuse = Get<'/api/excuses'>['items'][number];
export type Sla = Get<'/api/contracts/{id}/sla'>;
export type SlotCounts = Sla['slots'];
export type DayMiner = Get<'/api/contracts/{id}/slots/day'>['items'][number];
export type Why = Get<'/api/contracts/{id}/why'>;
export type WhyPoll = Why['polls'][number];
export type WhyExcuse = Why['excuses'][number];
export type Statement = Get<'/api/statements'>['items'][number];
export type StatementDetail = Get<'/api/statements/{hash}'>;
export type LogCheckpoint = Get<'/api/log/checkpoint'>;
export type LogEntry = Get<'/api/log/entries'>['items'][number];
export type Anchor = Get<'/api/anchors'>['items'][number];
export type ProofState = Get<'/api/statements/{hash}/proof/status'>;
export type AnchorStatus = Get<'/api/anchors/status'>;
export type AnchorProblem = NonNullable<AnchorStatus['problem']>;
export type AnchorProblemParams = NonNullable<AnchorProblem['params']>;
export type StatementChanges = NonNullable<StatementDetail['changes']>;

/** What the events stream sends once a second: whole rows and sites that changed since the event before. */
export type Patch = paths['/api/events']['get']['responses'][200]['content']['text/event-stream'];

/** The states a miner can be in, in the order in which the page shows them. */
export const minerStates = [
  'hashing',
  'degraded',
  'overheated',
  'faulty',
  'no_pool',
  'starting',
  'sleeping',
  'unknown',
] as const;
export type MinerState = (typeof minerStates)[number];

/** Reads a state as the hub wrote it; one that this page does not know yet is shown as unknown. */
export function parseState(s: unknown): MinerState {
  return minerStates.find((known) => known === s) ?? 'unknown';
}
