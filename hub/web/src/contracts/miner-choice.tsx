// Choosing miners of one site, of which there may be thousands: by search, one by one or all that match.
import { useDeferredValue, useId, useMemo, useState } from 'react';
import { useFleet } from '../app/live';
import { useContractText } from '../text/contracts';
import { Field } from '../ui/dialog';
import { matching } from './choice';

/** Miners listed at once: the others are found by searching. */
const listed = 200;

interface Props {
  site: string;
  onSite: (site: string) => void;
  chosen: ReadonlySet<string>;
  onChoose: (chosen: ReadonlySet<string>) => void;
  /** Miners that cannot be chosen, being there already. */
  taken?: ReadonlySet<string>;
}

const none: ReadonlySet<string> = new Set();

export function MinerChoice({ site, onSite, chosen, onChoose, taken = none }: Props) {
  const t = useContractText();
  const id = useId();
  const store = useFleet();
  const [search, setSearch] = useState('');
  const wanted = useDeferredValue(search);
  const membership = store.membership();
  const rows = useMemo(
    () => matching(store.all(), store.sites.findIndex((s) => s.id === site), wanted),
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the store is one object; what of it matters here is who belongs to it
    [membership, site, wanted],
  );
  const free = rows.filter((r) => !taken.has(r.id));
  const toggle = (miner: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(miner);
    else next.delete(miner);
    onChoose(next);
  };
  return (
    <>
      <div className="field-row">
        <Field label={t.site} htmlFor={`${id}-site`}>
          <select id={`${id}-site`} className="select" value={site} onChange={(e) => onSite(e.target.value)}>
            {[...store.sites]
              .sort((a, b) => a.name.localeCompare(b.name))
              .map((s) => (
                <option key={s.id} value={s.id}>
                  {s.name}
                </option>
              ))}
          </select>
        </Field>
        <Field label={t.assign.search} htmlFor={`${id}-search`}>
          <input id={`${id}-search`} className="input" type="search" autoComplete="off" maxLength={100} value={search} onChange={(e) => setSearch(e.target.value)} />
        </Field>
      </div>
      <fieldset className="fieldset">
        <legend>{t.assign.choose}</legend>
        <div className="contract-filter">
          <button type="button" className="button" disabled={free.length === 0} onClick={() => onChoose(new Set([...chosen, ...free.map((r) => r.id)]))}>
            {t.assign.chooseAll(free.length)}
          </button>
          <button type="button" className="button" disabled={chosen.size === 0} onClick={() => onChoose(new Set())}>
            {t.assign.chooseNone}
          </button>
          <span role="status">{t.assign.chosen(chosen.size)}</span>
        </div>
        {rows.length === 0 ? (
          <p className="quiet">{t.assign.noMatch}</p>
        ) : (
          <ul className="miner-choice">
            {rows.slice(0, listed).map((r) => (
              <li key={r.id}>
                <label className="check">
                  <input type="checkbox" disabled={taken.has(r.id)} checked={chosen.has(r.id)} onChange={(e) => toggle(r.id, e.target.checked)} /> <span>{r.address || r.id.slice(0, 8)}</span>
                  <span className="quiet small">{taken.has(r.id) ? t.assign.here : r.model}</span>
                </label>
              </li>
            ))}
          </ul>
        )}
        {rows.length > listed && <p className="quiet small">{t.assign.shown(listed, rows.length)}</p>}
      </fieldset>
    </>
  );
}
