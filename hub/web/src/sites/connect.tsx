// The dialog that makes a token for a site, shows it once, and says what to type at the site.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { NewJoinToken, Site } from '../api/types';
import { useLive } from '../app/live';
import { keys, useJoinTokens } from '../app/queries';
import { moment, ms } from '../format';
import { useManageText } from '../text/manage';
import { useText } from '../text/text';
import { CopyText } from '../ui/copy';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';
import { joinCommands, reachableHub, systems, validities, type System } from './join-commands';

interface ConnectProps {
  /** The sites that the hub knows: a token for one of them brings it back. */
  sites: readonly Site[];
  siteName?: string;
  onClose: () => void;
}

export function ConnectDialog({ sites, siteName = '', onClose }: ConnectProps) {
  const t = useManageText();
  // The token lives here only: not in a query's cache, and gone with the dialog.
  const [made, setMade] = useState<NewJoinToken | null>(null);
  const [copied, setCopied] = useState(false);
  return (
    <Dialog title={made ? t.join.madeTitle(made.site_name) : t.join.connect} mayClose={made === null || copied} onClose={onClose}>
      {made ? (
        <Made token={made} onCopied={() => setCopied(true)} onClose={onClose} />
      ) : (
        <Order sites={sites} siteName={siteName} onMade={setMade} onClose={onClose} />
      )}
    </Dialog>
  );
}

function Order({ sites, siteName, onMade, onClose }: { sites: readonly Site[]; siteName: string; onMade: (token: NewJoinToken) => void; onClose: () => void }) {
  const t = useManageText();
  const id = useId();
  const queries = useQueryClient();
  const [name, setName] = useState(siteName);
  const [minutes, setMinutes] = useState(60);
  const [source, setSource] = useState('');
  const [approval, setApproval] = useState(false);
  const [replaceKey, setReplaceKey] = useState(false);
  const known = sites.some((s) => s.name === name.trim());
  const make = useMutation({
    gcTime: 0,
    mutationFn: () =>
      call(
        http.POST('/api/join-tokens', {
          body: { site_name: name.trim(), valid_minutes: minutes, approval, replace_key: known && replaceKey, ...(source.trim() ? { source: source.trim() } : {}) },
        }),
      ),
    onSuccess: (token) => {
      void queries.invalidateQueries({ queryKey: keys.joinTokens });
      onMade(token);
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!make.isPending) make.mutate();
  };
  return (
    <>
      <p className="quiet">{t.join.lead}</p>
      <form onSubmit={submit}>
        <Field label={t.join.siteName} htmlFor={`${id}-name`} hint={t.join.siteNameHint} hintId={`${id}-name-hint`}>
          <input
            id={`${id}-name`}
            className="input"
            required
            maxLength={100}
            autoComplete="off"
            value={name}
            aria-describedby={`${id}-name-hint`}
            onChange={(e) => setName(e.target.value)}
          />
        </Field>
        <div className="field-row">
          <Field label={t.join.validFor} htmlFor={`${id}-valid`}>
            <select id={`${id}-valid`} className="select" value={minutes} onChange={(e) => setMinutes(Number(e.target.value))}>
              {validities.map((m) => (
                <option key={m} value={m}>
                  {t.join.minutes(m)}
                </option>
              ))}
            </select>
          </Field>
          <Field label={t.join.source} htmlFor={`${id}-source`} hint={t.join.sourceHint} hintId={`${id}-source-hint`}>
            <input
              id={`${id}-source`}
              className="input"
              maxLength={50}
              autoComplete="off"
              spellCheck={false}
              value={source}
              aria-describedby={`${id}-source-hint`}
              onChange={(e) => setSource(e.target.value)}
            />
          </Field>
        </div>
        <label className="check check-top">
          <input type="checkbox" checked={approval} onChange={(e) => setApproval(e.target.checked)} /> <span>{t.join.approval}</span>
        </label>
        {known && (
          <label className="check check-top">
            <input type="checkbox" checked={replaceKey} onChange={(e) => setReplaceKey(e.target.checked)} />{' '}
            <span>
              {t.join.replaceKey}
              <br />
              <span className="quiet small">{t.join.replaceKeyHint}</span>
            </span>
          </label>
        )}
        {make.error && <Problem title={t.join.makeFailed} error={make.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={name.trim() === '' || make.isPending}>
            {make.isPending ? t.join.making : t.join.make}
          </button>
        </div>
      </form>
    </>
  );
}

function Made({ token, onCopied, onClose }: { token: NewJoinToken; onCopied: () => void; onClose: () => void }) {
  const t = useManageText();
  const text = useText();
  const { clock } = useLive();
  const id = useId();
  const [system, setSystem] = useState<System>('linux');
  const tokens = useJoinTokens(true);
  const state = tokens.data?.items.find((x) => x.id === token.id)?.state ?? token.state;
  const until = ms(token.expires_at);
  return (
    <div className="dialog-part">
      <p>
        <strong>{t.join.once}</strong> {until !== null && t.join.validUntil(moment(until, clock.exact(), text))}
      </p>
      <CopyText text={token.token} name={t.join.token} onCopied={onCopied} />
      <div className="choices" role="group" aria-label={t.join.system}>
        {systems.map((s) => (
          <button key={s} type="button" className="button choice" aria-pressed={s === system} onClick={() => setSystem(s)}>
            {t.join[s]}
          </button>
        ))}
      </div>
      <h3 id={id}>{t.join.commands}</h3>
      <ol className="steps" aria-labelledby={id}>
        {joinCommands(system, reachableHub(token.hub, location.hostname)).map((command, i) => (
          <li key={`${system} ${command}`}>
            <p>{t.join.steps[system][i]}</p>
            <CopyText text={command} name={t.join.step(i + 1)} />
          </li>
        ))}
      </ol>
      <p role="status" className="quiet">
        {t.join.progress[state] ?? state}
      </p>
      <div className="dialog-buttons">
        <button type="button" className="button button-main" onClick={onClose}>
          {t.done}
        </button>
      </div>
    </div>
  );
}
