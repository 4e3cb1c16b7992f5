package statement

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const password = "a password for tests, 32 bytes long"

// contracted is the rate that miners of these tests have in their contracts, MH/s.
const contracted = 100_000_000

// world is a hub's database with what makes statements, a clock that the test moves, and sites that sign real batches.
type world struct {
	t         *testing.T
	pool      *pgxpool.Pool
	ns        atomic.Int64
	customers *customer.Store
	facts     *facts.Store
	store     *Store
	key       ed25519.PrivateKey
	by        access.Actor
	customer  uuid.UUID
}

func newWorld(t *testing.T, now time.Time) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t), by: access.Actor{ID: "test"}}
	w.set(now)
	var err error
	_, w.key, err = ed25519.GenerateKey(nil)
	w.must(err)
	w.store = w.hub()
	u, err := w.customers.AddCustomer(t.Context(), w.by, "Acme")
	w.must(err)
	w.customer = u.ID
	return w
}

// hub is a further hub process on the database.
func (w *world) hub() *Store {
	w.t.Helper()
	l, err := audit.New(audit.Config{Pool: w.pool, Now: w.now})
	w.must(err)
	w.customers, err = customer.New(customer.Config{DB: w.pool, Audit: l, Now: w.now, Changed: Changed(w.now), Closed: Closed})
	w.must(err)
	w.facts, err = facts.New(facts.Config{Pool: w.pool, Audit: l, Password: password, Keys: w.siteKey, Now: w.now})
	w.must(err)
	s, err := New(Config{
		Pool: w.pool, Customers: w.customers, Facts: w.facts, Audit: l, Key: func() ed25519.PrivateKey { return w.key }, SiteKey: w.siteKey, Now: w.now,
	})
	w.must(err)
	return s
}

func (w *world) siteKey(ctx context.Context, site ident.SiteID, id ident.KeyID) (ed25519.PublicKey, error) {
	f, err := fleet.New(fleet.Config{Pool: w.pool})
	if err != nil {
		return nil, err
	}
	k, err := f.Key(ctx, site, id)
	return k.Public, err
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() time.Time  { return time.Unix(0, w.ns.Load()).UTC() }
func (w *world) set(t time.Time) { w.ns.Store(t.UnixNano()) }
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql, args...)
	w.must(err)
}

// terms are those of a contract from a time on.
func (w *world) terms(from time.Time) sla.Terms {
	t := sla.DefaultTerms()
	t.FromMS, t.RateMHs, t.FeeMinor, t.Currency = from.UnixMilli(), contracted, 100_000, "EUR"
	return t
}

func (w *world) contract(name string, t sla.Terms) uuid.UUID {
	w.t.Helper()
	c, _, err := w.customers.AddContract(w.t.Context(), w.by, w.customer, name, t)
	w.must(err)
	return c.ID
}

// assign gives miners of a site to a contract.
func (w *world) assign(contract uuid.UUID, s *site, miners []int, from, to time.Time) {
	w.t.Helper()
	var list []customer.NewAssignment
	for _, i := range miners {
		a := customer.NewAssignment{Site: s.id, Miner: s.miners[i], FromMS: from.UnixMilli()}
		if !to.IsZero() {
			a.ToMS = to.UnixMilli()
		}
		list = append(list, a)
	}
	_, err := w.customers.Assign(w.t.Context(), w.by, contract, list)
	w.must(err)
}

// update does what the jobs do.
func (w *world) update() {
	w.t.Helper()
	w.must(w.facts.Judge(w.t.Context(), w.now()))
	w.must(w.store.Update(w.t.Context(), w.now()))
}

// batch is one that a site has signed.
type batch struct {
	header    evidence.Header
	signature []byte
	payload   []byte
	hour      evidence.Hour // of kind hour
}

// site signs batches as an agent does: one of samples and one that signs the hour for each hour, in one chain.
type site struct {
	w      *world
	id     ident.SiteID
	key    ed25519.PrivateKey
	spool  ident.SpoolID
	seq    uint64
	prev   evidence.Hash
	miners []ident.MinerID
	salts  map[ident.MinerID][32]byte
	hashes []int64
	facts  *evidence.Facts
	enc    *wire.Encoder
	dec    *wire.Decoder
}

func (w *world) site(name string, miners int) *site {
	w.t.Helper()
	s := &site{w: w, id: ident.NewSiteID(), spool: ident.NewSpoolID(), salts: map[ident.MinerID][32]byte{}, hashes: make([]int64, miners)}
	var err error
	var public ed25519.PublicKey
	public, s.key, err = ed25519.GenerateKey(nil)
	w.must(err)
	s.enc, err = wire.NewEncoder()
	w.must(err)
	s.dec, err = wire.NewDecoder()
	w.must(err)
	w.t.Cleanup(s.dec.Close)
	s.facts = evidence.NewFacts(s.id, s.spool)
	w.must(pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error {
		return fleet.RegisterSite(w.t.Context(), tx, fleet.Registration{Site: s.id, Name: name, Key: public, At: w.now()})
	}))
	var keys []facts.SaltKey
	for i := range miners {
		m := ident.NewMinerID()
		s.miners = append(s.miners, m)
		s.salts[m] = sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
		keys = append(keys, facts.SaltKey{Miner: m, Key: s.salts[m]})
		w.exec(`INSERT INTO miner (site_id, id, address, first_seen_at, info_at) VALUES ($1, $2, $3, $4, $4)`, s.id, m, fmt.Sprintf("10.0.0.%d", i+1), w.now())
	}
	for len(keys) > 0 {
		n := min(len(keys), facts.MaxSalts)
		w.must(w.facts.KeepSalts(w.t.Context(), s.id, keys[:n]))
		keys = keys[n:]
	}
	return s
}

