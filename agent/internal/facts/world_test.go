package facts

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

func seedKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

// site is an agent's disk with miners, a clock and a hub that has everything that was ever committed.
type site struct {
	t      testing.TB
	spools spool.Config
	facts  Config
	clock  time.Time
	real   time.Duration // that has passed, whatever the clock was set to: the miners' own time
	miners []miner
	enc    *wire.Encoder

	*spool.Spool
	signer  *Signer
	hub     map[spool.Ref]spool.Batch
	decoded map[spool.Ref][]telemetry.Observation
	read    map[ident.SpoolID]uint64 // what the hub has read of each chain
	every   time.Duration            // between polls
	stepped bool                     // the next poll says that the clock was set
}

// miner hashes at a constant rate from its start on.
type miner struct {
	id    ident.MinerID
	rate  int64         // MH/s
	since time.Duration // start of its program, in the site's real time
	off   bool
}

var begin = time.Date(2026, 11, 23, 9, 58, 0, 0, time.UTC)

func newSite(t testing.TB, miners int, change ...func(*site)) *site {
	t.Helper()
	s := &site{t: t, clock: begin, every: time.Minute, hub: map[spool.Ref]spool.Batch{}, decoded: map[spool.Ref][]telemetry.Observation{}, read: map[ident.SpoolID]uint64{}}
	hub := seedKey("hub").Public().(ed25519.PublicKey)
	s.spools = spool.Config{
		Dir: t.TempDir(), Site: ident.SiteID{1, 2, 3}, Key: seedKey("site"), TellKey: true, Hold: true, Now: func() time.Time { return s.clock }, Log: slog.New(slog.DiscardHandler),
		HubKey: func(ident.KeyID) ed25519.PublicKey { return hub },
	}
	s.facts = Config{Now: func() time.Time { return s.clock }}
	for i := range miners {
		s.miners = append(s.miners, miner{id: ident.MinerID{byte(i + 1), 7}, rate: int64(100_000_000 + i*1_000_003)})
	}
	var err error
	if s.enc, err = wire.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	s.spools.Registerer, s.facts.Registerer = prometheus.NewRegistry(), prometheus.NewRegistry()
	if s.Spool, err = spool.Open(context.Background(), s.spools); err != nil {
		s.t.Fatal(err)
	}
	if s.facts.Salts, err = inventory.OpenSalts(s.spools.Dir); err != nil {
		s.t.Fatal(err)
	}
	s.facts.Spool = s.Spool
	if s.signer, err = New(s.facts); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) close() {
	if s.Spool == nil {
		return
	}
	s.signer.decoder.Close()
	if err := s.Close(); err != nil {
		s.t.Error(err)
	}
	s.Spool = nil
}

func (s *site) restart() {
	s.t.Helper()
	s.close()
	s.open()
}

