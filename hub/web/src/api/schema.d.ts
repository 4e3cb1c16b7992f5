export interface paths {
  '/api/session': {
    get: { responses: { 200: { content: { 'application/json': Session } } } };
    post: { requestBody: { content: { 'application/json': { key: string } } }; responses: { 204: { content?: never } } };
    delete: { responses: { 204: { content?: never } } };
  };
  '/health': { get: { responses: { 200: { content: { 'application/json': Health } } } } };
  '/api/sites': {
    get: {
      parameters: { query?: { cursor?: string; limit?: number } };
      responses: { 200: { content: { 'application/json': { count: number; items: Site[] | null; next?: string } } } };
    };
  };
  '/api/agents': {
    get: { responses: { 200: { content: { 'application/json': { count: number; items: Agent[] | null } } } } };
  };
  '/api/miners/{id}': {
    get: {
      parameters: { path: { id: string } };
      responses: { 200: { content: { 'application/json': MinerDetail } } };
    };
  };
  '/api/miners/{id}/series': {
    get: {
      parameters: { path: { id: string }; query?: { from?: string; to?: string; step?: string; fields?: string } };
      responses: { 200: { content: { 'application/json': Series } } };
    };
  };
  '/api/snapshot': { get: { responses: { 200: { content: { 'application/json': Snapshot } } } } };
}
interface Session { key_id: string; name: string; permissions: string[] | null; expires_at?: string }
interface Health { status: string; timestamp: string; version: string }
interface StateCounts {
  total: number; hashing: number; degraded: number; sleeping: number; overheated: number; faulty: number;
  no_pool: number; starting: number; unknown: number; stale: number;
}
interface Site {
  id: string; name: string; connected: boolean; last_batch_at?: string; last_seen_at?: string; agent_version?: string;
  clock_skew_ms?: number; poll_interval_s?: number; pending_links: number; miners: StateCounts; hashrate_hs?: number; power_w?: number;
}
interface Agent {
  site_id: string; site_name: string; connected: boolean; remote_address?: string; version?: string; connected_at?: string;
  last_seen_at?: string; spool_id?: string; newest_seq?: number; committed_batches: number; certificate_not_after?: string; clock_skew_ms?: number;
}
interface Miner {
  id: string; site_id: string; site_name: string; address: string; mac?: string; serial?: string; maker?: string; model?: string;
  firmware?: string; firmware_version?: string; state: string; outcome: string; at: string; age_s: number; stale: boolean;
  hashrate_hs?: number; hashrate_window_s?: number; hashrate_avg_hs?: number; ideal_hashrate_hs?: number; temp_board_c?: number;
  temp_chip_c?: number; temp_inlet_c?: number; fans_rpm?: (number | null)[]; power_w?: number; uptime_s?: number; accepted?: number;
  rejected?: number; stale_shares?: number; hardware_errors?: number; best_share?: number; worker?: string; last_answer_at?: string; readings_at?: string;
}
interface MinerDetail extends Miner {
  boards?: { index: number; chips?: number; chips_working?: number; hashrate_hs?: number; frequency_mhz?: number; hardware_errors?: number; temps_c?: number[] | null }[] | null;
  pools?: { url: string; worker: string; priority?: number; alive?: boolean; active?: boolean; accepted?: number; rejected?: number; stale?: number }[] | null;
  errors?: string[] | null; repairs?: string[] | null;
}
interface Series { from: string; to: string; step_s: number; times: number[] | null; fields: { [k: string]: (number | null)[] | null } }
interface Snapshot { at: string; version: number; columns: string[] | null; sites: { id: string; name: string }[] | null; rows: unknown[][] | null }
