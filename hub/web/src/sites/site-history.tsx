// A day of one site: its hashrate, its power, and how many of its miners answered. Loaded when a card shows it.
import { useQuery } from '@tanstack/react-query';
import { call, http } from '../api/client';
import { useLive } from '../app/live';
import { keys } from '../app/queries';
import { Chart, GapNote } from '../chart/chart';
import { gaps, type Values } from '../chart/grid';
import { decimal, join, powerSum, rateSum } from '../format';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';
import { countedMiners, readSite, scaleOf, type SiteHistory } from './site-series';

const span = 24 * 3_600_000; // ms

export default function SiteHistoryCharts({ id }: { id: string }) {
  const t = useText();
  const { clock } = useLive();
  const answer = useQuery({
    queryKey: keys.siteSeries(id),
    refetchInterval: 60_000,
    queryFn: async ({ signal }) => {
      const now = clock.exact();
      const query = { from: new Date(now - span).toISOString(), to: new Date(now).toISOString() };
      return readSite(await call(http.GET('/api/sites/{id}/series', { signal, params: { path: { id }, query } })));
    },
  });
  if (answer.isPending) return <p className="quiet">{t.loading}</p>;
  if (!answer.data) return <Problem title={t.chart.loadError} error={answer.error} onRetry={() => void answer.refetch()} />;
  if (answer.data.values.polls.every((n) => n === null || n === 0)) return <p className="quiet">{t.sites.noHistory}</p>;
  return <Charts history={answer.data} />;
}

const divided = (values: Values, by: number): Values => values.map((v) => (v === null ? null : v / by));

function Charts({ history }: { history: SiteHistory }) {
  const t = useText();
  const stretches = gaps(history);
  const rates = scaleOf(history.values.hashrate_hs, [1e12, 1e15, 1e18]);
  const powers = scaleOf(history.values.power_w, [1, 1e3, 1e6]);
  const shared = { grid: history, stretches };
  return (
    <>
      <GapNote stretches={stretches} />
      <div className="charts">
        <Chart
          {...shared}
          title={t.sites.hashrate}
          unit={[t.unit.ths, t.unit.phs, t.unit.ehs][rates.index] ?? ''}
          lines={[{ name: t.sites.hashrate, values: divided(history.values.hashrate_hs, rates.by) }]}
          format={(v) => join(rateSum(v * rates.by, t), t)}
        />
        <Chart
          {...shared}
          title={t.sites.power}
          unit={[t.unit.w, t.unit.kw, t.unit.mw][powers.index] ?? ''}
          lines={[{ name: t.sites.power, values: divided(history.values.power_w, powers.by) }]}
          format={(v) => join(powerSum(v * powers.by, t), t)}
        />
        <Chart
          {...shared}
          title={t.sites.miners}
          unit=""
          lines={[
            { name: t.sites.polled, values: countedMiners(history, 'miners') },
            { name: t.sites.answered, values: countedMiners(history, 'miners_answered') },
          ]}
          format={(v) => decimal(v, 0)}
        />
      </div>
    </>
  );
}
