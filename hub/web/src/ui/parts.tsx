// Small parts that every area uses: values with units, ages, states, notices.
import { Component, type ErrorInfo, type ReactNode } from 'react';
import { ApiError } from '../api/client';
import type { MinerState } from '../api/types';
import { useAge, useClock, useStale } from '../app/live';
import { isPolledRarely } from '../fleet/row';
import type { Quantity } from '../format';
import { useText } from '../text/text';

/** A value with its unit, or the dash of the unknown, which screen readers hear as a word. */
export function Value({ of }: { of: Quantity | null }) {
  const t = useText();
  if (of === null) return <Unknown />;
  return (
    <span className="value">
      {of.value}
      {of.unit !== '' && <span className="unit"> {of.unit}</span>}
    </span>
  );
  function Unknown() {
    return (
      <span className="none">
        <span aria-hidden="true">{t.none}</span>
        <span className="sr">{t.noneSpoken}</span>
      </span>
    );
  }
}

export function TextOr({ value }: { value: string | null | undefined }) {
  const t = useText();
  if (value) return <>{value}</>;
  return (
    <span className="none">
      <span aria-hidden="true">{t.none}</span>
      <span className="sr">{t.noneSpoken}</span>
    </span>
  );
}

/** How old a value is. Past two poll intervals it says so in words, beside the mark; of a poll that failed with
 * this outcome, whether that is as it should be. */
export function Age({ atMs, pollIntervalS, outcome = '' }: { atMs: number | null; pollIntervalS?: number | null; outcome?: string }) {
  const t = useText();
  const age = useAge(atMs);
  const stale = useStale(atMs, pollIntervalS);
  const rarely = useClock((now) => isPolledRarely(outcome, atMs, pollIntervalS, now));
  if (age === null) return <span className="none">{t.age.never}</span>;
  if (!stale) return <span className="age">{age}</span>;
  return (
    <span className="age age-stale">
      <Mark shape="stale" /> {age} <span className="tag" title={rarely ? t.age.rarelyHelp : undefined}>{rarely ? t.age.rarely : t.age.stale}</span>
    </span>
  );
}

/** How long ago something happened that does not go stale. */
export function Ago({ atMs }: { atMs: number | null }) {
  const t = useText();
  const age = useAge(atMs);
  return <span className="age">{age === null ? t.age.never : t.age.ago(age)}</span>;
}

export type Shape = MinerState | 'stale' | 'cut' | 'ok' | 'warn';

/** A shape of its own for each state, so that colour is never the only difference. */
export function Mark({ shape }: { shape: Shape }) {
  return (
    <svg className={`mark mark-${shape}`} viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" focusable="false">
      {shapes[shape]}
    </svg>
  );
}

const line = { fill: 'none', stroke: 'currentColor', strokeWidth: 1.8, strokeLinecap: 'round', strokeLinejoin: 'round' } as const;
const shapes: Record<Shape, ReactNode> = {
  hashing: <circle cx="6" cy="6" r="4.500" fill="currentColor" />,
  degraded: (
    <>
      <circle cx="6" cy="6" r="4.200" {...line} />
      <path d="M6 1.500a4.500 4.500 0 0 0 0 9z" fill="currentColor" />
    </>
  ),
  overheated: <path d="M6 1 11.200 10.500H.8z" fill="currentColor" />,
  faulty: <path d="M2.500 2.500l7 7M9.500 2.500l-7 7" {...line} strokeWidth={2.4} />,
  no_pool: <path d="M6 1.200 10.800 6 6 10.800 1.200 6z" {...line} />,
  starting: <path d="M3 1.800 10.200 6 3 10.200z" fill="currentColor" />,
  sleeping: <path d="M9.800 7.800A4.600 4.600 0 0 1 4.300 2.200a4.600 4.600 0 1 0 5.500 5.600z" fill="currentColor" />,
  unknown: <circle cx="6" cy="6" r="4.200" {...line} strokeDasharray="2 2.400" />,
  stale: (
    <>
      <circle cx="6" cy="6" r="4.500" {...line} strokeWidth={1.4} />
      <path d="M6 3.500V6l1.800 1.200" {...line} strokeWidth={1.4} />
    </>
  ),
  cut: <path d="M1 6h3M8 6h3M5 9l2-6" {...line} />,
  ok: <path d="M2 6.500 4.800 9.200 10 3.200" {...line} />,
  warn: <path d="M6 2v5M6 9.800v.1" {...line} strokeWidth={2.2} />,
};

export function StateLabel({ state }: { state: MinerState }) {
  const t = useText();
  return (
    <span className={`state state-${state}`}>
      <Mark shape={state} /> {t.state[state]}
    </span>
  );
}

/** What went wrong, what to do, and what to quote when asking for help. */
export function Problem({ title, error, onRetry }: { title: string; error: unknown; onRetry?: () => void }) {
  const t = useText();
  const api = error instanceof ApiError ? error : null;
  const what = api?.status === 0 ? t.error.unreachable : error instanceof Error ? error.message : String(error);
  return (
    <div className="notice notice-bad" role="alert">
      <p className="notice-title">{title}</p>
      <p>{what}</p>
      {api?.help && <p>{api.help}</p>}
      {api && (api.code || api.requestId) && (
        <p className="quiet">
          {[api.code && t.error.code(api.code), api.requestId && t.error.request(api.requestId)].filter(Boolean).join(' · ')}
        </p>
      )}
      {onRetry && (
        <button type="button" className="button" onClick={onRetry}>
          {t.error.retry}
        </button>
      )}
    </div>
  );
}

interface BoundaryProps {
  title: string;
  /** A change of it clears the error: another page or miner is another chance. */
  area: string;
  children: ReactNode;
}

/** Keeps a failure inside its area of the page. */
export class ErrorBoundary extends Component<BoundaryProps, { error: unknown; area: string }> {
  override state = { error: undefined as unknown, area: this.props.area };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  static getDerivedStateFromProps(props: BoundaryProps, state: { error: unknown; area: string }) {
    return props.area === state.area ? null : { error: undefined, area: props.area };
  }

  override componentDidCatch(error: unknown, info: ErrorInfo) {
    console.error('area failed', this.props.area, error, info.componentStack);
  }

  override render() {
    if (this.state.error === undefined) return this.props.children;
    return (
      <Problem title={this.props.title} error={this.state.error} onRetry={() => this.setState({ error: undefined })} />
    );
  }
}
