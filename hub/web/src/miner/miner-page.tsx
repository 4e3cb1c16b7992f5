// One miner: who it is, what it does and why we think so, its readings with their age, its parts and
// its history.
import { useEffect, useMemo, type ReactNode } from 'react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';
import { parseState, type MinerDetail } from '../api/types';
import { useLive, useMinerRow, useStale } from '../app/live';
import { keys, useSites } from '../app/queries';
import { Link, navigate, useSearch } from '../app/router';
import { Chart, GapNote } from '../chart/chart';
import { gaps } from '../chart/grid';
import { defaultPollInterval } from '../fleet/row';
import {
  count, decimal, duration, efficiency, join, moment, ms, percent, power, rate, rpm, temperature, type Quantity,
} from '../format';
import { useText } from '../text/text';
import { Age, Ago, ErrorBoundary, Mark, Problem, StateLabel, TextOr, Value } from '../ui/parts';
import { BoardCharts, PoolCharts } from './part-charts';
import { Boards, Pools, Problems } from './parts';
import { answeredPercent, parseRange, rangeIds, stepFor, type History } from './series';
import { useHistory } from './use-history';
import './miner.css';

export default function MinerPage({ id }: { id: string }) {
  const t = useText();
  const queries = useQueryClient();
  const row = useMinerRow(id);
  const miner = useQuery({
    queryKey: keys.miner(id),
    queryFn: ({ signal }) => call(http.GET('/api/miners/{id}', { signal, params: { path: { id } } })),
    refetchInterval: 60_000, // the live stream asks sooner
  });
  const newest = row?.atMs ?? null;
  useEffect(() => {
    if (newest !== null) void queries.invalidateQueries({ queryKey: keys.miner(id) });
  }, [newest, id, queries]);
  const address = miner.data?.address;
  useEffect(() => {
    if (address) document.title = t.title(address);
  }, [address, t]);

  if (miner.isPending) return <p className="quiet">{t.loading}</p>;
  if (!miner.data) {
    if (miner.error instanceof ApiError && (miner.error.status === 404 || miner.error.status === 422)) {
      return (
        <div className="notice">
          <p>{t.miner.notFound}</p>
          <Link to="/fleet">{t.miner.back}</Link>
        </div>
      );
    }
    return <Problem title={t.error.title} error={miner.error} onRetry={() => void miner.refetch()} />;
  }
  const interval = row?.pollInterval ?? null;
  return (
    <div className="miner">
      <Head miner={miner.data} interval={interval} />
      <div className="miner-top">
        <Readings miner={miner.data} interval={interval} />
        <Identity miner={miner.data} />
      </div>
      <ErrorBoundary title={t.error.title} area={`history ${id}`}>
        <HistorySection id={id} interval={interval ?? defaultPollInterval} newest={newest} />
      </ErrorBoundary>
      <Boards miner={miner.data} />
      <Pools miner={miner.data} />
      <Problems miner={miner.data} />
    </div>
  );
}

function Head({ miner, interval }: { miner: MinerDetail; interval: number | null }) {
  const t = useText();
  const state = parseState(miner.state);
  const answered = miner.outcome === 'ok';
  const { clock } = useLive();
  const stale = useStale(ms(miner.at), interval);
  const site = useSites().data?.items?.find((s) => s.id === miner.site_id);
  const seen = ms(site?.last_seen_at);
  return (
    <header className="miner-head">
      <p className="crumbs">
        <Link to="/fleet">{t.miner.back}</Link> / <Link to={`/fleet?site=${encodeURIComponent(miner.site_id)}`}>{miner.site_name}</Link>
      </p>
      <div className="page-head">
        <h1>{miner.address}</h1>
        <span className={stale ? 'miner-state row-stale' : 'miner-state'}>
          <StateLabel state={state} />
        </span>
        <span className="quiet">
          {t.miner.lastPoll} <Age atMs={ms(miner.at)} pollIntervalS={interval} outcome={miner.outcome} />
        </span>
      </div>
      <p className="miner-why">
        {answered ? (
          t.stateMeaning[state]
        ) : (
          <>
            <Mark shape="warn" /> <strong>{t.outcome[miner.outcome] ?? miner.outcome}</strong>.{' '}
            {t.outcomeMeaning[miner.outcome] ?? ''} {t.miner.lastAnswer}: <Ago atMs={ms(miner.last_answer_at)} />.
          </>
        )}{' '}
        {stale && t.miner.staleNote}
      </p>
      {site && !site.connected && seen !== null && (
        <p className="miner-why">
          <Mark shape="cut" /> {t.miner.cutNote(moment(seen, clock.exact(), t))}
        </p>
      )}
    </header>
  );
}

