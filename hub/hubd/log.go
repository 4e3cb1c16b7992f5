package hubd

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
)

// Transparency says where the hub's transparency log is, and who may read it.
type Transparency struct {
	Dir    string // of the tiles; empty: this process neither writes the log nor makes proofs
	Public bool   // anybody may read the log, without a key
}

// transparency opens the log.
func (h *Hub) transparency(s *subjects) (*proof.Store, error) {
	c := proof.Config{
		Pool: s.pools.API, Jobs: s.pools.Jobs, Dir: h.c.Transparency.Dir, Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
		AuditHead: func(ctx context.Context) (int64, [32]byte, error) {
			head, err := s.audit.Head(ctx)
			return head.Seq, head.Hash, err
		},
	}
	if h.c.Chain.On {
		c.Anchored = func(ctx context.Context) (uint64, bool, error) { return h.anchored(ctx, s.pools.Jobs) }
	}
	if s.pki != nil {
		c.Key, c.Evidence = s.pki.LogKey, s.pki.EvidenceKey
	}
	return proof.New(c)
}

// anchored asks the chain how many entries of the log it has the root of. A contract of which the database knows no anchor may be another log's, and says nothing.
func (h *Hub) anchored(ctx context.Context, pool *pgxpool.Pool) (size uint64, ok bool, err error) {
	if h.chain == nil {
		return 0, false, nil
	}
	st, err := anchor.NewStore(pool, h.chain.ID(), h.chain.Contract(), h.c.Now).Status(ctx)
	if err != nil || st.Last == nil {
		return 0, false, err
	}
	head, err := h.chain.Head(ctx)
	return head.Size, err == nil, err
}

// logEvery is how often entries get their places: what happens is under a signed checkpoint within that time.
func (h *Hub) logEvery() time.Duration {
	if h.alone {
		return time.Minute // virtual days have many seconds
	}
	return 10 * time.Second
}

// logPrefix is where the log is served as tlog-tiles.
const logPrefix = "/log"

// tiles serves the log as tlog-tiles, where it is public.
func (h *Hub) tiles(s *subjects) http.Handler {
	if !h.c.Transparency.Public {
		return nil
	}
	return s.log.Handler(logPrefix)
}
