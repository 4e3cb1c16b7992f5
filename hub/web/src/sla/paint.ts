// How a slot looks. Each state has a shape of its own besides its colour, made of bands that can be told apart at three pixels' width.
import { runs, type SlotState } from './slots';

/** The colours, as CSS variables of base.css and slots.css. */
const colours = {
  up: '--slot-up',
  degraded: '--warn',
  down: '--bad',
  unknownDown: '--bad',
  unknownExcused: '--quiet',
  open: '--quiet',
  curtailment: '--sleep',
  maintenance: '--start',
  none: '--line',
  future: '--line',
  other: '--pool',
} as const satisfies Record<SlotState, string>;

export type Palette = Record<SlotState, string>;

/** Reads the colours as they are now: light or dark. */
export function palette(element: Element): Palette {
  const style = getComputedStyle(element);
  return Object.fromEntries(Object.entries(colours).map(([state, name]) => [state, style.getPropertyValue(name).trim()])) as Palette;
}

/** Bands of a state from top to bottom, as shares of the height. */
const bands: Partial<Record<SlotState, readonly (readonly [number, number])[]>> = {
  up: [[0, 1]],
  degraded: [[0.5, 1]],
  down: [[0, 0.36], [0.64, 1]],
  unknownDown: [[0, 0.14], [0.29, 0.43], [0.57, 0.71], [0.86, 1]],
  unknownExcused: [[0, 0.14], [0.86, 1]],
  open: [[0.43, 0.57]],
  none: [[0.93, 1]],
  other: [[0, 0.14], [0.43, 0.57], [0.86, 1]],
};

/** Hatched states, by the way their lines lean. */
const leaning: Partial<Record<SlotState, 1 | -1>> = { curtailment: 1, maintenance: -1 };

/** Draws the states of slots from left to right over the whole canvas, which is given its size in CSS pixels. */
export function paint(canvas: HTMLCanvasElement, states: string, slots: number, width: number, height: number, colour: Palette): void {
  const scale = window.devicePixelRatio || 1;
  const w = Math.round(width * scale);
  const h = Math.round(height * scale);
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const c = canvas.getContext('2d');
  if (!c) return;
  c.clearRect(0, 0, w, h);
  const at = (slot: number) => Math.round((slot * w) / slots);
  for (const r of runs(states, slots)) {
    const x = at(r.from);
    const wide = at(r.to) - x;
    c.fillStyle = colour[r.state];
    for (const [top, bottom] of bands[r.state] ?? []) c.fillRect(x, Math.round(top * h), wide, Math.max(1, Math.round(bottom * h) - Math.round(top * h)));
    const lean = leaning[r.state];
    if (lean !== undefined) hatch(c, x, wide, h, lean, scale, colour[r.state]);
  }
}

function hatch(c: CanvasRenderingContext2D, x: number, w: number, h: number, lean: 1 | -1, scale: number, colour: string): void {
  c.save();
  c.beginPath();
  c.rect(x, 0, w, h);
  c.clip();
  c.globalAlpha = 0.28;
  c.fillRect(x, 0, w, h);
  c.globalAlpha = 1;
  c.strokeStyle = colour;
  c.lineWidth = 1.4 * scale;
  c.beginPath();
  const step = 5 * scale;
  // Lines begin at multiples of the step, so that they meet those of a stretch beside it.
  for (let from = Math.floor((x - h) / step) * step; from < x + w + h; from += step) {
    c.moveTo(from, lean > 0 ? h : 0);
    c.lineTo(from + h, lean > 0 ? 0 : h);
  }
  c.stroke();
  c.restore();
}

