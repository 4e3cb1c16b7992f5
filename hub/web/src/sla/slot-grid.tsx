// Slots as a grid: a row for each miner of a day, or for each day of a miner. Only the rows in sight are in the document, each one canvas,
// so that thousands of them scroll smoothly. The grid is one stop of the keyboard: arrows move over slots, Enter asks why.
import { memo, useEffect, useId, useLayoutEffect, useRef, useState, useSyncExternalStore, type KeyboardEvent, type MouseEvent } from 'react';
import { defaultRangeExtractor, useVirtualizer, type Range } from '@tanstack/react-virtual';
import { subscribeDark, isDark } from '../chart/dark';
import { useContractText, type ContractMessages } from '../text/contracts';
import { slotMs, slotsPerDay, utcTime } from '../utc';
import { paint, palette, type Palette } from './paint';
import { countStates, runs, slotStates, stateAt, letters } from './slots';
import './slots.css';

export interface SlotRow {
  id: string;
  label: string;
  states: string;
  dayMs: number; // when the row's day begins
}

export interface Place {
  row: string;
  slot: number;
}

const rowHeight = 22; // px, the same as in slots.css
const stripHeight = 14; // px
/** Rows in the document at most, however tall the screen. */
const maxRows = 72;
const visible = (range: Range) => defaultRangeExtractor(range).slice(0, maxRows);

interface Props {
  label: string;
  /** What a row is: a miner, or a day. */
  rowName: string;
  rows: readonly SlotRow[];
  chosen: Place | null;
  onChoose: (row: SlotRow, slot: number) => void;
}

