package enrol

import (
	"bytes"
	"context"
	"crypto/rand"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

func saltKeys(n int) (keys []*enrolv1.SaltKey) {
	for range n {
		id, key := ident.NewMinerID(), make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		keys = append(keys, &enrolv1.SaltKey{MinerId: id[:], Key: key})
	}
	return keys
}

func TestSaltKeysAreKeptOnceAndSealed(t *testing.T) {
	o, m, other := newOffice(t), newMachine(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	other.mustJoin(o.Server, o.token(NewToken{SiteName: "south"}))
	keep := func(m *machine, keys []*enrolv1.SaltKey) error {
		_, err := o.KeepSalts(m.ctx(m.bundle.Certificate...), &enrolv1.KeepSaltsRequest{Protocol: 1, Keys: keys})
		return err
	}
	keys := saltKeys(facts.MaxSalts)
	o.must(keep(m, keys))
	o.must(keep(m, keys)) // the answer was lost
	if n := o.count(`SELECT count(*) FROM miner_salt WHERE site_id = $1`, m.bundle.Site); n != facts.MaxSalts {
		t.Errorf("%d keys kept", n)
	}
	var sealed []byte
	o.must(o.db.QueryRow(t.Context(), `SELECT sealed FROM miner_salt WHERE miner_id = $1`, ident.MinerID(keys[7].GetMinerId())).Scan(&sealed))
	if len(sealed) <= 32 || bytes.Contains(sealed, keys[7].GetKey()) {
		t.Error("the key lies there as it is")
	}

	// Another key of a known miner is refused, and nothing of the call is kept.
	changed := saltKeys(2)
	changed[1] = &enrolv1.SaltKey{MinerId: keys[3].GetMinerId(), Key: changed[1].GetKey()}
	wantReason(t, keep(m, changed), identity.ReasonKeyOther)
	if n := o.count(`SELECT count(*) FROM miner_salt`); n != facts.MaxSalts {
		t.Errorf("%d keys kept after a refusal", n)
	}
	// A miner's id means nothing at another site: neither is that site's key taken nor can it be tried.
	o.must(keep(other, []*enrolv1.SaltKey{changed[1]}))

	for name, bad := range map[string][]*enrolv1.SaltKey{
		"none":              nil,
		"too many":          saltKeys(facts.MaxSalts + 1),
		"a short key":       {{MinerId: keys[0].GetMinerId(), Key: keys[0].GetKey()[:31]}},
		"no miner":          {{MinerId: keys[0].GetMinerId()[:15], Key: keys[0].GetKey()}},
		"zeros":             {{MinerId: keys[0].GetMinerId(), Key: make([]byte, 32)}},
		"one miner, twice":  {keys[0], keys[0]},
		"an unknown id's 0": {{MinerId: make([]byte, 16), Key: keys[0].GetKey()}},
	} {
		if err := keep(m, bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	wantReason(t, second(o.KeepSalts(m.ctx(), &enrolv1.KeepSaltsRequest{Protocol: 1, Keys: keys})), identity.ReasonCertMissing)
	o.must(o.store.Revoke(t.Context(), other.bundle.Site, "a test", operator))
	if err := keep(other, saltKeys(1)); err == nil {
		t.Error("a revoked site keeps keys")
	}

	o.clock.advance(time.Hour)
	for range saltCalls {
		o.must(keep(m, keys[:1]))
	}
	wantReason(t, keep(m, keys[:1]), identity.ReasonTooMany)
	o.clock.advance(time.Minute)
	o.must(keep(m, keys[:1]))
}

// Calls with the same keys in any order, at once, keep them once.
func TestSaltKeysOfCallsAtOnce(t *testing.T) {
	o, m := newOffice(t), newMachine(t)
	m.mustJoin(o.Server, o.token(NewToken{}))
	keys := saltKeys(300)
	errs := make(chan error, 4)
	for n := range cap(errs) {
		part := append(append([]*enrolv1.SaltKey{}, keys[n*50:]...), keys[:n*50]...)
		go func(ctx context.Context) {
			_, err := o.KeepSalts(ctx, &enrolv1.KeepSaltsRequest{Protocol: 1, Keys: part})
			errs <- err
		}(m.ctx(m.bundle.Certificate...))
	}
	for range cap(errs) {
		o.must(<-errs)
	}
	if n := o.count(`SELECT count(*) FROM miner_salt`); n != len(keys) {
		t.Errorf("%d keys kept, want %d", n, len(keys))
	}
}
