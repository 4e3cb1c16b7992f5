// One chart: uPlot on a canvas, with the stretches without readings shaded, a summary in words, and the
// same numbers as a table for those who cannot or do not want to read a picture.
import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { duration, moment } from '../format';
import { useText } from '../text/text';
import { utcDay } from '../utc';
import { isDark, subscribeDark } from './dark';
import { summarise, type Grid, type Stretch, type Values } from './grid';
import './chart.css';

export interface Line {
  name: string;
  values: Values;
  /** A line to compare with, not one that was measured: left out of the summary. */
  guide?: boolean;
}

interface Props {
  title: string;
  unit: string;
  grid: Grid;
  /** Where there is nothing to read, in time; shaded. */
  stretches: readonly Stretch[];
  lines: readonly Line[];
  format: (value: number) => string; // with its unit
  /** The least and greatest value of the axis, where they are fixed. */
  bounds?: readonly [number, number];
  /** Steps are days in UTC, named by their dates; else moments on this computer's clock. */
  days?: boolean;
}

const height = 168; // px

// Lines differ by colour and by dashes; more than these begin again.
const colours = ['--chart-1', '--chart-2', '--chart-3', '--chart-4', '--chart-5'] as const;
const dashes: readonly number[][] = [[], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4]];
const styleOf = (i: number) => i % colours.length;

export function Chart({ title, unit, grid, stretches, lines, format, bounds, days = false }: Props) {
  const t = useText();
  const [asTable, setAsTable] = useState(false);
  const words = lines.filter((l) => !l.guide).map((l) => {
    const s = summarise(l.values);
    return s === null
      ? t.chart.summaryNone(l.name)
      : t.chart.summary({
          name: l.name, last: format(s.last), min: format(s.min), max: format(s.max), avg: format(s.mean),
        });
  });
  return (
    <figure className="panel chart">
      <figcaption className="chart-head">
        <h3>{title}</h3>
        {lines.length > 1 && (
          <ul className="legend">
            {lines.map((l, i) => (
              <li key={l.name}>
                <svg className={`legend-line legend-line-${styleOf(i)}`} viewBox="0 0 24 4" width="24" height="4" aria-hidden="true">
                  <path d="M0 2h24" strokeDasharray={dashes[styleOf(i)]?.join(' ')} />
                </svg>{' '}
                <span className="legend-name">{l.name}</span>
              </li>
            ))}
          </ul>
        )}
        <button type="button" className="button button-quiet" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
          {asTable ? t.chart.showChart : t.chart.showTable}
        </button>
      </figcaption>
      {asTable ? (
        <SeriesTable title={title} grid={grid} lines={lines} format={format} days={days} />
      ) : (
        <Plot grid={grid} lines={lines} unit={unit} stretches={stretches} bounds={bounds} days={days} label={`${title}. ${words.join(' ')}`} />
      )}
      <p className="chart-summary">{words.join(' ')}</p>
    </figure>
  );
}

function SeriesTable({ title, grid, lines, format, days }: Pick<Props, 'title' | 'grid' | 'lines' | 'format' | 'days'>) {
  const t = useText();
  const newest = grid.times.at(-1) ?? 0;
  return (
    // A region that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="chart-table" tabIndex={0} role="region" aria-label={title}>
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">{t.chart.time}</th>
            {lines.map((l) => (
              <th key={l.name} scope="col" className="numeric">
                {l.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {grid.times
            .map((time, i) => (
              <tr key={time}>
                <th scope="row">{days ? utcDay(time * 1000) : moment(time * 1000, newest * 1000, t)}</th>
                {lines.map((l) => {
                  const v = l.values[i];
                  return (
                    <td key={l.name} className="numeric">
                      {v == null ? t.none : format(v)}
                    </td>
                  );
                })}
              </tr>
            ))
            .reverse()}
        </tbody>
      </table>
    </div>
  );
}

interface PlotProps {
  grid: Grid;
  lines: readonly Line[];
  unit: string;
  stretches: readonly Stretch[];
  bounds: readonly [number, number] | undefined;
  days: boolean;
  label: string;
}

const dataOf = (grid: Grid, lines: readonly Line[]): uPlot.AlignedData => [
  grid.times,
  ...lines.map((l) => l.values as (number | null)[]),
];

function Plot({ grid, lines, unit, stretches, bounds, days, label }: PlotProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useSyncExternalStore(subscribeDark, isDark);
  // What the plot draws at its next turn; it is made once and fed from then on.
  const latest = useRef({ grid, lines, stretches });
  useEffect(() => {
    latest.current = { grid, lines, stretches };
    plot.current?.setData(dataOf(grid, lines));
  }, [grid, lines, stretches]);

  const names = lines.map((l) => l.name).join('\n');
  const low = bounds?.[0];
  const high = bounds?.[1];
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const { grid: g, lines: ls } = latest.current;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: colour('--quiet'),
      grid: { stroke: colour('--line-soft'), width: 1 },
      ticks: { stroke: colour('--line-soft'), width: 1, size: 4 },
      font: '11px system-ui, sans-serif',
    };
    const made = new uPlot(
      {
        width: Math.max(120, element.clientWidth),
        height,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false } },
        padding: [8, 18, 0, 0],
        scales: {
          x: { time: true },
          y: { range: (_u, min, max) => yRange(min, max, low, high) },
        },
        axes: [
          { ...axis, size: 34, space: 64, values: days ? dayLabels : timeLabels },
          { ...axis, size: 52, space: 32 },
        ],
        ...(days ? { tzDate: (s: number) => uPlot.tzDate(new Date(s * 1000), 'Etc/UTC') } : {}),
        series: [
          {},
          ...ls.map((l, i) => ({
            label: l.name,
            stroke: colour(colours[styleOf(i)] ?? colours[0]),
            dash: dashes[styleOf(i)]?.map((px) => px * devicePixelRatio),
            width: 1.6,
            spanGaps: false, // a gap is a gap
            points: { size: 4 },
          })),
        ],
        hooks: {
          drawClear: [
            (u) => shade(u, latest.current.stretches, colour('--gap-silent'), colour('--gap-failed')),
          ],
          setCursor: [(u) => readout(u, element, latest.current.lines, unit, days)],
        },
      },
      dataOf(g, ls),
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: Math.max(120, element.clientWidth), height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [dark, names, low, high, unit, days]);

  return (
    <div className="plot-frame">
      <div ref={host} className="plot" role="img" aria-label={label} />
    </div>
  );
}

/** A fixed range where there is one; else the values' own with some air, and never of no height. */
function yRange(min: number | null, max: number | null, low?: number, high?: number): [number, number] {
  if (low !== undefined && high !== undefined) return [low, high];
  if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max)) return [low ?? 0, high ?? 1];
  const air = Math.max((max - min) * 0.12, Math.abs(max) * 0.02, 1e-6);
  const bottom = min >= 0 ? Math.max(0, min - air) : min - air;
  return [low ?? bottom, high ?? max + air];
}

