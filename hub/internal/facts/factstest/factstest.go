// Package factstest signs a site's batches and hours in tests as an agent does, and stores them as ingest does: the hub's side of a database with facts in it.
// Tests of packages that read facts use it.
package factstest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// Password is of the hub's secrets in tests.
const Password = "a password for tests, 32 bytes long"

// Contracted is the rate that miners of these tests have in their contracts, MH/s.
const Contracted = 100_000_000

// World is a hub's database with facts and a clock that the test moves.
type World struct {
	T     testing.TB
	Pool  *pgxpool.Pool
	Facts *facts.Store // whoever makes the world opens it
	// Register makes a site with its key known to the hub.
	Register func(ctx context.Context, tx pgx.Tx, site ident.SiteID, name string, key ed25519.PublicKey, at time.Time) error
	ns       atomic.Int64
}

// New begins at a time.
func New(t testing.TB, pool *pgxpool.Pool, now time.Time) *World {
	w := &World{T: t, Pool: pool}
	w.Set(now)
	return w
}

// Must ends the test at an error.
func (w *World) Must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// Now is the hub's time.
func (w *World) Now() time.Time { return time.Unix(0, w.ns.Load()).UTC() }

// Set moves the clock.
func (w *World) Set(t time.Time) { w.ns.Store(t.UnixNano()) }

// Exec changes the database past everything.
func (w *World) Exec(sql string, args ...any) {
	w.T.Helper()
	_, err := w.Pool.Exec(w.T.Context(), sql, args...)
	w.Must(err)
}

// Batch is one that a site has signed.
type Batch struct {
	Header    evidence.Header
	Signature []byte
	Payload   []byte
	Hour      evidence.Hour // of kind hour
}

// Site signs batches as an agent does: one of samples and one that signs the hour for each hour, in one chain.
type Site struct {
	ID     ident.SiteID
	Key    ed25519.PrivateKey
	Spool  ident.SpoolID
	Miners []ident.MinerID
	w      *World
	seq    uint64
	prev   evidence.Hash
	salts  map[ident.MinerID][32]byte
	hashes []int64
	facts  *evidence.Facts
	enc    *wire.Encoder
	dec    *wire.Decoder
}

// Site makes one with some miners.
func (w *World) Site(name string, miners int) *Site {
	w.T.Helper()
	s := &Site{w: w, ID: ident.NewSiteID(), Spool: ident.NewSpoolID(), salts: map[ident.MinerID][32]byte{}, hashes: make([]int64, miners)}
	var err error
	var public ed25519.PublicKey
	public, s.Key, err = ed25519.GenerateKey(nil)
	w.Must(err)
	s.enc, err = wire.NewEncoder()
	w.Must(err)
	s.dec, err = wire.NewDecoder()
	w.Must(err)
	w.T.Cleanup(s.dec.Close)
	s.facts = evidence.NewFacts(s.ID, s.Spool)
	w.Must(pg.InTx(w.T.Context(), w.Pool, func(tx pgx.Tx) error {
		return w.Register(w.T.Context(), tx, s.ID, name, public, w.Now())
	}))
	var keys []facts.SaltKey
	for i := range miners {
		m := ident.NewMinerID()
		s.Miners = append(s.Miners, m)
		s.salts[m] = sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
		keys = append(keys, facts.SaltKey{Miner: m, Key: s.salts[m]})
		w.Exec(`INSERT INTO miner (site_id, id, address, first_seen_at, info_at) VALUES ($1, $2, $3, $4, $4)`, s.ID, m, fmt.Sprintf("10.0.0.%d", i+1), w.Now())
	}
	for len(keys) > 0 {
		n := min(len(keys), facts.MaxSalts)
		w.Must(w.Facts.KeepSalts(w.T.Context(), s.ID, keys[:n]))
		keys = keys[n:]
	}
	return s
}

// Does is what a miner does between two polls.
type Does int

// What miners do.
const (
	Hashes Does = iota
	Idles       // answers, and its counter stands still
	Hides       // does not answer
	Absent      // the agent does not poll it
)