// does is what a miner does between two polls.
type does int

const (
	hashes does = iota
	idles       // answers, and its counter stands still
	hides       // does not answer
	absent      // the agent does not poll it
)

// hour signs an hour: each miner is polled every 5 minutes, a second before each slot's end, and does in the 5 minutes before what is told.
func (s *site) hour(at time.Time, what func(miner int, at time.Time) does) (samples, signed batch) {
	s.w.t.Helper()
	var obs []telemetry.Observation
	for slot := range 12 {
		t := at.Add(time.Duration(slot+1)*5*time.Minute - time.Second)
		for i, m := range s.miners {
			o := telemetry.Observation{Miner: m, At: t, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
			switch what(i, t) {
			case hashes:
				s.hashes[i] += contracted * 300
			case idles:
			case hides:
				o.Outcome, o.State = telemetry.OutcomeTimeout, telemetry.StateUnknown
			case absent:
				continue
			}
			if o.Outcome == telemetry.OutcomeOK {
				o.Hashes, o.Uptime = unit.Some(s.hashes[i]), unit.Some(t.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Truncate(time.Second))
			}
			obs = append(obs, o)
		}
	}
	if len(obs) == 0 { // an agent that runs and has nothing to poll signs nothing
		return samples, signed
	}
	payload, meta, err := s.enc.Samples(obs, nil)
	s.w.must(err)
	samples = s.sign(evidence.KindSamples, evidence.Schema, evidence.CodecZstd, payload, meta)
	decoded, err := s.dec.Samples(payload)
	s.w.must(err)
	decoded.EachFact(func(o *telemetry.Observation) { s.facts.Add(samples.header.Seq, o) })
	hour := uint32(at.Unix() / 3600)
	leaves := s.facts.Close(hour, samples.header.Seq)
	first := samples.header.Seq
	for i := range leaves {
		leaves[i].Salt = evidence.SaltOf(s.salts[leaves[i].Miner], hour)
		first = min(first, leaves[i].FirstSeq)
	}
	tree, err := evidence.NewTree(leaves)
	s.w.must(err)
	h := evidence.Hour{Site: s.id, Hour: hour, Spool: s.spool, FirstSeq: first, LastSeq: samples.header.Seq, Leaves: uint32(len(leaves)), Root: tree.Root()}
	signed = s.signHour(h)
	return samples, signed
}

func (s *site) signHour(h evidence.Hour) batch {
	begin := int64(h.Hour) * evidence.HourMS
	b := s.sign(evidence.KindHour, evidence.SchemaFirst, evidence.CodecNone, h.Bytes(), wire.Meta{Miners: h.Leaves, FirstMS: begin, LastMS: begin + evidence.HourMS - 1})
	b.hour = h
	return b
}

func (s *site) sign(kind evidence.Kind, schema uint8, codec evidence.Codec, payload []byte, meta wire.Meta) batch {
	s.seq++
	h := evidence.Header{
		Kind: kind, Schema: schema, Codec: codec, Site: s.id, Key: ident.KeyIDOf(s.key.Public().(ed25519.PublicKey)), Spool: s.spool, Seq: s.seq, Prev: s.prev,
		Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload)), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	s.prev = h.Hash()
	return batch{header: h, signature: evidence.SignHeader(s.key, h.Bytes()), payload: payload}
}

// deliver stores batches as ingest does, at the hub's time.
func (s *site) deliver(list ...batch) {
	s.w.t.Helper()
	ctx := s.w.t.Context()
	s.w.must(pg.InTx(ctx, s.w.pool, func(tx pgx.Tx) error {
		for i := range list {
			b := &list[i]
			if b.signature == nil {
				continue
			}
			h := &b.header
			hash := h.Hash()
			if _, err := tx.Exec(ctx, `
INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id, header_hash, header, signature, payload)
VALUES ($1, $2, $3, $4, 1, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`, h.Site, h.Spool, int64(h.Seq), int16(h.Kind), int32(h.Miners), int32(h.Samples),
				time.UnixMilli(h.FirstMS), time.UnixMilli(h.LastMS), s.w.now(), h.Key[:], hash[:], h.Bytes(), b.signature, b.payload); err != nil {
				return err
			}
			if h.Kind == evidence.KindHour {
				if _, err := s.w.facts.Keep(ctx, tx, []facts.Signed{{Hour: b.hour, Spool: h.Spool, Seq: h.Seq, Header: hash}}, s.w.now()); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// run signs and delivers hours from one time until before another, each a minute after its end.
func (s *site) run(from, to time.Time, what func(miner int, at time.Time) does) {
	s.w.t.Helper()
	for at := from; at.Before(to); at = at.Add(time.Hour) {
		if end := at.Add(time.Hour + time.Minute); s.w.now().Before(end) {
			s.w.set(end)
		}
		samples, signed := s.hour(at, what)
		s.deliver(samples, signed)
	}
}

func always(d does) func(int, time.Time) does { return func(int, time.Time) does { return d } }
