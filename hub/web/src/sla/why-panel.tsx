// Why a slot is what it is: the verdict in words, the numbers it was made of, the signed hour and polls they come from, and the excuses.
import { useEffect, useRef, type ReactNode } from 'react';
import type { Why, WhyExcuse, WhyPoll } from '../api/types';
import { boundText, hashesText, ppmText, rateText } from '../contracts/amounts';
import { Short, Utc } from '../contracts/area';
import { useWhy } from '../contracts/queries';
import { decimal, ms } from '../format';
import { hourProofPath } from '../log/hour-proof';
import { ProofFile } from '../log/proof-file';
import { useContractText } from '../text/contracts';
import { useLogText } from '../text/log';
import { useText } from '../text/text';
import { Mark, Problem } from '../ui/parts';
import { slotMs, utcMoment, utcTime } from '../utc';
import { Sample } from './slot-grid';
import { stateOf } from './slots';

interface Props {
  contract: string;
  site: string;
  miner: string;
  name: string;
  atMs: number;
  /** Whether to offer the miner's month. */
  month: boolean;
  onMonth: () => void;
  onClose: () => void;
}

export function WhyPanel({ contract, site, miner, name, atMs, month, onMonth, onClose }: Props) {
  const t = useContractText();
  const text = useText();
  const why = useWhy(contract, site, miner, atMs);
  const heading = useRef<HTMLHeadingElement>(null);
  // Whoever asked is taken to the answer, and back to where the question was when it closes.
  useEffect(() => {
    const before = document.activeElement;
    heading.current?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    // Escape anywhere in it closes it, as it would a dialog.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <section className="panel why" aria-label={t.why.title} onKeyDown={(e) => e.key === 'Escape' && onClose()}>
      <div className="panel-head">
        <h2 ref={heading} tabIndex={-1}>
          {t.why.title} <span className="why-of">{t.why.of(name, utcMoment(atMs).replace(' UTC', ''), utcTime(atMs + slotMs))}</span>
        </h2>
        <div className="page-do contract-actions">
          {month && (
            <button type="button" className="button" onClick={onMonth}>
              {t.assign.wholeOf(name)}
            </button>
          )}
          <button type="button" className="button" onClick={onClose}>
            {t.why.close}
          </button>
        </div>
      </div>
      {why.isPending && <p className="quiet">{text.loading}</p>}
      {why.error && <Problem title={t.why.loadError} error={why.error} onRetry={() => void why.refetch()} />}
      {why.data && <Answer why={why.data} proof={(spool) => hourProofPath(site, miner, atMs, spool)} />}
    </section>
  );
}

/** a ÷ b in ppm, rounded down; of numbers as long as they come. */
const share = (a: string, b: string): number | null => {
  const of = BigInt(b);
  return of === 0n ? null : Number((BigInt(a) * 1_000_000n) / of);
};

function Answer({ why, proof }: { why: Why; proof: (spool: string | undefined) => string }) {
  const t = useContractText();
  const text = useText();
  const state = stateOf(why.letter);
  const done = share(why.hashes, why.needed);
  const known = why.source !== 'none';
  return (
    <>
      <p className="why-verdict">
        <Sample letter={why.letter} /> <strong>{t.slots.state[state]}.</strong> {t.why.rules[why.rule] ?? t.slots.meaning[state]}
      </p>
      <dl className="facts">
        <Fact name={t.why.work}>
          {known ? (
            <>
              {hashesText(why.hashes)} {done !== null && <span className="quiet">({t.why.ofNeeded(ppmText(done))})</span>}
            </>
          ) : (
            <span className="none">{text.noneSpoken}</span>
          )}
        </Fact>
        <Fact name={t.why.source}>{t.why.sources[why.source] ?? why.source}</Fact>
        {why.rate_mhs > 0 && (
          <>
            <Fact name={t.why.needed}>
              {hashesText(why.needed)} <span className="quiet small">({t.why.neededHelp(boundText(why.theta_ppm), rateText(why.rate_mhs))})</span>
            </Fact>
            <Fact name={t.why.degradedNeeded}>{hashesText(why.degraded_needed)}</Fact>
          </>
        )}
        <Fact name={t.why.polls}>{why.polls_made === 0 ? t.why.noSignedPolls : t.why.pollsAnswered(decimal(why.polls_answered, 0), decimal(why.polls_made, 0))}</Fact>
        {why.flags.length > 0 && <Fact name={t.why.flags}>{why.flags.map((f) => t.why.flag[f] ?? f).join(', ')}</Fact>}
        {why.deadline && (
          <Fact name={t.why.deadline}>
            <Utc at={why.deadline} /> <span className="quiet">{why.open ? t.why.deadlineOpen : ''}</span>
          </Fact>
        )}
        {(why.hours?.length ? why.hours : [why.hour]).map((h, i) => (
          <Fact key={i} name={t.why.hour}>
            <Hour of={h} proof={proof(h.spool)} />
          </Fact>
        ))}
        {why.terms && (
          <Fact name={t.why.terms}>
            {t.why.termsVersion(why.terms.version)} <Short of={why.terms.hash} />
          </Fact>
        )}
      </dl>
      <h3>{t.why.excuses}</h3>
      {why.excuses.length === 0 ? <p className="quiet">{t.why.noExcuses}</p> : <Excuses of={why.excuses} />}
      <h3>{t.why.polls}</h3>
      {why.polls_gone && <p className="quiet">{t.why.pollsGone(why.polls_gone)}</p>}
      {why.polls.length > 0 ? <Polls of={why.polls} /> : !why.polls_gone && <p className="quiet">{t.why.noPolls}</p>}
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Hour({ of: h, proof }: { of: Why['hour']; proof: string }) {
  const t = useContractText();
  const file = useLogText().file;
  return (
    <>
      {t.why.hourState[h.state] ?? h.state}
      {h.reason && `: ${h.reason}`}
      <span className="quiet small why-hour">
        {ms(h.received_at) !== null && <span>{t.why.received(utcMoment(ms(h.received_at) ?? 0))}</span>}
        {h.spool && <span>{t.why.chain(h.spool.slice(0, 8), String(h.seq ?? ''))}</span>}
        {h.header_hash && (
          <span>
            {t.why.header} <Short of={h.header_hash} />
          </span>
        )}
        {h.root && (
          <span>
            {t.why.root} <Short of={h.root} />
          </span>
        )}
      </span>
      {/* No file proves an hour that the hub could not compute again. */}
      {h.state === 'agreed' && (
        <span className="why-proof">
          <ProofFile path={proof}>{file.hour}</ProofFile>
        </span>
      )}
    </>
  );
}

function Excuses({ of }: { of: readonly WhyExcuse[] }) {
  const t = useContractText();
  return (
    <ul className="why-excuses">
      {of.map((x) => (
        <li key={x.id}>
          <span className={x.counts ? 'verdict-met' : 'bad'}>
            <Mark shape={x.counts ? 'ok' : 'faulty'} /> {x.counts ? t.why.counts : t.why.countsNot}
          </span>{' '}
          <strong>{t.excuses.kinds[x.kind] ?? x.kind}</strong> {t.why.window(utcMoment(ms(x.from) ?? 0), utcMoment(ms(x.to) ?? 0))}, {t.why.recordedAt(utcMoment(ms(x.recorded_at) ?? 0))}
          {(t.why.excuseWhy[x.why] ?? x.why) !== '' && `: ${t.why.excuseWhy[x.why] ?? x.why}`}
        </li>
      ))}
    </ul>
  );
}

function Polls({ of }: { of: readonly WhyPoll[] }) {
  const t = useContractText();
  const text = useText();
  const p = t.why.poll;
  return (
    <table className="list why-polls">
      <thead>
        <tr>
          <th scope="col">{p.at}</th>
          <th scope="col">{p.outcome}</th>
          <th scope="col">{p.state}</th>
          <th scope="col" className="numeric">
            {p.rate}
          </th>
          <th scope="col" className="numeric">
            {p.counter}
          </th>
          <th scope="col">{p.batch}</th>
          <th scope="col">{p.received}</th>
        </tr>
      </thead>
      <tbody>
        {of.map((x, i) => (
          <tr key={i}>
            <td>{timeOf(x.at)}</td>
            <td data-name={p.outcome}>{text.outcome[x.outcome] ?? x.outcome}</td>
            <td data-name={p.state}>{x.state === '' ? text.none : ((text.state as Record<string, string>)[x.state] ?? x.state)}</td>
            <td data-name={p.rate} className="numeric">
              {x.hashrate_mhs === undefined ? text.none : rateText(x.hashrate_mhs)}
            </td>
            <td data-name={p.counter} className="numeric">
              {x.hashes === undefined ? text.none : BigInt(x.hashes).toLocaleString('en')}
            </td>
            <td data-name={p.batch}>
              <span title={`${t.why.chain(x.spool, String(x.seq))}, ${t.why.header} ${x.header_hash}`}>
                {x.seq} <Short of={x.header_hash} />
              </span>
            </td>
            <td data-name={p.received}>{timeOf(x.received_at)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A time with its seconds; its date is the slot's, or near it. */
function timeOf(rfc3339: string): string {
  const at = ms(rfc3339);
  return at === null ? rfc3339 : new Date(at).toISOString().slice(11, 19);
}
