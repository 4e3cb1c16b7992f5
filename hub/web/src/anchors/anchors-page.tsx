// Anchors: where the log's checkpoints go, how far the newest is, what keeps it, and those before. Every text in it is data.
import type { Anchor, AnchorProblem, AnchorStatus } from '../api/types';
import { Short, Utc } from '../contracts/area';
import { decimal, duration, ms } from '../format';
import { Fact, LogArea, Member, OpenRow, When } from '../log/area';
import { useAnchors, useAnchorStatus } from '../log/queries';
import { Stage, StageLine } from '../log/stage-line';
import { anchorStages } from '../log/stages';
import { anchorProblem } from '../text/anchor-problems';
import { useLogText } from '../text/log';
import { useLanguage, useText } from '../text/text';
import { Mark, Problem, TextOr } from '../ui/parts';
import { utcMoment } from '../utc';

export default function AnchorsPage() {
  const t = useLogText();
  const text = useText();
  const status = useAnchorStatus();
  const list = useAnchors();
  const anchors = list.data?.pages.flatMap((p) => p.items) ?? [];
  const refresh = () => {
    void status.refetch();
    void list.refetch();
  };
  return (
    <LogArea here="anchors" lead={t.anchors.lead} onRefresh={refresh}>
      {status.isPending && <p className="quiet">{text.loading}</p>}
      {status.error && !status.data && <Problem title={t.anchors.loadError} error={status.error} onRetry={() => void status.refetch()} />}
      {status.data && <Status of={status.data} />}
      {list.error && !list.data && <Problem title={t.anchors.listError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && anchors.length > 0 && (
        <section className="panel" aria-label={t.anchors.list}>
          <h2>{t.anchors.list}</h2>
          <List of={anchors} />
          {list.hasNextPage && (
            <p>
              <button type="button" className="button" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
                {list.isFetchingNextPage ? text.loading : t.more}
              </button>
            </p>
          )}
        </section>
      )}
    </LogArea>
  );
}

function Status({ of: s }: { of: AnchorStatus }) {
  const t = useLogText().anchors;
  const text = useText();
  if (s.driver === 'none') {
    return (
      <section className="panel anchor-status" aria-label={t.title}>
        <h2>{t.title}</h2>
        <p>{t.driverNone}</p>
      </section>
    );
  }
  return (
    <section className="panel anchor-status" aria-label={t.title}>
      <h2>{t.title}</h2>
      {s.problem && <What problem={s.problem} since={s.problem_since} />}
      {s.overdue && (
        <p className="bad">
          <Mark shape="warn" /> {t.overdue}
        </p>
      )}
      {s.vanished > 0 && (
        <p className="bad">
          <Mark shape="warn" /> {t.vanishedAll(s.vanished)}
        </p>
      )}
      {s.newest ? (
        <div>
          <h3>{t.newest(s.newest.seq, s.newest.size)}</h3>
          <StageLine stages={anchorStages} state={s.newest.state} />
          <Late of={s.newest} />
        </div>
      ) : (
        <p className="quiet">{t.noneYet}</p>
      )}
      <div>
        <Member name={t.contract} text={s.contract} />
        {s.contract && <p className="quiet small">{t.contractHelp}</p>}
      </div>
      <dl className="facts">
        <Fact name={t.network}>{t.networkOf(s.network ?? '', s.chain_id ?? 0)}</Fact>
        <Fact name={t.account}>
          <TextOr value={s.account} />
        </Fact>
        <Fact name={t.endpoints}>{t.endpointsOf(s.endpoints)}</Fact>
        <Fact name={t.interval}>{duration(s.interval_s, text)}</Fact>
        <Fact name={t.logSize}>{decimal(s.log_size, 0)}</Fact>
        <Fact name={t.coveredAt}>
          <When at={s.covered_at} />
        </Fact>
        <Fact name={t.blocks}>{[s.latest_block, s.safe_block, s.finalized_block].map((b) => (b === undefined ? text.none : decimal(b, 0))).join(' · ')}</Fact>
        <Fact name={t.answered}>
          <When at={s.answered_at} />
        </Fact>
        <Fact name={t.checked}>
          <When at={s.checked_at} />
        </Fact>
      </dl>
    </section>
  );
}

/** What keeps the hub from anchoring: in the reader's language where the case has a sentence, and in the hub's own words, which say what to do. */
function What({ problem: p, since }: { problem: AnchorProblem; since: string | undefined }) {
  const t = useLogText().anchors;
  const { language } = useLanguage();
  const said = anchorProblem(language, p.problem_code, p.params);
  return (
    <div className="notice notice-bad" role="alert">
      <p className="notice-title">{t.problem}</p>
      {said !== undefined && <p className="anchor-problem">{said}</p>}
      <p>
        {said !== undefined && `${t.hubSays} `}
        <span lang="en">{p.text}</span>
      </p>
      <p className="quiet">
        {p.code && <>{t.code(p.code)} · </>}
        {since && (
          <>
            {t.since} <Utc at={since} />
          </>
        )}
      </p>
    </div>
  );
}

/** Since when and why an anchor is late, in words; nothing where it is not. */
function Late({ of: a }: { of: Anchor }) {
  const t = useLogText().anchors;
  if (!a.late_reason) return null;
  return (
    <p className="low">
      <Mark shape="warn" /> {t.late(utcMoment(ms(a.due_at) ?? 0), t.why[a.late_reason] ?? a.late_reason)}
    </p>
  );
}

function List({ of }: { of: readonly Anchor[] }) {
  const t = useLogText().anchors;
  const text = useText();
  return (
    <table className="list log-list">
      <thead>
        <tr>
          <th scope="col">{t.seq}</th>
          <th scope="col">{t.state}</th>
          <th scope="col">{t.size}</th>
          <th scope="col">{t.block}</th>
          <th scope="col">{t.tx}</th>
          <th scope="col">{t.blockTime}</th>
          <th scope="col">{t.punctual}</th>
        </tr>
      </thead>
      <tbody>
        {of.map((a) => (
          <OpenRow
            key={`${a.chain_id} ${a.contract} ${a.seq}`}
            name={decimal(a.seq, 0)}
            label={t.show(a.seq)}
            columns={7}
            cells={
              <>
                <td data-name={t.state}>
                  <Stage of={a.state} />
                </td>
                <td data-name={t.size}>{decimal(a.size, 0)}</td>
                <td data-name={t.block}>{a.block_number === undefined ? text.none : decimal(a.block_number, 0)}</td>
                <td data-name={t.tx}>{a.tx_hash ? <Short of={a.tx_hash} /> : text.none}</td>
                <td data-name={t.blockTime}>
                  <Utc at={a.block_time} />
                </td>
                <td data-name={t.punctual}>
                  {a.late_reason ? (
                    <span className="low">
                      <Mark shape="warn" /> {t.lateShort}
                    </span>
                  ) : (
                    t.inTime
                  )}
                </td>
              </>
            }
          >
            {() => <Detail of={a} />}
          </OpenRow>
        ))}
      </tbody>
    </table>
  );
}

function Detail({ of: a }: { of: Anchor }) {
  const t = useLogText().anchors;
  return (
    <>
      <StageLine stages={anchorStages} state={a.state} />
      <Late of={a} />
      {a.adopted && <p>{t.adopted}</p>}
      {(a.vanished ?? 0) > 0 && <p className="bad">{t.vanishedOnce(a.vanished ?? 0)}</p>}
      <dl className="facts">
        <Fact name={t.due}>
          <Utc at={a.due_at} />
        </Fact>
        <Fact name={t.built}>
          <Utc at={a.built_at} />
        </Fact>
        <Fact name={t.mined}>
          <When at={a.mined_at} />
        </Fact>
        <Fact name={t.finalized}>
          <When at={a.finalized_at} />
        </Fact>
      </dl>
      <Member name={t.tx} text={a.tx_hash} />
      <Member name={t.blockHash} text={a.block_hash} />
      <Member name={t.root} text={a.root} />
      <Member name={t.prevRoot} text={a.prev_root} />
      <Member name={t.contract} text={a.contract} />
    </>
  );
}
