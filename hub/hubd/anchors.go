package hubd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/api"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/jobs"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// anchorTask brings the log's checkpoints to the chain.
func (h *Hub) anchorTask(s *subjects, chain *anchor.Chain) (jobs.Task, error) {
	head := func(c proof.Checkpoint, ok bool, err error) (anchor.LogHead, bool, error) {
		return anchor.LogHead{Size: c.Size, Root: c.Root, Checkpoint: c.Note}, ok, err
	}
	m, err := anchor.NewMachine(anchor.MachineConfig{
		Pool: s.pools.Jobs, Chain: chain, Interval: h.c.Chain.Interval, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
		LogHead: func(ctx context.Context) (anchor.LogHead, bool, error) { return head(s.log.Head(ctx)) },
		LogAt:   func(ctx context.Context, size uint64) (anchor.LogHead, bool, error) { return head(s.log.At(ctx, size)) },
	})
	if err != nil {
		return jobs.Task{}, err
	}
	return jobs.Task{Kind: "anchor", Every: min(10*time.Second, max(time.Second, h.c.Chain.Interval)), Run: m.Run, Locked: true}, nil
}

// anchorsOf reads what the database knows of anchors; it asks no chain. problem is what is wrong with this process's settings. Without a chain it is the zero value.
func anchorsOf(c *Chain, problem error, pool *pgxpool.Pool, l *proof.Store, now func() time.Time) anchors {
	if !c.On {
		return anchors{}
	}
	var contract [20]byte
	if c.Target == nil && c.Contract != "" {
		contract, _ = anchor.ParseAddress(c.Contract) // a wrong one is among the problems
	}
	store := anchor.NewStore(pool, c.ID, contract, now)
	return anchors{
		covering: func(ctx context.Context, index uint64) (proof.Covered, api.Anchor, bool, error) {
			got, ok, err := store.Covering(ctx, index)
			if err != nil || !ok {
				return proof.Covered{}, api.Anchor{}, false, err
			}
			a := &got.Anchor
			return proof.Covered{
				Checkpoint: got.Checkpoint, Anchor: format.Anchor{ChainID: a.ChainID, Contract: a.Contract, Seq: a.Seq, Block: a.Block, Tx: a.TxHash},
			}, anchorView(a), true, nil
		},
		list: func(ctx context.Context, cursor string, limit int) ([]api.Anchor, string, error) {
			before := uint64(0)
			if cursor != "" {
				var err error
				if before, err = strconv.ParseUint(cursor, 10, 63); err != nil || before == 0 {
					return nil, "", apperr.E(apperr.Invalid, "VALID_001", "the cursor is not one that the page before gave")
				}
			}
			list, err := store.List(ctx, before, limit+1)
			if err != nil {
				return nil, "", err
			}
			next := ""
			if len(list) > limit {
				list = list[:limit]
				next = strconv.FormatUint(list[limit-1].Seq, 10)
			}
			out := make([]api.Anchor, len(list))
			for i := range list {
				out[i] = anchorView(&list[i])
			}
			return out, next, nil
		},
		status: func(ctx context.Context) (api.AnchorStatus, error) { return anchorStatus(ctx, c, problem, store, l) },
	}
}

