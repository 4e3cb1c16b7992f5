// Asks before a key is revoked, and why.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { ApiKey } from '../api/types';
import { keys } from '../app/queries';
import { useManageText } from '../text/manage';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';

export function RevokeKeyDialog({ apiKey, mine, onClose }: { apiKey: ApiKey; mine: boolean; onClose: () => void }) {
  const t = useManageText();
  const id = useId();
  const queries = useQueryClient();
  const [why, setWhy] = useState('');
  const revoke = useMutation({
    mutationFn: () => call(http.DELETE('/api/apikeys/{id}', { params: { path: { id: apiKey.id }, query: why.trim() ? { why: why.trim() } : {} } })),
    onSuccess: async () => {
      // With the key of this session the session has ended: asking for it shows the sign-in page.
      await queries.invalidateQueries({ queryKey: mine ? keys.session : keys.apiKeys });
      onClose();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!revoke.isPending) revoke.mutate();
  };
  return (
    <Dialog title={t.keys.revokeTitle(apiKey.name)} onClose={onClose}>
      <p>{t.keys.revokeHelp}</p>
      {mine && (
        <p className="bad">
          <strong>{t.keys.revokeOwn}</strong>
        </p>
      )}
      <form onSubmit={submit}>
        <Field label={t.keys.why} htmlFor={`${id}-why`}>
          <input id={`${id}-why`} className="input" maxLength={500} value={why} onChange={(e) => setWhy(e.target.value)} />
        </Field>
        {revoke.error && <Problem title={t.keys.revokeFailed} error={revoke.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-bad" disabled={revoke.isPending}>
            {t.keys.revokeDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