export function SlotGrid({ label, rowName, rows, chosen, onChoose }: Props) {
  const t = useContractText();
  const gridId = useId();
  const scroller = useRef<HTMLDivElement>(null);
  const ruler = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLParagraphElement>(null);
  const [width, setWidth] = useState(0);
  const [colour, setColour] = useState<Palette | null>(null);
  const [active, setActive] = useState<Place | null>(chosen);
  const dark = useSyncExternalStore(subscribeDark, isDark);

  // eslint-disable-next-line react-hooks/incompatible-library -- nothing here is memoised over its functions
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: 8,
    rangeExtractor: visible,
  });

  useLayoutEffect(() => {
    if (ruler.current) setColour(palette(ruler.current));
  }, [dark]);
  useLayoutEffect(() => {
    const element = ruler.current;
    if (!element) return;
    const measure = () => setWidth(element.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const activeRow = active === null ? -1 : rows.findIndex((r) => r.id === active.row);
  const items = virtual.getVirtualItems();
  const activeShown = items.some((i) => i.index === activeRow);

  // The slot under the cursor is kept in sight where the strip is wider than its window.
  useEffect(() => {
    const box = scroller.current;
    const head = ruler.current;
    if (!box || !head || active === null || width === 0) return;
    const x = (active.slot * width) / slotsPerDay;
    const room = box.clientWidth - head.offsetLeft;
    if (x < box.scrollLeft) box.scrollLeft = Math.max(0, x - room / 4);
    else if (x > box.scrollLeft + room - 8) box.scrollLeft = x - room * 0.75;
  }, [active, width]);

  const move = (toRow: number, toSlot: number) => {
    const index = Math.max(0, Math.min(rows.length - 1, toRow));
    const row = rows[index];
    if (!row) return;
    setActive({ row: row.id, slot: Math.max(0, Math.min(slotsPerDay - 1, toSlot)) });
    virtual.scrollToIndex(index);
  };
  const onKeyDown = (e: KeyboardEvent<HTMLDivElement>) => {
    if (e.target !== e.currentTarget || e.altKey || e.metaKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / rowHeight) - 2);
    const row = Math.max(0, activeRow);
    const slot = active?.slot ?? 0;
    const states = rows[row]?.states ?? '';
    switch (e.key) {
      case 'ArrowRight': move(row, e.ctrlKey ? nextChange(states, slot) : slot + 1); break;
      case 'ArrowLeft': move(row, e.ctrlKey ? lastChange(states, slot) : slot - 1); break;
      case 'ArrowDown': move(activeRow + 1, slot); break;
      case 'ArrowUp': move(row - 1, slot); break;
      case 'PageDown': move(row + page, slot); break;
      case 'PageUp': move(row - page, slot); break;
      case 'Home': move(e.ctrlKey ? 0 : row, 0); break;
      case 'End': move(e.ctrlKey ? rows.length - 1 : row, slotsPerDay - 1); break;
      case 'Enter':
      case ' ': {
        const at = rows[activeRow];
        if (at && active) onChoose(at, active.slot);
        break;
      }
      default: return;
    }
    e.preventDefault();
  };
  // Written past React: the pointer moves faster than a grid should be drawn.
  const say = (row: SlotRow | undefined, slot: number) => {
    if (readout.current) readout.current.textContent = row === undefined ? t.slots.hint : `${row.label}  ${slotText(row, slot, t)}`;
  };
  // Rows keep the functions they were first given; what those do is always the newest.
  const latest = useRef({ say, onChoose });
  useEffect(() => {
    latest.current = { say, onChoose };
  });
  const [pointed] = useState(() => (row: SlotRow, slot: number) => latest.current.say(row, slot));
  const [pressed] = useState(() => (row: SlotRow, slot: number) => {
    setActive({ row: row.id, slot });
    latest.current.onChoose(row, slot);
  });

  return (
    <div className="slots-frame">
      <p ref={readout} className="slots-readout quiet small" aria-hidden="true">
        {t.slots.hint}
      </p>
      <div
        ref={scroller}
        className="slots"
        role="grid"
        tabIndex={0}
        aria-label={`${label}. ${t.slots.keys}`}
        aria-rowcount={rows.length + 1}
        aria-colcount={slotsPerDay + 1}
        aria-activedescendant={activeShown ? `${gridId}-at` : undefined}
        onKeyDown={onKeyDown}
        onFocus={() => {
          if (activeRow < 0 && rows[0]) setActive({ row: rows[0].id, slot: 0 });
        }}
        onMouseLeave={() => say(undefined, 0)}
      >
        <div role="rowgroup" className="slots-head">
          <div role="row" aria-rowindex={1} className="slots-row">
            <div role="columnheader" className="slots-name quiet small">
              {rowName}
            </div>
            <div role="columnheader" ref={ruler} className="slots-strip slots-ruler quiet" aria-label={t.slots.hours}>
              {[0, 3, 6, 9, 12, 15, 18, 21].map((h) => (
                <span key={h} className={`slots-hour slots-hour-${h}`} aria-hidden="true">
                  {String(h).padStart(2, '0')}:00
                </span>
              ))}
            </div>
          </div>
        </div>
        <div role="rowgroup" className="slots-body" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <Row
                key={row.id}
                row={row}
                index={item.index}
                top={item.start}
                width={width}
                colour={colour}
                activeId={`${gridId}-at`}
                active={active?.row === row.id ? active.slot : null}
                chosen={chosen?.row === row.id ? chosen.slot : null}
                onPoint={pointed}
                onPress={pressed}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** The first slot of the next stretch, or the last one. */
function nextChange(states: string, slot: number): number {
  const run = runs(states).find((r) => r.to > slot);
  return run === undefined || run.to >= slotsPerDay ? slotsPerDay - 1 : run.to;
}

/** The first slot of this stretch, or of the one before it. */
function lastChange(states: string, slot: number): number {
  return runs(states).findLast((r) => r.from < slot)?.from ?? 0;
}

/** A slot in words: its time and its state. */
export function slotText(row: Pick<SlotRow, 'states' | 'dayMs'>, slot: number, t: ContractMessages): string {
  const from = row.dayMs + slot * slotMs;
  return `${utcTime(from)}–${utcTime(from + slotMs)} UTC: ${t.slots.state[stateAt(row.states, slot)]}`;
}

interface RowProps {
  row: SlotRow;
  index: number;
  top: number;
  width: number;
  colour: Palette | null;
  activeId: string;
  active: number | null;
  chosen: number | null;
  onPoint: (row: SlotRow, slot: number) => void;
  onPress: (row: SlotRow, slot: number) => void;
}

const Row = memo(
  SlotGridRow,
  (a, b) => a.row.states === b.row.states && a.row.label === b.row.label && a.row.dayMs === b.row.dayMs && a.row.id === b.row.id && a.index === b.index && a.top === b.top && a.width === b.width && a.colour === b.colour && a.active === b.active && a.chosen === b.chosen,
);

function SlotGridRow({ row, index, top, width, colour, activeId, active, chosen, onPoint, onPress }: RowProps) {
  const t = useContractText();
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    if (canvas.current && colour && width > 0) paint(canvas.current, row.states, slotsPerDay, width, stripHeight, colour);
  }, [row.states, width, colour]);
  const slotAt = (e: MouseEvent<HTMLElement>) => {
    const box = e.currentTarget.getBoundingClientRect();
    return Math.max(0, Math.min(slotsPerDay - 1, Math.floor(((e.clientX - box.left) / box.width) * slotsPerDay)));
  };
  const counts = countStates(row.states);
  const words = slotStates.filter((s) => counts[s] > 0).map((s) => t.slots.counted(t.slots.state[s], counts[s]));
  const left = (slot: number) => (slot * width) / slotsPerDay;
  return (
    <div role="row" aria-rowindex={index + 2} className="slots-row" style={{ transform: `translateY(${top}px)` }}>
      <div role="rowheader" className="slots-name" title={row.label}>
        {row.label}
      </div>
      {/* The keyboard reaches slots through the grid's active descendant. */}
      {/* eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus */}
      <div role="gridcell" className="slots-strip" aria-label={words.join(', ')} onMouseMove={(e) => onPoint(row, slotAt(e))} onClick={(e) => onPress(row, slotAt(e))}>
        <canvas ref={canvas} className="slots-canvas" aria-hidden="true" />
        {chosen !== null && <span className="slots-chosen" style={{ left: left(chosen), width: left(1) }} aria-hidden="true" />}
        {active !== null && <span className="slots-at" style={{ left: left(active), width: left(1) }} aria-hidden="true" />}
      </div>
      {active !== null && (
        <div role="gridcell" id={activeId} aria-colindex={active + 2} className="sr">
          {slotText(row, active, t)}
        </div>
      )}
    </div>
  );
}

/** What the shapes mean, for those that occur. */
export function SlotLegend({ present }: { present: ReadonlySet<string> }) {
  const t = useContractText();
  return (
    <ul className="slots-legend small" aria-label={t.slots.legend}>
      {slotStates
        .filter((s) => present.has(s) && s !== 'future')
        .map((s) => (
          <li key={s} title={t.slots.meaning[s]}>
            <Sample letter={s === 'other' ? '\u0001' : letters[s]} /> <span>{t.slots.state[s]}</span>
          </li>
        ))}
    </ul>
  );
}

export function Sample({ letter }: { letter: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = useSyncExternalStore(subscribeDark, isDark);
  useLayoutEffect(() => {
    if (canvas.current) paint(canvas.current, letter, 1, 18, stripHeight, palette(canvas.current));
  }, [letter, dark]);
  return <canvas ref={canvas} className="slots-sample" aria-hidden="true" />;
}
