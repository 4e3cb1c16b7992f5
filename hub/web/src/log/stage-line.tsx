// A step line: each step says in words whether it is done, and what has left the way says so beside it.
import { useLogText } from '../text/log';
import { Mark } from '../ui/parts';
import { wayOf } from './stages';

export function StageLine({ stages, state }: { stages: readonly string[]; state: string }) {
  const t = useLogText().stage;
  const way = wayOf(stages, state);
  return (
    <div>
      <ol className="stages" aria-label={t.label}>
        {way.steps.map((s) => (
          <li key={s.name} className={`stage stage-${s.state}`} aria-current={s.state === 'now' ? 'step' : undefined}>
            <Mark shape={s.state === 'done' ? 'ok' : s.state === 'now' ? 'starting' : 'unknown'} /> {t.words[s.name] ?? s.name} <span className="small">({t[s.state]})</span>
          </li>
        ))}
      </ol>
      <p className="stage-means">
        {way.off !== undefined && (
          <span className={`badge badge-${way.off === 'not_anchored' ? 'warn' : 'bad'}`}>
            <Mark shape="warn" /> {t.words[way.off] ?? way.off}
          </span>
        )}{' '}
        {t.means[state]}
      </p>
    </div>
  );
}

/** A stage in one word or two, for a list. */
export function Stage({ of: state }: { of: string }) {
  const t = useLogText().stage;
  const shape = state === 'finalized' ? 'ok' : state === 'orphaned' || state === 'failed' || state === 'vanished' ? 'warn' : 'starting';
  const tone = shape === 'ok' ? 'stage-done' : shape === 'warn' ? 'bad' : undefined;
  return (
    <span className={tone}>
      <Mark shape={shape} /> {t.words[state] ?? state}
    </span>
  );
}
