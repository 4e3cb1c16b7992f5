// What the page reads of a statement's own JSON, whose members are those of the engine that made it. Pure.

export interface Content {
  targetPpm: number | null;
  terms: number;
  assignments: number;
  excuses: number;
  hours: number;
  /** All of it, for people. */
  text: string;
}

const count = (v: unknown): number => (Array.isArray(v) ? v.length : 0);

export function contentOf(statement: unknown): Content {
  const s = typeof statement === 'object' && statement !== null ? (statement as Record<string, unknown>) : {};
  const totals = typeof s.totals === 'object' && s.totals !== null ? (s.totals as Record<string, unknown>) : {};
  const target = totals.target_ppm ?? s.target_ppm;
  return {
    targetPpm: typeof target === 'number' ? target : null,
    terms: count(s.terms),
    assignments: count(s.assignments),
    excuses: count(s.excuses),
    hours: count(s.hours),
    text: JSON.stringify(statement, null, 2),
  };
}
