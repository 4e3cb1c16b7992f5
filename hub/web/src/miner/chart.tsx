// One chart: uPlot on a canvas, with the stretches without readings shaded, a summary in words, and the
// same numbers as a table for those who cannot or do not want to read a picture.
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { duration, moment } from '../format';
import { useText } from '../text/text';
import { gaps, summarise, type History, type Stretch } from './series';

export interface Line {
  name: string;
  values: readonly (number | null)[];
  colour: string; // name of a custom property of the style sheet
}

interface Props {
  title: string;
  unit: string;
  history: History;
  lines: readonly Line[];
  format: (value: number) => string; // with its unit
  /** The least and greatest value of the axis, where they are fixed. */
  bounds?: readonly [number, number];
}

const height = 168; // px
const dark = '(prefers-color-scheme: dark)';
const subscribeDark = (listener: () => void) => {
  const query = window.matchMedia(dark);
  query.addEventListener('change', listener);
  return () => query.removeEventListener('change', listener);
};

export function Chart({ title, unit, history, lines, format, bounds }: Props) {
  const t = useText();
  const [asTable, setAsTable] = useState(false);
  const stretches = useMemo(() => gaps(history), [history]);
  const words = lines.map((l) => {
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
                <span className={`legend-line legend-line-${i}`} aria-hidden="true" /> {l.name}
              </li>
            ))}
          </ul>
        )}
        <button type="button" className="button button-quiet" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
          {asTable ? t.chart.showChart : t.chart.showTable}
        </button>
      </figcaption>
      {asTable ? (
        <SeriesTable title={title} history={history} lines={lines} format={format} />
      ) : (
        <Plot history={history} lines={lines} unit={unit} stretches={stretches} bounds={bounds} label={`${title}. ${words.join(' ')}`} />
      )}
      <p className="chart-summary">{words.join(' ')}</p>
    </figure>
  );
}

function SeriesTable({ title, history, lines, format }: Pick<Props, 'title' | 'history' | 'lines' | 'format'>) {
  const t = useText();
  const newest = history.times.at(-1) ?? 0;
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
          {history.times
            .map((time, i) => (
              <tr key={time}>
                <th scope="row">{moment(time * 1000, newest * 1000, t)}</th>
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
  history: History;
  lines: readonly Line[];
  unit: string;
  stretches: readonly Stretch[];
  bounds: readonly [number, number] | undefined;
  label: string;
}

const dataOf = (history: History, lines: readonly Line[]): uPlot.AlignedData => [
  history.times,
  ...lines.map((l) => l.values as (number | null)[]),
];

function Plot({ history, lines, unit, stretches, bounds, label }: PlotProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isDark = useSyncExternalStore(subscribeDark, () => window.matchMedia(dark).matches);
  // What the plot draws at its next turn; it is made once and fed from then on.
  const latest = useRef({ history, lines, stretches });
  useEffect(() => {
    latest.current = { history, lines, stretches };
    plot.current?.setData(dataOf(history, lines));
  }, [history, lines, stretches]);

  const names = lines.map((l) => l.name).join('\n');
  const low = bounds?.[0];
  const high = bounds?.[1];
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const { history: h, lines: ls } = latest.current;
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
          { ...axis, size: 34, space: 64, values: timeLabels },
          { ...axis, size: 52, space: 32 },
        ],
        series: [
          {},
          ...ls.map((l) => ({
            label: l.name,
            stroke: colour(l.colour),
            width: 1.6,
            spanGaps: false, // a gap is a gap
            points: { size: 4 },
          })),
        ],
        hooks: {
          drawClear: [
            (u) => shade(u, latest.current.stretches, colour('--gap-silent'), colour('--gap-failed')),
          ],
          setCursor: [(u) => readout(u, element, latest.current.lines, unit)],
        },
      },
      dataOf(h, ls),
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
  }, [isDark, names, low, high, unit]);

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
function readout(u: uPlot, element: HTMLElement, lines: readonly Line[], unit: string): void {
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
  box.textContent = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}  ${values.join('  ')}`;
}

/** What the shading means, and how much of it there is. */
export function GapNote({ history }: { history: History }) {
  const t = useText();
  const found = gaps(history);
  const length = (kind: Stretch['kind']) =>
    found.filter((s) => s.kind === kind).reduce((n, s) => n + s.to - s.from, 0);
  if (found.length === 0) return <p className="chart-gaps">{t.chart.noGaps}</p>;
  return (
    <p className="chart-gaps">
      {t.chart.gaps(duration(length('not-polled'), t), duration(length('not-answered'), t))}{' '}
      <span className="gap-key gap-key-silent" aria-hidden="true" /> {t.chart.notPolled}{' '}
      <span className="gap-key gap-key-failed" aria-hidden="true" /> {t.chart.notAnswered}
    </p>
  );
}
