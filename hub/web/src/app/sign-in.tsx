// Exchanges an API key for a session cookie. The key lives in this form only.
import { useEffect, useId, useRef, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';
import type { Messages } from '../text/en';
import { LanguageChoice } from '../text/language-choice';
import { useText } from '../text/text';
import { keys } from './queries';
import { Link } from './router';

function explain(err: unknown, t: Messages): string {
  if (!(err instanceof ApiError)) return String(err);
  if (err.status === 0) return t.signIn.unreachable(location.origin);
  if (err.status === 429) return t.signIn.tooMany(err.retryAfter);
  if (err.status === 400 || err.status === 401 || err.status === 403 || err.status === 422) return t.signIn.wrong;
  return [err.message, err.help, err.requestId && t.error.request(err.requestId)].filter(Boolean).join(' ');
}

export function SignIn() {
  const t = useText();
  const queries = useQueryClient();
  const [key, setKey] = useState('');
  const [shown, setShown] = useState(false);
  const [empty, setEmpty] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const errorId = useId();
  const hintId = useId();
  const signIn = useMutation({
    mutationFn: (k: string) => call(http.POST('/api/session', { body: { key: k } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.session }),
    onError: () => input.current?.focus(),
  });
  useEffect(() => {
    document.title = t.title(t.signIn.title);
    input.current?.focus();
  }, [t]);

  const submit = (e: FormEvent) => {
    e.preventDefault();
    const k = key.trim();
    setEmpty(k === '');
    if (k === '') {
      input.current?.focus();
      return;
    }
    signIn.mutate(k);
  };
  const error = empty ? t.signIn.empty : signIn.error ? explain(signIn.error, t) : null;

  return (
    <div className="sign-in">
      <main className="sign-in-card">
        <div className="brand brand-large">
          <img src="/mark.svg" alt="" width="30" height="30" /> <span>{t.product}</span>
        </div>
        <h1>{t.signIn.title}</h1>
        <p className="quiet">{t.signIn.lead}</p>
        <form onSubmit={submit} noValidate>
          <label htmlFor="key">{t.signIn.key}</label>
          <input
            ref={input}
            id="key"
            name="key"
            type={shown ? 'text' : 'password'}
            className="input input-key"
            autoComplete="current-password"
            spellCheck={false}
            autoCapitalize="off"
            value={key}
            placeholder="hsi_…"
            aria-invalid={error !== null}
            aria-describedby={error ? `${errorId} ${hintId}` : hintId}
            onChange={(e) => {
              setKey(e.target.value);
              setEmpty(false);
            }}
          />
          <label className="check">
            <input type="checkbox" checked={shown} onChange={(e) => setShown(e.target.checked)} /> {t.signIn.show}
          </label>
          <div id={errorId} role="alert" className="form-error">
            {error}
          </div>
          <button type="submit" className="button button-main" disabled={signIn.isPending}>
            {signIn.isPending ? t.signIn.busy : t.signIn.submit}
          </button>
        </form>
        <p id={hintId} className="quiet small">
          {t.signIn.hint}
        </p>
        <p className="small">
          <Link to="/log">{t.log.withoutKey}</Link> · <a href="/verify/">{t.signIn.verify}</a>
        </p>
        <LanguageChoice />
      </main>
    </div>
  );
}