func anchorStatus(ctx context.Context, c *Chain, problem error, store *anchor.Store, l *proof.Store) (api.AnchorStatus, error) {
	st, err := store.Status(ctx)
	if err != nil {
		return api.AnchorStatus{}, err
	}
	log, err := l.Status(ctx)
	if err != nil {
		return api.AnchorStatus{}, err
	}
	out := api.AnchorStatus{
		Driver: "log-contract", Overdue: st.Overdue, Network: c.Network, ChainID: c.ID, Endpoints: len(c.URLs), IntervalS: int64(c.Interval / time.Second), LogSize: log.Newest.Size, Vanished: st.Vanished,
		LatestBlock: st.LatestBlock, SafeBlock: st.SafeBlock, FinalizedBlock: st.FinalizedBlock, CoveredAt: instant(st.CoveredAt), CheckedAt: instant(st.CheckedAt), AnsweredAt: instant(st.AnsweredAt),
	}
	if st.Contract != ([20]byte{}) {
		out.Contract = anchor.AddressText(st.Contract)
	}
	if st.Account != ([20]byte{}) {
		out.Account = anchor.AddressText(st.Account)
	}
	if st.Newest != nil {
		v := anchorView(st.Newest)
		out.Newest = &v
	}
	if st.Last != nil {
		v := anchorView(st.Last)
		out.Last = &v
	}
	switch {
	case problem != nil: // nothing runs that could say more
		out.Problem = &api.AnchorProblem{ProblemCode: problemSettings, Text: problem.Error()}
		if strings.Contains(out.Problem.Text, codeNoKey) {
			out.Problem.Code, out.Problem.ProblemCode = codeNoKey, problemNoKey
		}
	case st.Code != "":
		out.Problem, out.ProblemSince = &api.AnchorProblem{Code: string(st.Code), ProblemCode: api.AnchorProblemCode(st.Problem), Text: st.Text}, instant(st.Since)
		params := api.AnchorProblemParams(st.Params)
		out.Problem.Params = &params
	}
	return out, nil
}

// codeNoKey is the error code of a chain key that is missing or cannot be used.
const codeNoKey = "BLOCKCHAIN_001"

// Problems that a process has before it anchors; all others are of package anchor.
const (
	problemNoKey    = "no_key"   // the chain key is missing, or cannot be used
	problemSettings = "settings" // other settings of the chain
)

// instant is a time in an answer; nil where there is none.
func instant(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

func anchorView(a *anchor.Anchor) api.Anchor {
	v := api.Anchor{
		ChainID: a.ChainID, Contract: anchor.AddressText(a.Contract), Seq: a.Seq, State: a.State.String(), Hour: api.Time{Time: time.Unix(int64(a.Hour)*3600, 0).UTC()},
		Size: a.Size, Root: fmt.Sprintf("%x", a.Root), PrevRoot: fmt.Sprintf("%x", a.PrevRoot), BuiltAt: api.Time{Time: a.BuiltAt}, DueAt: api.Time{Time: a.DueAt},
		MinedAt: instant(a.MinedAt), FinalizedAt: instant(a.FinalizedAt), BlockTime: instant(a.BlockTime), BlockNumber: a.Block, LateReason: string(a.Late), Vanished: a.Vanished, Adopted: a.Adopted,
	}
	if a.TxHash != ([32]byte{}) {
		v.TxHash = fmt.Sprintf("0x%x", a.TxHash)
	}
	if a.BlockHash != ([32]byte{}) {
		v.BlockHash = fmt.Sprintf("0x%x", a.BlockHash)
	}
	return v
}

// problemWith is what keeps this process from anchoring; in a process that does not anchor, the key is not missing.
func problemWith(c *Chain, anchors bool) error {
	if !c.On {
		return nil
	}
	if anchors {
		_, err := openAnchor(c, nil, nil)
		return err
	}
	return errChain(append(append([]error{}, c.Problems...), c.Target)...)
}

// Time is a time in an answer.
type Time = api.Time

// AnchorStanding is how anchoring stands by the database.
type AnchorStanding = api.AnchorStatus

// AnchorState is how anchoring stands by the database, and its newest anchors.
type AnchorState struct {
	Known  AnchorStanding
	Anchor []api.Anchor // the newest first
}

// AnchorStatus reads how anchoring stands. It asks no chain.
func AnchorStatus(ctx context.Context, db Database, c Chain, limit int) (st AnchorState, err error) {
	if !c.On {
		return st, errors.New("this hub anchors nothing: set BLOCKCHAIN_ENABLED=1, and BLOCKCHAIN_DRIVER=log-contract")
	}
	err = db.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		l, err := proof.New(proof.Config{Pool: pool, Now: db.Now, Log: db.Log})
		if err != nil {
			return err
		}
		a := anchorsOf(&c, problemWith(&c, true), pool, l, db.Now)
		if st.Known, err = a.status(ctx); err != nil {
			return err
		}
		st.Anchor, _, err = a.list(ctx, "", limit)
		return err
	})
	return st, err
}