// Hour signs an hour: each miner is polled every 5 minutes, a second before each slot's end, and does in the 5 minutes before what is told.
func (s *Site) Hour(at time.Time, what func(miner int, at time.Time) Does) (samples, signed Batch) {
	s.w.T.Helper()
	var obs []telemetry.Observation
	for slot := range 12 {
		t := at.Add(time.Duration(slot+1)*5*time.Minute - time.Second)
		for i, m := range s.Miners {
			o := telemetry.Observation{Miner: m, At: t, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
			switch what(i, t) {
			case Hashes:
				s.hashes[i] += Contracted * 300
			case Idles:
			case Hides:
				o.Outcome, o.State = telemetry.OutcomeTimeout, telemetry.StateUnknown
			case Absent:
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
	s.w.Must(err)
	samples = s.sign(evidence.KindSamples, evidence.Schema, evidence.CodecZstd, payload, meta)
	decoded, err := s.dec.Samples(payload)
	s.w.Must(err)
	decoded.EachFact(func(o *telemetry.Observation) { s.facts.Add(samples.Header.Seq, o) })
	hour := uint32(at.Unix() / 3600)
	leaves := s.facts.Close(hour, samples.Header.Seq)
	first := samples.Header.Seq
	for i := range leaves {
		leaves[i].Salt = evidence.SaltOf(s.salts[leaves[i].Miner], hour)
		first = min(first, leaves[i].FirstSeq)
	}
	tree, err := evidence.NewTree(leaves)
	s.w.Must(err)
	h := evidence.Hour{Site: s.ID, Hour: hour, Spool: s.Spool, FirstSeq: first, LastSeq: samples.Header.Seq, Leaves: uint32(len(leaves)), Root: tree.Root()}
	signed = s.SignHour(h)
	return samples, signed
}

// SignHour signs what an hour of facts comes to.
func (s *Site) SignHour(h evidence.Hour) Batch {
	begin := int64(h.Hour) * evidence.HourMS
	b := s.sign(evidence.KindHour, evidence.SchemaFirst, evidence.CodecNone, h.Bytes(), wire.Meta{Miners: h.Leaves, FirstMS: begin, LastMS: begin + evidence.HourMS - 1})
	b.Hour = h
	return b
}

func (s *Site) sign(kind evidence.Kind, schema uint8, codec evidence.Codec, payload []byte, meta wire.Meta) Batch {
	s.seq++
	h := evidence.Header{
		Kind: kind, Schema: schema, Codec: codec, Site: s.ID, Key: ident.KeyIDOf(s.Key.Public().(ed25519.PublicKey)), Spool: s.Spool, Seq: s.seq, Prev: s.prev,
		Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload)), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	s.prev = h.Hash()
	return Batch{Header: h, Signature: evidence.SignHeader(s.Key, h.Bytes()), Payload: payload}
}

// Deliver stores batches as ingest does, at the hub's time.
func (s *Site) Deliver(list ...Batch) {
	s.w.T.Helper()
	ctx := s.w.T.Context()
	s.w.Must(pg.InTx(ctx, s.w.Pool, func(tx pgx.Tx) error {
		for i := range list {
			b := &list[i]
			if b.Signature == nil {
				continue
			}
			h := &b.Header
			hash := h.Hash()
			if _, err := tx.Exec(ctx, `
INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id, header_hash, header, signature, payload)
VALUES ($1, $2, $3, $4, 1, 1, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`, h.Site, h.Spool, int64(h.Seq), int16(h.Kind), int32(h.Miners), int32(h.Samples),
				time.UnixMilli(h.FirstMS), time.UnixMilli(h.LastMS), s.w.Now(), h.Key[:], hash[:], h.Bytes(), b.Signature, b.Payload); err != nil {
				return err
			}
			if h.Kind == evidence.KindHour {
				if _, err := s.w.Facts.Keep(ctx, tx, []facts.Signed{{
					Hour: b.Hour, Spool: h.Spool, Seq: h.Seq, Header: hash, Batch: proof.HourBody{RawHeader: h.Bytes(), Signature: b.Signature, Payload: b.Payload},
				}}, s.w.Now()); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// Run signs and delivers hours from one time until before another, each a minute after its end.
func (s *Site) Run(from, to time.Time, what func(miner int, at time.Time) Does) {
	s.w.T.Helper()
	for at := from; at.Before(to); at = at.Add(time.Hour) {
		if end := at.Add(time.Hour + time.Minute); s.w.Now().Before(end) {
			s.w.Set(end)
		}
		samples, signed := s.Hour(at, what)
		s.Deliver(samples, signed)
	}
}

// Always is for all miners and hours.
func Always(d Does) func(int, time.Time) Does { return func(int, time.Time) Does { return d } }
