// The history of a miner's boards and pools: one line for each, in the range that the page shows.
import { useQuery, type UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { call, http } from '../api/client';
import type { BoardsSeries, PoolsSeries } from '../api/types';
import { keys } from '../app/queries';
import { Chart } from '../chart/chart';
import type { Grid, Stretch, Values } from '../chart/grid';
import { decimal, join, rate } from '../format';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';
import { anyKnown, boardParts, gridOf, perMinute, poolParts, shareOf, type Part } from './part-series';
import { ranges, type RangeId } from './series';

interface Props {
  id: string;
  range: RangeId;
  stepS: number;
  nowMs: () => number;
  /** Where the miner was not polled or did not answer: then nothing is known of its parts either. */
  stretches: readonly Stretch[];
}

/** Asks for a part's series, whole, and again while it is looked at. */
function useParts<T>(
  what: string,
  { id, range, stepS, nowMs }: Props,
  ask: (query: { from: string; to: string; step: string }, signal: AbortSignal) => Promise<T>,
) {
  return useQuery({
    queryKey: [...keys.series(id), what, range, stepS],
    refetchInterval: Math.max(30, stepS) * 1_000,
    queryFn: ({ signal }) => {
      const now = nowMs() / 1000;
      const from = Math.floor((now - ranges[range]) / stepS) * stepS;
      const time = (s: number) => new Date(s * 1000).toISOString();
      return ask({ from: time(from), to: time(now), step: `${stepS}s` }, signal);
    },
  });
}

export function BoardCharts(props: Props) {
  const t = useText();
  const { id, stretches } = props;
  const answer = useParts<BoardsSeries>('boards', props, (query, signal) =>
    call(http.GET('/api/miners/{id}/boards', { signal, params: { path: { id }, query } })),
  );
  const c = t.chart.boards;
  return (
    <Section title={c.title} none={c.none} id="board-history" answer={answer} count={answer.data?.boards.length ?? 0}>
      {answer.data && (
        <Lines
          grid={gridOf(answer.data)}
          stretches={stretches}
          parts={boardParts(answer.data, c.board)}
          charts={[
            {
              title: c.hashrate, unit: t.unit.ths, of: (p) => p.values('hashrate_hs').map((v) => (v === null ? null : v / 1e12)),
              format: (v) => join(rate(v * 1e12, t), t),
            },
            { title: c.temp, unit: t.unit.c, of: (p) => p.values('temp_c'), format: (v) => `${decimal(v, 1)} ${t.unit.c}` },
            { title: c.chips, unit: '', of: (p) => p.values('chips_working'), format: (v) => decimal(v, 0) },
          ]}
        />
      )}
    </Section>
  );
}

export function PoolCharts(props: Props) {
  const t = useText();
  const { id, stretches } = props;
  const answer = useParts<PoolsSeries>('pools', props, (query, signal) =>
    call(http.GET('/api/miners/{id}/pools', { signal, params: { path: { id }, query } })),
  );
  const c = t.chart.pools;
  const data = answer.data;
  const shares = (field: string) => (p: Part) => (data ? perMinute(p.values(field), gridOf(data), Date.parse(data.to) / 1000) : []);
  const perMin = (v: number) => `${decimal(v, v < 10 ? 2 : 1)} ${t.unit.perMin}`;
  return (
    <Section title={c.title} none={c.none} id="pool-history" answer={answer} count={data?.pools.length ?? 0}>
      {data && (
        <Lines
          grid={gridOf(data)}
          stretches={stretches}
          parts={poolParts(data)}
          charts={[
            { title: c.accepted, unit: t.unit.perMin, of: shares('accepted'), format: perMin },
            { title: c.rejected, unit: t.unit.perMin, of: shares('rejected'), format: perMin },
            {
              title: c.alive, unit: t.unit.percent, of: (p) => shareOf(p.values('alive'), p.values('polls')),
              format: (v) => `${decimal(v, 1)} ${t.unit.percent}`, bounds: [0, 105],
            },
          ]}
        />
      )}
    </Section>
  );
}

interface SectionProps {
  id: string;
  title: string;
  none: string;
  answer: UseQueryResult<unknown>;
  count: number; // boards or pools
  children: ReactNode;
}

function Section({ id, title, none, answer, count, children }: SectionProps) {
  const t = useText();
  return (
    <section className="history-parts" aria-labelledby={id}>
      <div className="panel-head">
        <h2 id={id}>{title}</h2>
      </div>
      {answer.error && !answer.data ? (
        <Problem title={t.chart.loadError} error={answer.error} onRetry={() => void answer.refetch()} />
      ) : answer.isPending ? (
        <p className="quiet">{t.loading}</p>
      ) : count === 0 ? (
        <p className="notice">{none}</p>
      ) : (
        children
      )}
    </section>
  );
}

interface PartChart {
  title: string;
  unit: string;
  of: (p: Part) => Values;
  format: (v: number) => string;
  bounds?: readonly [number, number];
}

/** One chart for each reading that any part has. */
function Lines({ grid, stretches, parts, charts }: { grid: Grid; stretches: readonly Stretch[]; parts: readonly Part[]; charts: readonly PartChart[] }) {
  return (
    <div className="charts">
      {charts.map((c) => {
        const lines = parts.map((p) => ({ name: p.name, values: c.of(p) }));
        if (!anyKnown(lines.map((l) => l.values))) return null;
        return (
          <Chart key={c.title} title={c.title} unit={c.unit} grid={grid} stretches={stretches} lines={lines} format={c.format} bounds={c.bounds} />
        );
      })}
    </div>
  );
}
