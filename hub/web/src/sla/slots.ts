// The states of slots as the hub writes them, one letter a slot: what each means, how many there are, where they change. Pure.
import { slotMs, slotsPerDay } from '../utc';

/** What a slot is, with the letters that stand for it. */
export const letters = {
  up: 'U',
  degraded: 'd',
  down: 'D',
  unknownDown: 'X', // nobody knows, and the contract counts it as down
  unknownExcused: 'x', // nobody knows, and the contract excuses it
  open: '?', // nobody knows yet: its facts may still come
  curtailment: 'c',
  maintenance: 'm',
  none: '.', // not of this contract
  future: ' ',
} as const;

/** other: a letter that this page does not know. It is shown as such and guessed at nowhere. */
export type SlotState = keyof typeof letters | 'other';

export const slotStates = [...(Object.keys(letters) as (keyof typeof letters)[]), 'other'] as const satisfies readonly SlotState[];

const byLetter = new Map<string, SlotState>(Object.entries(letters).map(([state, letter]) => [letter, state as SlotState]));

export const stateOf = (letter: string | undefined): SlotState => (letter === undefined ? 'future' : (byLetter.get(letter) ?? 'other'));

/** Slots of one day. A text that is too short lacks what has not happened yet. */
export const stateAt = (states: string, slot: number): SlotState => stateOf(states[slot]);

/** A stretch of slots in one state, from the first up to but without the last. */
export interface Run {
  from: number;
  to: number;
  state: SlotState;
}

export function runs(states: string, length = slotsPerDay): Run[] {
  const out: Run[] = [];
  for (let i = 0; i < length; ) {
    let to = i + 1;
    while (to < length && states[to] === states[i]) to++;
    out.push({ from: i, to, state: stateAt(states, i) });
    i = to;
  }
  return out;
}

export type Counts = Record<SlotState, number>;

export function countStates(states: string, length = slotsPerDay): Counts {
  const out = Object.fromEntries(slotStates.map((s) => [s, 0])) as Counts;
  for (const r of runs(states, length)) out[r.state] += r.to - r.from;
  return out;
}

/** Slots that tell against the contract, or may: what an operator looks for first. */
const weight: Partial<Record<SlotState, number>> = { down: 1, unknownDown: 1, degraded: 1, open: 0.001, other: 1 };

export function trouble(states: string): number {
  let sum = 0;
  for (const r of runs(states)) sum += (weight[r.state] ?? 0) * (r.to - r.from);
  return sum;
}

/** States of a row that are worth a line in the table: everything but plainly up, not contracted and not yet. */
export const notable = (states: string): Run[] => runs(states).filter((r) => r.state !== 'up' && r.state !== 'none' && r.state !== 'future');

/** The slot of its day that a moment lies in. */
export const slotOf = (ms: number, dayStartMs: number): number => Math.floor((ms - dayStartMs) / slotMs);