function Readings({ miner, interval }: { miner: MinerDetail; interval: number | null }) {
  const t = useText();
  const r = t.miner.reading;
  const readAt = ms(miner.readings_at) ?? (miner.outcome === 'ok' || miner.outcome === 'partial' ? ms(miner.at) : null);
  const jth =
    miner.power_w !== undefined && miner.hashrate_hs !== undefined && miner.hashrate_hs > 0
      ? (miner.power_w * 1e12) / miner.hashrate_hs
      : null;
  const ratio =
    miner.hashrate_hs !== undefined && miner.ideal_hashrate_hs !== undefined && miner.ideal_hashrate_hs > 0
      ? miner.hashrate_hs / miner.ideal_hashrate_hs
      : null;
  const best = miner.best_share === undefined ? null : { value: compact(miner.best_share), unit: '' };
  const fans = (miner.fans_rpm ?? []).map((f) => (f === null ? t.none : decimal(f, 0)));
  const reading = (label: string, of: Quantity | null, note?: ReactNode, main = false) => (
    <div className={main ? 'reading reading-main' : 'reading'} key={label}>
      <dt>{label}</dt>
      <dd>
        <Value of={of} />
        {of !== null && note && <span className="quiet reading-note"> {note}</span>}
        {/* Every reading says how old it is; sighted users see it once, above. */}
        {of !== null && (
          <span className="reading-age">
            <Age atMs={readAt} pollIntervalS={interval} />
          </span>
        )}
      </dd>
    </div>
  );
  return (
    <section className="panel" aria-labelledby="readings">
      <div className="panel-head">
        <h2 id="readings">{t.miner.readings}</h2>
        {readAt !== null && <span className="quiet">{t.miner.readingsAge}</span>}
      </div>
      {readAt === null && <p className="quiet">{t.miner.noReadings}</p>}
      <dl className="readings">
        {reading(
          r.hashrate, rate(miner.hashrate_hs, t),
          miner.hashrate_window_s !== undefined && t.miner.window(duration(miner.hashrate_window_s, t)), true,
        )}
        {reading(r.power, power(miner.power_w, t), null, true)}
        {reading(r.tempChip, temperature(miner.temp_chip_c, t), null, true)}
        {reading(r.efficiency, efficiency(jth, t), null, true)}
        {reading(r.ratio, percent(ratio, 1, t))}
        {reading(r.ideal, rate(miner.ideal_hashrate_hs, t))}
        {reading(r.hashrateAvg, rate(miner.hashrate_avg_hs, t))}
        {reading(r.tempBoard, temperature(miner.temp_board_c, t))}
        {reading(r.tempInlet, temperature(miner.temp_inlet_c, t))}
        {reading(r.fans, fans.length > 0 ? { value: fans.join(' · '), unit: rpm(0, t)?.unit ?? '' } : null)}
        {reading(r.uptime, miner.uptime_s === undefined ? null : { value: duration(miner.uptime_s, t), unit: '' })}
        {reading(r.accepted, count(miner.accepted))}
        {reading(r.rejected, count(miner.rejected))}
        {reading(r.staleShares, count(miner.stale_shares))}
        {reading(r.hwErrors, count(miner.hardware_errors))}
        {reading(r.bestShare, best)}
      </dl>
    </section>
  );
}

/** Share difficulties run to 2^63: three digits and a power of ten's letter. */
function compact(n: number): string {
  return new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 4 }).format(n);
}

