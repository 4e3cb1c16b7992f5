package anchor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// scan is how far the search for events has come: from the newest block downwards. It is kept between runs only to spare calls.
type scan struct {
	want, head uint64 // seqs that are looked for
	next       uint64 // block up to which is to be read; 0: nothing was read yet
	blocks     uint64 // that are asked for at once: fewer where an endpoint refuses that many
	found      []Event
}

// adopt reads anchors back from the contract's events: those from the number from on which the database does not have, or the one that it has as a, in no block.
func (m *Machine) adopt(ctx context.Context, r *round, from uint64, a *Anchor) (more bool, err error) {
	if _, err := m.known(ctx, r.head.Seq, r.head.Size, r.head.Root); err != nil {
		return false, m.ahead(ctx, r, from, err)
	}
	events, err := m.events(ctx, r, from)
	if err != nil {
		return false, err
	}
	for i := range events {
		e := &events[i]
		if err := m.adoptOne(ctx, r, e, a); err != nil {
			return false, err
		}
		m.metrics.event(eventAdopted)
		m.log.WarnContext(ctx, "an anchor was read back from the chain", "seq", e.Seq, "size", e.Size, "block", e.Block)
		if e.Root == e.PrevRoot {
			m.log.WarnContext(ctx, "somebody has anchored the log's head once more, which covers nothing new: unless it is another hub of yours, have the contract's admin take its role away", "seq", e.Seq, "tx", fmt.Sprintf("0x%x", e.TxHash))
		}
		if err := m.here(ctx, "adopted"); err != nil || a != nil {
			return true, err
		}
	}
	return true, nil
}

// verdict is what was found out about a contract that holds more than the log, so that it is not found out again in each run.
type verdict struct {
	head    Head
	logSize uint64
	logOK   bool
	is      *stop // nil: nothing was
}

// ahead says what it means that the contract's newest anchor covers more than this log has: of the anchors before it, one that this log is long enough for shows
// whose they are. err is what known said of the newest one, which may be something else.
func (m *Machine) ahead(ctx context.Context, r *round, from uint64, err error) error {
	if st, ok := errors.AsType[*stop](err); !ok || st.problem != ProblemDatabaseOlder {
		return err
	}
	if v := &m.verdict; v.is != nil && v.head == r.head && v.logSize == r.log.Size && v.logOK == r.logOK {
		return v.is
	}
	events, eerr := m.events(ctx, r, from)
	if st, ok := errors.AsType[*stop](eerr); eerr != nil && (!ok || st.code() == TroubleAhead) {
		return eerr // more is to be read first
	}
	is := &stop{problem: ProblemDatabaseOlder, params: Params{Seq: r.head.Seq, Size: r.head.Size, LogSize: r.log.Size}, detail: fmt.Sprintf(
		"anchor %d in the contract covers %d entries, and this log has %d: the database is older than the chain. The log reads its missing entries back from its directory; until then nothing is anchored", r.head.Seq, r.head.Size, r.log.Size)}
	var shared *Event // the newest that this log is long enough for: were one before it of another log, it would be too
	for i := range events {
		if events[i].Size <= r.log.Size {
			shared = &events[i]
		}
	}
	if shared != nil {
		if _, err := m.known(ctx, shared.Seq, shared.Size, shared.Root); err != nil {
			return err
		}
	} else if r.logOK || r.log.Size == 0 {
		is.problem = ProblemContractAhead
		is.detail = fmt.Sprintf("anchor %d in the contract covers %d entries, and this log has %d and lacks nothing that it knows of. If the hub was put back to an earlier moment together with TRANSPARENCY_LOG_DIR: put the newest copy of that directory back, from which the log reads what it lacks. If not, another log is anchored there: %s",
			r.head.Seq, r.head.Size, r.log.Size, ownContract)
		if len(events) > 0 {
			if by, err := m.c.Chain.Sender(ctx, events[len(events)-1].TxHash); err == nil {
				is.params.Account = AddressText(by)
				is.detail += fmt.Sprintf(". Its transaction is from %s, and this hub's account is %s", is.params.Account, AddressText(m.account))
			}
		}
	}
	if eerr == nil {
		m.verdict = verdict{r.head, r.log.Size, r.logOK, is}
	}
	return is
}