const two = (n: number) => String(n).padStart(2, '0');

/** Times of the 24-hour clock; a day's first label carries the date. */
function timeLabels(_u: uPlot, splits: number[]): string[] {
  let day = '';
  return splits.map((s) => {
    const at = new Date(s * 1000);
    const date = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const first = day !== date && day !== '';
    day = date;
    return first ? `${time}\n${date}` : time;
  });
}

const dayLabels = (_u: uPlot, splits: number[]): string[] => splits.map((s) => (s % 86_400 === 0 ? utcDay(s * 1000).slice(5) : ''));

function shade(u: uPlot, stretches: readonly Stretch[], silent: string, failed: string): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const s of stretches) {
    const x0 = u.valToPos(s.from, 'x', true);
    const x1 = u.valToPos(s.to, 'x', true);
    if (x1 < bbox.left || x0 > bbox.left + bbox.width) continue;
    ctx.fillStyle = s.kind === 'not-polled' ? silent : failed;
    ctx.fillRect(x0, bbox.top, Math.max(1, x1 - x0), bbox.height);
    if (s.kind !== 'not-polled') continue;
    // Hatching, so that the two kinds differ by more than colour.
    ctx.strokeStyle = silent;
    ctx.lineWidth = 1;
    ctx.save();
    ctx.beginPath();
    ctx.rect(x0, bbox.top, Math.max(1, x1 - x0), bbox.height);
    ctx.clip();
    ctx.beginPath();
    for (let x = x0 - bbox.height; x < x1; x += 8) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }
  ctx.restore();
}

/** Writes the values under the pointer into the plot's corner. */
function readout(u: uPlot, element: HTMLElement, lines: readonly Line[], unit: string, days: boolean): void {
  let box = element.querySelector<HTMLElement>('.plot-readout');
  if (!box) {
    box = document.createElement('div');
    box.className = 'plot-readout';
    box.setAttribute('aria-hidden', 'true');
    u.over.append(box);
  }
  const index = u.cursor.idx;
  const time = index == null ? undefined : u.data[0][index];
  if (index == null || time === undefined) {
    box.hidden = true;
    return;
  }
  box.hidden = false;
  const at = new Date(time * 1000);
  const values = lines.map((l) => {
    const v = l.values[index];
    const name = lines.length > 1 ? `${l.name} ` : '';
    return v == null ? `${name}—` : `${name}${Number(v.toPrecision(5))} ${unit}`;
  });
  const when = days ? utcDay(time * 1000) : `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  box.textContent = `${when}  ${values.join('  ')}`;
}

/** What the shading means, and how much of it there is. */
export function GapNote({ stretches }: { stretches: readonly Stretch[] }) {
  const t = useText();
  const length = (kind: Stretch['kind']) =>
    stretches.filter((s) => s.kind === kind).reduce((n, s) => n + s.to - s.from, 0);
  if (stretches.length === 0) return <p className="chart-gaps">{t.chart.noGaps}</p>;
  return (
    <p className="chart-gaps">
      {t.chart.gaps(duration(length('not-polled'), t), duration(length('not-answered'), t))}{' '}
      <span className="gap-key gap-key-silent" aria-hidden="true" /> {t.chart.notPolled}{' '}
      <span className="gap-key gap-key-failed" aria-hidden="true" /> {t.chart.notAnswered}
    </p>
  );
}
