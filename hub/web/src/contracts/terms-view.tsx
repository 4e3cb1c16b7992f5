// The terms of a contract: every version, what each one changed, and the times in which a miner belongs to no contract.
import { useState } from 'react';
import type { ContractDetail, ContractVersion, Terms } from '../api/types';
import { useMay } from '../app/may';
import { useContractText, type ContractMessages } from '../text/contracts';
import { useText } from '../text/text';
import type { Messages } from '../text/en';
import { boundText, bpText, moneyText, rateText, wholeDuration } from './amounts';
import { slotTime, Utc, useMinerName, useSiteName } from './area';
import { AmendContract } from './make-contract';
import { differences, termFields, type TermField } from './terms';
import { CopyText } from '../ui/copy';

export function TermsView({ contract }: { contract: ContractDetail }) {
  const t = useContractText();
  const may = useMay();
  const [amending, setAmending] = useState(false);
  const versions = [...contract.versions].sort((a, b) => b.version - a.version);
  return (
    <>
      <section className="panel" aria-label={t.terms.versions}>
        <div className="panel-head">
          <h2>{t.terms.versions}</h2>
          {may('contracts:write') && (
            <button type="button" className="button page-do" onClick={() => setAmending(true)}>
              {t.terms.amend}
            </button>
          )}
        </div>
        <ol className="versions">
          {versions.map((v, i) => (
            <li key={v.version}>
              <Version of={v} before={versions[i + 1]} newest={i === 0} />
            </li>
          ))}
        </ol>
      </section>
      <Gaps contract={contract} />
      {amending && <AmendContract contract={contract} onClose={() => setAmending(false)} />}
    </>
  );
}

function Version({ of: v, before, newest }: { of: ContractVersion; before: ContractVersion | undefined; newest: boolean }) {
  const t = useContractText();
  const text = useText();
  const changed = before === undefined ? [] : differences(before.terms, v.terms);
  return (
    <details className="version" open={newest}>
      <summary>
        <strong>{t.terms.version(v.version)}</strong> {newest && <span className="tag">{t.terms.newest}</span>}{' '}
        <span className="quiet">
          {t.contracts.since} <Utc at={v.from} />
        </span>
      </summary>
      <p className="quiet small">
        {t.recorded} <Utc at={v.recorded_at} /> {v.recorded_by !== '' && t.by(v.recorded_by)}
      </p>
      {before !== undefined && (
        <p className="small">{changed.length === 0 ? t.terms.same : `${t.terms.changed}: ${changed.map((f) => t.terms.fields[f]).join('; ')}.`}</p>
      )}
      <dl className="facts">
        {termFields
          .filter((f) => f !== 'currency' && f !== 'from')
          .map((f) => (
            <div key={f} className={changed.includes(f) ? 'fact fact-changed' : 'fact'}>
              <dt>{t.terms.fields[f]}</dt>
              <dd>
                {termText(f, v.terms, t, text)}
                {before !== undefined && changed.includes(f) && <span className="quiet small was"> {t.terms.was(termText(f, before.terms, t, text))}</span>}
              </dd>
            </div>
          ))}
      </dl>
      <p className="quiet small">{t.hashOf(t.terms.version(v.version))}</p>
      <CopyText text={v.hash} name={t.hashOf(t.terms.version(v.version))} />
    </details>
  );
}

/** One term in words. */
function termText(field: TermField, v: Terms, t: ContractMessages, text: Messages): string {
  const time = (s: number) => wholeDuration(s, text);
  const cap = (slots: number) => (slots < 0 ? t.terms.noCap : t.terms.capped(slotTime(slots, t)));
  switch (field) {
    case 'from': return v.from;
    case 'rate_mhs': return rateText(v.rate_mhs);
    case 'metric': return t.terms.metrics[v.metric] ?? v.metric;
    case 'target_ppm': return boundText(v.target_ppm);
    case 'theta_ppm': return t.terms.ofRate(boundText(v.theta_ppm));
    case 'degraded_ppm': return t.terms.ofRate(boundText(v.degraded_ppm));
    case 'unknown': return t.terms.policies[v.unknown] ?? v.unknown;
    case 'backfill_s': return t.terms.afterHour(time(v.backfill_s));
    case 'curtail_late_s': return t.terms.afterStart(time(v.curtail_late_s));
    case 'maintenance_notice_s': return t.terms.beforeStart(time(v.maintenance_notice_s));
    case 'curtail_cap_slots': return cap(v.curtail_cap_slots);
    case 'maintenance_cap_slots': return cap(v.maintenance_cap_slots);
    case 'tiers': return v.tiers.length === 0 ? t.terms.noCredits : v.tiers.map((x) => t.terms.tier(boundText(x.below_ppm), bpText(x.credit_bp))).join('; ');
    case 'credit_cap_bp': return t.terms.ofFee(bpText(v.credit_cap_bp));
    case 'fee_minor': return v.fee_minor === 0 ? t.terms.noFee : moneyText(v.fee_minor, v.currency);
    case 'currency': return v.currency;
  }
}

/** Gaps listed at once; a contract of thousands of miners may have as many. */
const shownGaps = 100;

function Gaps({ contract }: { contract: ContractDetail }) {
  const t = useContractText();
  const minerName = useMinerName();
  const siteName = useSiteName(contract.sites);
  const [all, setAll] = useState(false);
  const gaps = contract.gaps;
  return (
    <section className="panel" aria-label={t.terms.gaps}>
      <h2>{t.terms.gaps}</h2>
      {gaps.length === 0 ? (
        <p className="quiet">{t.terms.noGaps}</p>
      ) : (
        <>
          <p className="quiet">{t.terms.gapsHelp}</p>
          <table className="list">
            <thead>
              <tr>
                <th scope="col">{t.miner}</th>
                <th scope="col">{t.site}</th>
                <th scope="col">{t.from}</th>
                <th scope="col">{t.to}</th>
              </tr>
            </thead>
            <tbody>
              {gaps.slice(0, all ? undefined : shownGaps).map((g) => (
                <tr key={`${g.miner_id} ${g.from}`}>
                  <td>{minerName(g)}</td>
                  <td data-name={t.site}>{siteName(g.site_id)}</td>
                  <td data-name={t.from}>
                    <Utc at={g.from} />
                  </td>
                  <td data-name={t.to}>{g.to ? <Utc at={g.to} /> : t.open}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {contract.gaps_more && <p className="quiet">{t.terms.gapsMore}</p>}
          {!all && gaps.length > shownGaps && (
            <button type="button" className="button" onClick={() => setAll(true)}>
              {t.more}
            </button>
          )}
        </>
      )}
    </section>
  );
}
