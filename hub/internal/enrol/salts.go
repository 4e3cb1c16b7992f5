package enrol

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// saltCalls is how often a site may send salt keys in a minute: those of more miners than a site has.
const saltCalls = 60

// saltRate counts sites' calls in the present minute.
type saltRate struct {
	mu     sync.Mutex
	minute int64
	calls  map[ident.SiteID]int
}

func (r *saltRate) take(site ident.SiteID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := now.Unix() / 60; r.calls == nil || minute != r.minute {
		r.minute, r.calls = minute, map[ident.SiteID]int{}
	}
	r.calls[site]++
	return r.calls[site] <= saltCalls
}

// KeepSalts implements the EnrolService for sites with a valid certificate, each for its own miners.
func (v *Server) KeepSalts(ctx context.Context, r *enrolv1.KeepSaltsRequest) (_ *enrolv1.KeepSaltsResponse, err error) {
	who := callerOf(ctx)
	ctx, done, err := v.begin(ctx, "salts", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	site, err := v.site(ctx, who)
	if err != nil {
		return nil, err
	}
	if !v.salts.take(site, v.s.c.Now()) {
		return nil, &refusalError{identity.ReasonTooMany, codes.ResourceExhausted, fmt.Sprintf("more than %d calls with salt keys in a minute", saltCalls), time.Minute}
	}
	if v.s.c.Facts == nil {
		return nil, status.Error(codes.Unimplemented, "this hub keeps no salt keys")
	}
	if len(r.GetKeys()) > facts.MaxSalts {
		return nil, refuse(identity.ReasonProof, "%d salt keys in one call, at most %d are taken", len(r.GetKeys()), facts.MaxSalts)
	}
	keys := make([]facts.SaltKey, len(r.GetKeys()))
	for i, k := range r.GetKeys() {
		if len(k.GetMinerId()) != len(ident.MinerID{}) || len(k.GetKey()) != len(keys[i].Key) {
			return nil, refuse(identity.ReasonProof, "a salt key of %d bytes for a miner id of %d, want %d and %d", len(k.GetKey()), len(k.GetMinerId()), len(keys[i].Key), len(ident.MinerID{}))
		}
		keys[i] = facts.SaltKey{Miner: ident.MinerID(k.GetMinerId()), Key: [32]byte(k.GetKey())}
	}
	err = v.s.c.Facts.KeepSalts(ctx, site, keys)
	if errors.Is(err, facts.ErrOtherSalt) {
		v.s.c.Log.WarnContext(ctx, "a site sent another salt key of a miner than it did before: was its directory copied or restored?", "site", site, "err", err)
		return nil, refuse(identity.ReasonKeyOther, "%v: the agent must sign with the key that the hub has", err)
	}
	if err != nil {
		return nil, err
	}
	return &enrolv1.KeepSaltsResponse{}, nil
}
