// One statement: what it says in words, what it took the place of, what it names, and the bytes that were signed.
import { useEffect, useId, useState, type FormEvent, type ReactNode } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { ApiError, call, http } from '../api/client';
import type { StatementChanges, StatementDetail } from '../api/types';
import { useMay } from '../app/may';
import { contractPath, Link, navigate, statementPath } from '../app/router';
import { boundText, bpText, moneyText, ppmText } from '../contracts/amounts';
import { Area, UtcField, Utc } from '../contracts/area';
import { contractKeys, useStatement } from '../contracts/queries';
import { decimal } from '../format';
import { StatementProof } from '../log/statement-proof';
import { Verdict } from '../sla/verdict';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { CopyText } from '../ui/copy';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';
import { fromUtcField, rfc3339 } from '../utc';
import { contentOf } from './content';
import { creditText, Standing } from './statement-list';

export default function StatementPage({ hash }: { hash: string }) {
  const t = useContractText();
  const text = useText();
  const s = t.statements;
  const statement = useStatement(hash);
  const title = statement.data ? s.titleOf(statement.data.contract_name, statement.data.month) : undefined;
  useEffect(() => {
    if (title) document.title = text.title(title);
  }, [title, text]);
  if (statement.isPending) return <p className="quiet">{text.loading}</p>;
  if (!statement.data) {
    if (statement.error instanceof ApiError && (statement.error.status === 404 || statement.error.status === 422)) {
      return (
        <div className="notice">
          <p>{s.notFound}</p>
          <Link to="/statements">{s.back}</Link>
        </div>
      );
    }
    return <Problem title={s.loadError} error={statement.error} onRetry={() => void statement.refetch()} />;
  }
  return <Shown of={statement.data} />;
}

function Shown({ of: x }: { of: StatementDetail }) {
  const t = useContractText();
  const may = useMay();
  const s = t.statements;
  const [restating, setRestating] = useState(false);
  const content = contentOf(x.statement);
  const credit = creditText(x.credit);
  return (
    <Area
      here="statements"
      title={s.titleOf(x.contract_name, x.month)}
      note={<Standing of={x} />}
      actions={
        <>
          {may('statements:write') && !x.superseded_by && (
            <button type="button" className="button" onClick={() => setRestating(true)}>
              {s.restate}
            </button>
          )}
          <a className="button button-main" href={`/api/statements/${encodeURIComponent(x.hash)}/download`} download>
            {s.download}
          </a>
        </>
      }
    >
      <section className="panel" aria-label={s.says}>
        <h2>{s.says}</h2>
        <p>
          {s.sentence(x.contract_name, x.month)}{' '}
          {x.availability_ppm === undefined ? s.saysNothing : s.saysAvailability(ppmText(x.availability_ppm), content.targetPpm === null ? '—' : boundText(content.targetPpm))}{' '}
          {credit === null ? s.saysNoCredit : s.saysCredit(credit)}
        </p>
        <p>{x.availability_ppm !== undefined && <Verdict met={x.met} />}</p>
        {x.reason && (
          <p>
            <strong>{s.reason}:</strong> {x.reason}
          </p>
        )}
        <p className="quiet">
          {s.issued} <Utc at={x.issued_at} /> · <Link to={contractPath(x.contract_id)}>{x.contract_name}</Link> · <Link to={`${contractPath(x.contract_id)}?month=${x.month}`}>{t.contracts.tabs.sla}</Link>
        </p>
      </section>
      <StatementProof of={x} />
      {x.changes && <Changes of={x.changes} currency={x.credit.currency ?? ''} />}
      <section className="panel" aria-label={s.inputs}>
        <h2>{s.inputs}</h2>
        <dl className="facts">
          <Fact name={s.inputTerms}>{content.terms}</Fact>
          <Fact name={s.inputAssignments}>{content.assignments}</Fact>
          <Fact name={s.inputExcuses}>{content.excuses}</Fact>
          <Fact name={s.inputHours}>{content.hours}</Fact>
          <Fact name={s.engine}>{x.engine}</Fact>
          <Fact name={s.size}>{decimal(x.bytes_length, 0)}</Fact>
        </dl>
        <p className="quiet">{s.command}</p>
        <CopyText text={`hashinsight-hub statement recompute ${x.hash}`} name={s.command} />
      </section>
      <section className="panel statement-proof" aria-label={s.hash}>
        <p className="quiet">{s.downloadHelp}</p>
        <Labelled name={s.hash} text={x.hash} />
        <Labelled name={s.signature} text={x.signature} />
        <Labelled name={s.publicKey} text={x.public_key} />
        <details>
          <summary>{s.content}</summary>
          {/* Scrolls, so it must be reachable by keyboard. */}
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <pre className="statement-content" tabIndex={0} role="region" aria-label={s.content}>
            {content.text}
          </pre>
        </details>
      </section>
      {restating && <Restate of={x} onClose={() => setRestating(false)} />}
    </Area>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="fact">
      <dt>{name}</dt>
      <dd>{typeof children === 'number' ? decimal(children, 0) : children}</dd>
    </div>
  );
}

