// Takes a proof file from the hub. A refusal says why there is none yet, which a plain link would swallow.
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { ApiError, problem } from '../api/client';
import { useLogText } from '../text/log';
import { Problem } from '../ui/parts';
import { fileName } from './file-name';
import './log.css';

export function ProofFile({ path, className = 'button', children }: { path: string; className?: string; children: ReactNode }) {
  const t = useLogText().file;
  const [busy, setBusy] = useState(false);
  const [said, say] = useState('');
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);

  const get = async () => {
    const control = new AbortController();
    stop.current?.abort();
    stop.current = control;
    setBusy(true);
    setError(null);
    say('');
    try {
      const { blob, name } = await proofFile(path, control.signal);
      save(blob, name);
      say(t.saved(name));
    } catch (err) {
      if (!control.signal.aborted) setError(err);
    } finally {
      if (!control.signal.aborted) setBusy(false);
    }
  };
  return (
    <>
      {/* A link, so that its address can be copied and saved otherwise. */}
      <a
        className={className}
        href={path}
        download
        aria-disabled={busy || undefined}
        onClick={(e) => {
          if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
          e.preventDefault();
          if (!busy) void get();
        }}
      >
        {busy ? t.saving : children}
      </a>
      <span role="status" className="quiet small">
        {said}
      </span>
      {error !== null && <Problem title={t.failed} error={error} />}
    </>
  );
}

/**
 * A file that is too long to be held by the page: the browser writes it as it comes. Into a frame, because a refusal leads the frame somewhere and so becomes
 * known, where a plain link ends as a download that failed; what the refusal says, the hub is asked once more.
 */
export function BigProofFile({ path, children }: { path: string; children: ReactNode }) {
  const t = useLogText().file;
  const [attempt, setAttempt] = useState(0);
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);

  const explain = async () => {
    const control = new AbortController();
    stop.current?.abort();
    stop.current = control;
    try {
      await refusal(path, control.signal);
      // It would be sent now, or the browser only does not let it come through a frame.
      location.assign(path);
    } catch (err) {
      if (!control.signal.aborted) setError(err);
    } finally {
      control.abort(); // nobody waits for the file that was asked for
    }
  };
  const busy = error instanceof ApiError && error.status === 429 ? error : null;
  return (
    <>
      <a
        className="button"
        href={path}
        download
        onClick={(e) => {
          if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
          e.preventDefault();
          setError(null);
          setAttempt(attempt + 1);
        }}
      >
        {children}
      </a>
      {attempt > 0 && <iframe key={attempt} src={path} hidden title={t.saving} onLoad={() => void explain()} />}
      <span role="status" className="quiet small">
        {attempt > 0 && error === null && t.begun}
      </span>
      {busy !== null ? (
        <div className="notice notice-bad" role="alert">
          <p className="notice-title">{t.busy}</p>
          <p>{t.busyUntil(busy.retryAfter)}</p>
          <p className="quiet">{busy.message}</p>
        </div>
      ) : (
        error !== null && <Problem title={t.failed} error={error} />
      )}
    </>
  );
}

/** Throws what the hub says against sending the file; its content is not read. */
async function refusal(path: string, signal: AbortSignal): Promise<void> {
  const response = await ask(path, signal);
  if (!response.ok) throw problem(response, await response.json().catch(() => null));
}

async function ask(path: string, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(path, { credentials: 'same-origin', signal });
  } catch (cause) {
    if (signal.aborted) throw cause;
    throw new ApiError(0, '', cause instanceof Error ? cause.message : String(cause), '', '');
  }
}

async function proofFile(path: string, signal: AbortSignal): Promise<{ blob: Blob; name: string }> {
  const response = await ask(path, signal);
  if (!response.ok) throw problem(response, await response.json().catch(() => null));
  return { blob: await response.blob(), name: fileName(response.headers.get('Content-Disposition')) };
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the file when the click returns; a moment more costs nothing.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
