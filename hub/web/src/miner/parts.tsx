// The tables of one miner: boards, pools, and what it or its replies complained of.
import type { ReactNode } from 'react';
import type { MinerDetail } from '../api/types';
import { count, decimal, percent, rate, type Quantity } from '../format';
import { useText } from '../text/text';
import { Mark, TextOr, Value } from '../ui/parts';

export function Boards({ miner }: { miner: MinerDetail }) {
  const t = useText();
  const boards = miner.boards ?? [];
  const c = t.miner.board;
  return (
    <section className="panel" aria-labelledby="boards">
      <h2 id="boards">{t.miner.boards}</h2>
      {boards.length === 0 ? (
        <p className="quiet">{t.miner.noBoards}</p>
      ) : (
        <Scroll label={t.miner.boards}>
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">{c.index}</th>
                <th scope="col" className="numeric">{c.rate}</th>
                <th scope="col" className="numeric">{c.chips}</th>
                <th scope="col" className="numeric">{c.frequency}</th>
                <th scope="col" className="numeric">{c.errors}</th>
                <th scope="col" className="numeric">{c.temps}</th>
              </tr>
            </thead>
            <tbody>
              {boards.map((b) => (
                <tr key={b.index}>
                  <th scope="row">{b.index}</th>
                  <td className="numeric"><Value of={rate(b.hashrate_hs, t)} /></td>
                  <td className="numeric"><Chips working={b.chips_working} all={b.chips} /></td>
                  <td className="numeric">
                    <Value of={b.frequency_mhz === undefined ? null : { value: decimal(b.frequency_mhz, 0), unit: t.unit.mhz }} />
                  </td>
                  <td className="numeric"><Value of={count(b.hardware_errors)} /></td>
                  <td className="numeric"><Value of={temps(b.temps_c, t.unit.c)} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </section>
  );
}

function temps(c: readonly number[] | null | undefined, unit: string): Quantity | null {
  return c && c.length > 0 ? { value: c.map((v) => decimal(v, 0)).join(' · '), unit } : null;
}

/** Chips that work, of how many there are; a firmware may know only one of the two. */
function Chips({ working, all }: { working: number | undefined; all: number | undefined }) {
  const t = useText();
  if (working === undefined && all === undefined) return <Value of={null} />;
  const part = working === undefined ? t.none : decimal(working, 0);
  const whole = all === undefined ? t.none : decimal(all, 0);
  const missing = working !== undefined && all !== undefined && working < all;
  return (
    <span className={missing ? 'low' : undefined}>
      {missing && <Mark shape="warn" />} {part} / {whole}
    </span>
  );
}

export function Pools({ miner }: { miner: MinerDetail }) {
  const t = useText();
  const pools = miner.pools ?? [];
  const c = t.miner.pool;
  return (
    <section className="panel" aria-labelledby="pools">
      <h2 id="pools">{t.miner.pools}</h2>
      {pools.length === 0 ? (
        <p className="quiet">{t.miner.noPools}</p>
      ) : (
        <Scroll label={t.miner.pools}>
          <table className="plain">
            <thead>
              <tr>
                <th scope="col">{c.url}</th>
                <th scope="col">{c.worker}</th>
                <th scope="col">{c.status}</th>
                <th scope="col" className="numeric">{c.accepted}</th>
                <th scope="col" className="numeric">{c.rejected}</th>
                <th scope="col" className="numeric">{c.stale}</th>
              </tr>
            </thead>
            <tbody>
              {pools.map((p, i) => (
                // A miner may list the same pool twice: its place is its identity.
                <tr key={`${i} ${p.url}`}>
                  <td className="text-cell"><TextOr value={p.url} /></td>
                  <td className="text-cell"><TextOr value={p.worker} /></td>
                  <td><PoolStatus alive={p.alive} active={p.active} /></td>
                  <td className="numeric"><Value of={count(p.accepted)} /></td>
                  <td className="numeric">
                    <Value of={count(p.rejected)} /> <Share part={p.rejected} rest={p.accepted} />
                  </td>
                  <td className="numeric"><Value of={count(p.stale)} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </section>
  );
}

function Share({ part, rest }: { part: number | undefined; rest: number | undefined }) {
  const t = useText();
  if (part === undefined || rest === undefined || part + rest === 0) return null;
  return (
    <span className="quiet">
      (<Value of={percent(part / (part + rest), 2, t)} />)
    </span>
  );
}

function PoolStatus({ alive, active }: { alive: boolean | undefined; active: boolean | undefined }) {
  const t = useText();
  if (alive === undefined && active === undefined) return <TextOr value={null} />;
  const words = [active && t.miner.poolActive, alive === true && t.miner.poolAlive, alive === false && t.miner.poolDead];
  const shape = alive === false ? 'faulty' : active ? 'hashing' : 'ok';
  return (
    <span className={alive === false ? 'bad' : undefined}>
      <Mark shape={shape} /> <TextOr value={words.filter(Boolean).join(', ')} />
    </span>
  );
}

export function Problems({ miner }: { miner: MinerDetail }) {
  const t = useText();
  const errors = miner.errors ?? [];
  const repairs = miner.repairs ?? [];
  return (
    <section className="panel" aria-labelledby="problems">
      <h2 id="problems">{t.miner.problems}</h2>
      <div className="problems">
        <div>
          <h3>{t.miner.errors}</h3>
          {errors.length === 0 ? (
            <p className="quiet">{t.miner.noErrors}</p>
          ) : (
            <ul className="words">
              {errors.map((e, i) => (
                <li key={`${i} ${e}`}>{e}</li>
              ))}
            </ul>
          )}
        </div>
        <div>
          <h3>{t.miner.repairs}</h3>
          <p className="quiet small">{t.miner.repairsHelp}</p>
          {repairs.length === 0 ? (
            <p className="quiet">{t.miner.noRepairs}</p>
          ) : (
            <ul className="words">
              {repairs.map((r) => (
                <li key={r}>{t.miner.repair[r] ?? r}</li>
              ))}
            </ul>
          )}
        </div>
      </div>
    </section>
  );
}

function Scroll({ label, children }: { label: string; children: ReactNode }) {
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls must be reachable by keyboard
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      {children}
    </div>
  );
}