function Labelled({ name, text }: { name: string; text: string }) {
  return (
    <div>
      <h3>{name}</h3>
      <CopyText text={text} name={name} />
    </div>
  );
}

const signed = (n: number, text: string): string => (n > 0 ? `+${text}` : n < 0 ? `−${text}` : text);

function Changes({ of: c, currency }: { of: StatementChanges; currency: string }) {
  const t = useContractText();
  const s = t.statements;
  const slots = [
    [t.slots.state.up, c.slots.up],
    [t.slots.state.degraded, c.slots.degraded],
    [t.slots.state.down, c.slots.down],
    [t.slots.state.unknownDown, c.slots.unknown_down],
    [t.slots.state.unknownExcused, c.slots.unknown_excused],
    [t.slots.state.curtailment, c.slots.curtailment],
    [t.slots.state.maintenance, c.slots.maintenance],
  ] as const;
  const changed = slots.filter(([, n]) => n !== 0).map(([name, n]) => `${name} ${signed(n, decimal(Math.abs(n), 0))}`);
  return (
    <section className="panel" aria-label={s.changes}>
      <h2>{s.changes}</h2>
      <dl className="facts">
        {c.availability_ppm !== undefined && (
          <Fact name={s.changeAvailability}>{c.availability_ppm === 0 ? s.noChange : s.points(signed(c.availability_ppm, ppmText(Math.abs(c.availability_ppm)).replace(' %', '')))}</Fact>
        )}
        <Fact name={s.changeCredit}>
          {c.credit_bp === 0 && c.credit_minor === 0
            ? s.noChange
            : [signed(c.credit_bp, bpText(Math.abs(c.credit_bp))), c.credit_minor === 0 ? '' : signed(c.credit_minor, moneyText(Math.abs(c.credit_minor), currency))].filter(Boolean).join(', ')}
        </Fact>
        <Fact name={s.changeSlots}>{changed.length === 0 ? s.noChange : changed.join(', ')}</Fact>
        <Fact name={s.changeMiners}>{c.miners}</Fact>
        <Fact name={s.changeHours}>{c.hours}</Fact>
        <Fact name={s.changeInputs}>{c.inputs.length === 0 ? s.noChange : c.inputs.join(', ')}</Fact>
      </dl>
    </section>
  );
}

function Restate({ of: x, onClose }: { of: StatementDetail; onClose: () => void }) {
  const t = useContractText();
  const s = t.statements;
  const id = useId();
  const queries = useQueryClient();
  const [reason, setReason] = useState('');
  const [until, setUntil] = useState('');
  const untilMs = until === '' ? undefined : fromUtcField(until);
  const ready = reason.trim() !== '' && untilMs !== null;
  const restate = useMutation({
    mutationFn: () =>
      call(
        http.POST('/api/contracts/{id}/statements', {
          params: { path: { id: x.contract_id } },
          body: { month: x.month, reason: reason.trim(), ...(untilMs ? { accept_until: rfc3339(untilMs) } : {}) },
        }),
      ),
    onSuccess: (made) => {
      void queries.invalidateQueries({ queryKey: contractKeys.statements });
      void queries.invalidateQueries({ queryKey: contractKeys.statement(x.hash) });
      void queries.invalidateQueries({ queryKey: contractKeys.contract(x.contract_id) });
      onClose();
      navigate(statementPath(made.hash));
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !restate.isPending) restate.mutate();
  };
  return (
    <Dialog title={s.restateTitle(x.month)} onClose={onClose}>
      <p className="quiet">{s.restateHelp}</p>
      <form onSubmit={submit}>
        <Field label={s.restateReason} htmlFor={id} hint={s.restateReasonHint} hintId={`${id}-hint`}>
          <input id={id} className="input" required maxLength={500} autoComplete="off" value={reason} aria-describedby={`${id}-hint`} onChange={(e) => setReason(e.target.value)} />
        </Field>
        <UtcField label={s.restateUntil} value={until} onChange={setUntil} hint={s.restateUntilHint} required={false} />
        {restate.error && <Problem title={s.restateFailed} error={restate.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-bad" disabled={!ready || restate.isPending}>
            {restate.isPending ? s.restating : s.restateDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