function Identity({ miner }: { miner: MinerDetail }) {
  const t = useText();
  const rows: [string, string | undefined][] = [
    [t.miner.address, miner.address],
    [t.miner.model, [miner.maker, miner.model].filter(Boolean).join(' ')],
    [t.miner.firmware, [miner.firmware, miner.firmware_version].filter(Boolean).join(' ')],
    [t.miner.mac, miner.mac],
    [t.miner.serial, miner.serial],
    [t.miner.worker, miner.worker],
    [t.miner.id, miner.id],
  ];
  return (
    <section className="panel" aria-labelledby="identity">
      <h2 id="identity">{t.miner.identity}</h2>
      <dl className="identity">
        <div>
          <dt>{t.miner.site}</dt>
          <dd>
            <Link to={`/fleet?site=${encodeURIComponent(miner.site_id)}`}>{miner.site_name}</Link>
          </dd>
        </div>
        {rows.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>
              <TextOr value={value} />
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function HistorySection({ id, interval, newest }: { id: string; interval: number; newest: number | null }) {
  const t = useText();
  const { clock } = useLive();
  const range = parseRange(new URLSearchParams(useSearch()).get('range'));
  const step = stepFor(range, interval);
  const history = useHistory(id, range, step, clock.exact, newest);
  const shared = { id, range, stepS: step, nowMs: clock.exact };
  return (
    <section className="history" aria-labelledby="history">
      <div className="panel-head">
        <h2 id="history">{t.chart.title}</h2>
        <span className="quiet">{t.chart.step(duration(step, t))}</span>
        <div className="segments" role="group" aria-label={t.chart.range}>
          {rangeIds.map((r) => (
            <button
              key={r}
              type="button"
              className="segment"
              aria-pressed={r === range}
              onClick={() => navigate(`${location.pathname}?range=${r}`, 'replace')}
            >
              {t.chart.ranges[r]}
            </button>
          ))}
        </div>
      </div>
      {history.error && !history.data && (
        <Problem title={t.chart.loadError} error={history.error} onRetry={() => void history.refetch()} />
      )}
      {history.isPending && <p className="quiet">{t.loading}</p>}
      {history.data && history.data.times.length === 0 && <p className="notice">{t.chart.noData}</p>}
      {history.data && history.data.times.length > 0 && (
        <>
          <Charts history={history.data} />
          <BoardCharts {...shared} stretches={gaps(history.data)} />
          <PoolCharts {...shared} stretches={gaps(history.data)} />
        </>
      )}
    </section>
  );
}

function Charts({ history }: { history: History }) {
  const t = useText();
  const ths = history.values.hashrate_hs.map((v) => (v === null ? null : v / 1e12));
  const stretches = useMemo(() => gaps(history), [history]);
  const one = (q: Quantity | null) => join(q, t);
  return (
    <>
      <GapNote stretches={stretches} />
      <div className="charts">
        <Chart
          title={t.chart.hashrate}
          unit={t.unit.ths}
          grid={history}
          stretches={stretches}
          lines={[{ name: t.chart.hashrate, values: ths }]}
          format={(v) => one(rate(v * 1e12, t))}
        />
        <Chart
          title={t.chart.temperature}
          unit={t.unit.c}
          grid={history}
          stretches={stretches}
          lines={[
            { name: t.chart.chip, values: history.values.temp_chip_c },
            { name: t.chart.board, values: history.values.temp_board_c },
          ]}
          format={(v) => one({ value: decimal(v, 1), unit: t.unit.c })}
        />
        <Chart
          title={t.chart.power}
          unit={t.unit.w}
          grid={history}
          stretches={stretches}
          lines={[{ name: t.chart.power, values: history.values.power_w }]}
          format={(v) => one(power(v, t))}
        />
        <Chart
          title={t.chart.polls}
          unit={t.unit.percent}
          grid={history}
          stretches={stretches}
          lines={[{ name: t.chart.polls, values: answeredPercent(history) }]}
          format={(v) => one({ value: decimal(v, 1), unit: t.unit.percent })}
          bounds={[0, 105]}
        />
      </div>
    </>
  );
}