// known looks whether a root in the contract is this log's, and returns the checkpoint that it has.
func (m *Machine) known(ctx context.Context, seq, size uint64, root [32]byte) (LogHead, error) {
	h, ok, err := m.c.LogAt(ctx, size)
	switch {
	case err != nil:
		return h, &stop{problem: ProblemLogUnreadable, params: Params{Size: size}, detail: fmt.Sprintf("the log's first %d entries cannot be read: hashinsight-hub log checkpoint says why", size), cause: err}
	case !ok:
		return h, &stop{problem: ProblemDatabaseOlder, params: Params{Seq: seq, Size: size}, detail: fmt.Sprintf("anchor %d in the contract covers %d entries, and this log has fewer", seq, size)}
	case h.Root != root:
		return h, m.foreignRoot(seq, size)
	}
	return h, nil
}

func (m *Machine) adoptOne(ctx context.Context, r *round, e *Event, a *Anchor) error {
	h, err := m.known(ctx, e.Seq, e.Size, e.Root)
	if err != nil {
		return err
	}
	at := time.Unix(e.Time, 0).UTC()
	fields := []any{int64(e.Hour), int64(e.Size), e.Root[:], e.PrevRoot[:], h.Checkpoint, e.TxHash[:], int64(e.Block), e.BlockHash[:], at, m.c.Now()}
	return pg.InTx(ctx, m.c.Pool, func(tx pgx.Tx) error {
		if a == nil {
			tag, err := tx.Exec(ctx, qAdoptNew, m.s.args(append([]any{int64(e.Seq)}, fields...)...)...)
			if err != nil {
				return fmt.Errorf("reading back anchor %d: %w", e.Seq, err)
			}
			if tag.RowsAffected() == 0 {
				return errLost
			}
			return nil
		}
		if err := m.s.change(ctx, tx, a, qAdopt, append(fields, string(m.lateness(r, a, at)))...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qMinedTx, m.s.args(int64(e.Seq), e.TxHash[:])...); err != nil {
			return lostOr(fmt.Errorf("anchor %d: its transactions: %w", e.Seq, err))
		}
		r.st.late = ""
		return nil
	})
}

// events returns the contract's events from the number from on to the head, ascending and without a hole. It reads a bounded number of blocks in a run.
func (m *Machine) events(ctx context.Context, r *round, from uint64) ([]Event, error) {
	var low uint64
	if before, ok, err := m.s.anchor(ctx, m.c.Pool, qInBlock, int64(from)); err != nil {
		return nil, err
	} else if ok {
		low = before.Block
	}
	s := &m.scan
	if s.want != from || s.head != r.head.Seq || s.next == 0 || s.next < low {
		*s = scan{want: from, head: r.head.Seq, next: r.blocks.Latest.Number, blocks: scanChunk}
	}
	for range scanChunks {
		begin := low
		if s.next >= low+s.blocks {
			begin = s.next - s.blocks + 1
		}
		got, err := m.c.Chain.Events(ctx, begin, s.next)
		var refused *answerError
		switch {
		case err == nil:
		case s.blocks > 1 && (errors.As(err, &refused) || errors.Is(err, ErrDisagree)): // how many blocks an endpoint gives at once it says in no agreed form
			s.blocks = max(1, s.blocks/8)
			continue
		default:
			if s.blocks == 1 {
				*s = scan{}
			}
			return nil, m.chainTrouble(err)
		}
		for _, e := range got {
			if e.Seq >= from && e.Seq <= r.head.Seq {
				s.found = append(s.found, e)
			}
		}
		if slices.ContainsFunc(s.found, func(e Event) bool { return e.Seq == from }) {
			found := s.found
			*s = scan{}
			slices.SortFunc(found, func(a, b Event) int { return int(int64(a.Seq) - int64(b.Seq)) })
			for i := range found {
				if found[i].Seq != from+uint64(i) || i > 0 && found[i].PrevRoot != found[i-1].Root {
					return nil, &stop{problem: ProblemEventHole, params: Params{Seq: from + uint64(i)}, detail: fmt.Sprintf("the endpoint gives the contract's events with a hole, at anchor %d: nothing is believed until it gives all; add a second endpoint to BASE_RPC_URL", from+uint64(i))}
				}
			}
			return found, nil
		}
		if begin == low {
			*s = scan{}
			return nil, &stop{problem: ProblemEventMissing, params: Params{Seq: from, HeadSeq: r.head.Seq}, detail: fmt.Sprintf("the contract stands at anchor %d and the endpoint does not give the event of anchor %d: some keep no old events; add one that does to BASE_RPC_URL", r.head.Seq, from)}
		}
		s.next = begin - 1
	}
	return nil, &stop{problem: ProblemReadingBack, params: Params{HeadSeq: r.head.Seq, Block: s.next}, detail: fmt.Sprintf("the contract stands at anchor %d, which the database does not know: it is read back, block %d and below are still to be read", r.head.Seq, s.next)}
}