// payload is what a poll of all miners at this moment makes.
func (s *site) payload() ([]byte, wire.Meta) {
	s.t.Helper()
	var obs []telemetry.Observation
	for i := range s.miners {
		m := &s.miners[i]
		o := telemetry.Observation{Miner: m.id, At: s.clock, Outcome: telemetry.OutcomeRefused}
		if !m.off {
			up := (s.real - m.since).Truncate(time.Second)
			o.Outcome, o.State = telemetry.OutcomeOK, telemetry.StateHashing
			o.Uptime, o.Hashes = unit.Some(up), unit.Some(m.rate*int64(up/time.Second))
			o.Hashrate = unit.Some(unit.Hashrate(m.rate) * unit.MegahashPerSecond)
		}
		if s.stepped {
			o.Flags |= telemetry.FlagClockStep
		}
		obs = append(obs, o)
	}
	s.stepped = false
	p, meta, err := s.enc.Samples(obs, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return p, meta
}

func (s *site) poll() {
	s.t.Helper()
	p, meta := s.payload()
	if _, err := s.Append(context.Background(), evidence.KindSamples, p, meta); err != nil {
		s.t.Fatal(err)
	}
}

// step is one turn of Signer.Run.
func (s *site) step() error {
	s.t.Helper()
	_, err := s.signer.step(context.Background())
	s.signer.note(context.Background(), err)
	s.collect()
	return err
}

func (s *site) mustStep() {
	s.t.Helper()
	if err := s.step(); err != nil {
		s.t.Fatal(err)
	}
}

// pass lets time pass, on the clock too.
func (s *site) pass(d time.Duration) { s.clock, s.real = s.clock.Add(d), s.real+d }

// set sets the clock.
func (s *site) set(by time.Duration) { s.clock, s.stepped = s.clock.Add(by), true }

// run polls every minute, or as every says, for d with a signer at work.
func (s *site) run(d time.Duration) {
	s.t.Helper()
	for range int(d / s.every) {
		s.pass(s.every)
		s.poll()
		s.mustStep()
	}
}

// collect is the hub: it takes what it has not got yet.
func (s *site) collect() {
	s.t.Helper()
	for _, c := range s.Chains() {
		for {
			batches, err := s.Stored(c.ID, s.read[c.ID]+1, 64, 1<<20)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(batches) == 0 {
				break
			}
			for _, b := range batches {
				s.hub[b.Ref()] = b
				s.read[c.ID] = b.Header.Seq
			}
		}
	}
}

// ackAll acknowledges everything that is stored.
func (s *site) ackAll() {
	s.t.Helper()
	key := seedKey("hub")
	for {
		batches, err := s.Backlog(256, 1<<20, func(r spool.Ref) uint64 { return r.Seq })
		if err != nil {
			s.t.Fatal(err)
		}
		if len(batches) == 0 {
			return
		}
		for _, b := range batches {
			a := evidence.Ack{Site: b.Header.Site, Spool: b.Header.Spool, Seq: b.Header.Seq, HeaderHash: b.Header.Hash()}
			if err := s.Ack(a, ident.KeyIDOf(key.Public().(ed25519.PublicKey)), a.Sign(key)); err != nil && !errors.Is(err, spool.ErrNotFound) {
				s.t.Fatal(err)
			}
		}
	}
}

// signed is an hour that the site has signed.
type signedHour struct {
	evidence.Hour
	seq    uint64
	leaves []evidence.Leaf
}

// hours checks every signed hour as a hub does, from all that was committed, and returns them in order.
func (s *site) hours() []signedHour {
	s.t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		s.t.Fatal(err)
	}
	defer dec.Close()
	refs := slices.SortedFunc(maps.Keys(s.hub), func(a, b spool.Ref) int {
		return cmp.Or(slices.Compare(a.Spool[:], b.Spool[:]), cmp.Compare(a.Seq, b.Seq))
	})
	type key struct {
		hour  uint32
		spool ident.SpoolID
	}
	seen := map[key]bool{}
	var out []signedHour
	for _, ref := range refs {
		b := s.hub[ref]
		if b.Header.Kind != evidence.KindHour {
			continue
		}
		h, err := evidence.ParseHour(b.Payload)
		if err != nil {
			s.t.Fatal(err)
		}
		if seen[key{h.Hour, h.Spool}] {
			s.t.Errorf("hour %s of chain %s is signed twice", timeOf(h.Hour), h.Spool)
		}
		seen[key{h.Hour, h.Spool}] = true
		if b.Header.Miners != h.Leaves || b.Header.Samples != 0 || b.Header.FirstMS != startOf(h.Hour) || b.Header.LastMS != endOf(h.Hour)-1 || h.LastSeq >= ref.Seq && h.Spool == ref.Spool {
			s.t.Errorf("header %+v of hour %+v", b.Header, h)
		}
		x := signedHour{Hour: h, seq: ref.Seq}
		f := evidence.NewFactsOf(h.Site, h.Spool, h.Hour)
		begun := false
		for _, r := range refs {
			d := s.hub[r]
			if r.Spool != h.Spool || r.Seq > h.LastSeq || d.Header.Kind != evidence.KindSamples || !begun && d.Header.LastMS < startOf(h.Hour)-hourMS {
				continue
			}
			begun = true
			if s.decoded[r] == nil {
				samples, err := dec.Samples(d.Payload)
				if err != nil {
					s.t.Fatal(err)
				}
				for i := range samples.Len() {
					s.decoded[r] = append(s.decoded[r], samples.Observation(i))
				}
			}
			for i := range s.decoded[r] {
				f.Add(r.Seq, &s.decoded[r][i])
			}
		}
		x.leaves = f.Close(h.Hour, h.LastSeq)
		first := h.LastSeq
		for i := range x.leaves {
			l := &x.leaves[i]
			keys, err := s.facts.Salts.Keys([]ident.MinerID{l.Miner})
			if err != nil {
				s.t.Fatal(err)
			}
			l.Salt = evidence.SaltOf(keys[0], h.Hour)
			first = min(first, l.FirstSeq)
		}
		tree, err := evidence.NewTree(x.leaves)
		if err != nil {
			s.t.Fatal(err)
		}
		if tree.Root() != h.Root || int(h.Leaves) != len(x.leaves) || h.FirstSeq != first {
			s.t.Errorf("hour %s, batches %d to %d: the site signed root %x of %d leaves from batch %d, its batches give %x of %d from %d", timeOf(h.Hour), h.FirstSeq, h.LastSeq,
				h.Root, h.Leaves, h.FirstSeq, tree.Root(), len(x.leaves), first)
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b signedHour) int { return cmp.Compare(a.Hour.Hour, b.Hour.Hour) })
	return out
}

// wantHours checks which hours are signed, by the clock hour of begin's day.
func (s *site) wantHours(want ...int) []signedHour {
	s.t.Helper()
	got := s.hours()
	var have []int
	day := begin.Truncate(24 * time.Hour)
	for _, h := range got {
		have = append(have, int(timeOf(h.Hour.Hour).Sub(day)/time.Hour))
	}
	if !slices.Equal(have, want) {
		s.t.Errorf("hours %v are signed, want %v", have, want)
	}
	return got
}

// hashes sums a miner's work of an hour.
func (h *signedHour) hashes(m ident.MinerID) (sum uint64) {
	for i := range h.leaves {
		if h.leaves[i].Miner == m {
			for _, s := range h.leaves[i].Slots {
				sum += s.Hashes
			}
		}
	}
	return sum
}
