package spool

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// site is a spool directory with the keys around it, which survive closing and opening.
type site struct {
	t      testing.TB
	cfg    Config
	hub    ed25519.PrivateKey
	hubKey ident.KeyID
	clock  time.Time
	*Spool
}

func testKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	s := &site{t: t, hub: testKey("hub"), clock: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	pub := s.hub.Public().(ed25519.PublicKey)
	s.hubKey = ident.KeyIDOf(pub)
	s.cfg = Config{
		Dir: t.TempDir(), Site: ident.SiteID{1, 2, 3}, Key: testKey("site"), Now: func() time.Time { return s.clock },
		HubKey: func(id ident.KeyID) ed25519.PublicKey {
			if id == s.hubKey {
				return pub
			}
			return nil
		},
		SegmentBytes: 256 << 10,
	}
	for _, f := range change {
		f(&s.cfg)
	}
	s.reopen()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen opens the directory as a new process would, with metrics of its own.
func (s *site) reopen() {
	s.t.Helper()
	if s.Spool != nil {
		if err := s.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
	s.cfg.Registerer = prometheus.NewRegistry()
	sp, err := Open(context.Background(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Spool = sp
}

// payloadOf returns size bytes that depend on n and do not compress.
func payloadOf(n uint64, size int) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

func (s *site) append(n uint64, size int) evidence.Header {
	s.t.Helper()
	s.clock = s.clock.Add(5 * time.Second)
	ms := s.clock.UnixMilli()
	h, err := s.Append(context.Background(), evidence.KindSamples, payloadOf(n, size), wire.Meta{Miners: 1, Samples: 10, FirstMS: ms - 5000, LastMS: ms})
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

func (s *site) ack(h evidence.Header) {
	s.t.Helper()
	a := evidence.Ack{Site: h.Site, Spool: h.Spool, Seq: h.Seq, HeaderHash: h.Hash(), HubMS: s.clock.UnixMilli()}
	if err := s.Ack(a, s.hubKey, a.Sign(s.hub)); err != nil {
		s.t.Fatal(err)
	}
}

func all(r Ref) uint64 { return r.Seq }

// pending returns every unacknowledged batch, oldest first.
func (s *site) pending() []Batch {
	s.t.Helper()
	next := map[ident.SpoolID]uint64{}
	var out []Batch
	for {
		got, err := s.Backlog(7, 1<<20, func(r Ref) uint64 { return max(r.Seq, next[r.Spool]) })
		if err != nil {
			s.t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		for _, b := range got {
			next[b.Header.Spool] = b.Header.Seq + 1
		}
		out = append(out, got...)
	}
}

// wantChain checks signatures, payloads and the links between neighbours.
func wantChain(t testing.TB, batches []Batch) {
	t.Helper()
	pub := testKey("site").Public().(ed25519.PublicKey)
	for i, b := range batches {
		if err := evidence.VerifyHeader(pub, b.HeaderBytes, b.Signature); err != nil {
			t.Fatalf("batch %d: %v", b.Header.Seq, err)
		}
		if err := b.Header.CheckPayload(b.Payload); err != nil {
			t.Fatal(err)
		}
		if i == 0 || batches[i-1].Header.Spool != b.Header.Spool {
			continue
		}
		if p := batches[i-1].Header; b.Header.Seq != p.Seq+1 || b.Header.Prev != p.Hash() {
			t.Fatalf("batch %d does not follow batch %d", b.Header.Seq, p.Seq)
		}
	}
}

func TestBatchesSurviveReopeningInOneChain(t *testing.T) {
	s := newSite(t)
	for n := range uint64(60) {
		s.append(n, 20_000)
		if n%17 == 0 {
			s.reopen()
		}
	}
	got := s.pending()
	wantChain(t, got)
	if len(got) != 60 || got[0].Header.Seq != 1 {
		t.Fatalf("%d batches from %d, want 60 from 1", len(got), got[0].Header.Seq)
	}
	if st := s.Stats(); st.Pending != 60 || st.Segments < 4 || st.OldestSeq != 1 || st.NewestSeq != 60 {
		t.Errorf("stats: %+v", st)
	}
}

func TestOnlyAValidAcknowledgementCounts(t *testing.T) {
	s := newSite(t)
	h := s.append(1, 100)
	good := evidence.Ack{Site: h.Site, Spool: h.Spool, Seq: 1, HeaderHash: h.Hash(), HubMS: 1}
	forged := good
	forged.HubMS = 2
	for name, c := range map[string]struct {
		ack evidence.Ack
		key ident.KeyID
		sig []byte
		err error
	}{
		"signed by someone else":  {good, s.hubKey, good.Sign(testKey("mallory")), ErrBadAck},
		"changed after signing":   {forged, s.hubKey, good.Sign(s.hub), ErrBadAck},
		"key not pinned":          {good, ident.KeyID{9}, good.Sign(s.hub), ErrBadAck},
		"another site":            signed(s, good, func(a *evidence.Ack) { a.Site[0]++ }, ErrBadAck),
		"another header":          signed(s, good, func(a *evidence.Ack) { a.HeaderHash[0]++ }, ErrBadAck),
		"batch that is not there": signed(s, good, func(a *evidence.Ack) { a.Seq++ }, ErrNotFound),
		"another spool":           signed(s, good, func(a *evidence.Ack) { a.Spool[0]++ }, ErrNotFound),
	} {
		if err := s.Ack(c.ack, c.key, c.sig); !errors.Is(err, c.err) {
			t.Errorf("%s: error is %v, want %v", name, err, c.err)
		}
	}
	if n := len(s.pending()); n != 1 {
		t.Fatalf("%d batches pending after bad acknowledgements, want 1", n)
	}
	s.ack(h)
	s.ack(h) // a second time is harmless
	s.reopen()
	if n := len(s.pending()); n != 0 {
		t.Errorf("%d batches pending after the acknowledgement and reopening, want 0", n)
	}
}

func signed(s *site, a evidence.Ack, change func(*evidence.Ack), want error) struct {
	ack evidence.Ack
	key ident.KeyID
	sig []byte
	err error
} {
	change(&a)
	return struct {
		ack evidence.Ack
		key ident.KeyID
		sig []byte
		err error
	}{a, s.hubKey, a.Sign(s.hub), want}
}

func TestAcknowledgedSegmentsGoAfterTheGracePeriod(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Grace = time.Hour })
	var hs []evidence.Header
	for n := range uint64(50) {
		hs = append(hs, s.append(n, 20_000))
	}
	before := s.Stats().Segments
	for _, h := range hs {
		s.ack(h)
	}
	s.append(100, 10)
	if st := s.Stats(); st.Segments != before {
		t.Fatalf("%d segments right after acknowledgement, want %d: the grace period is not over", st.Segments, before)
	}
	s.reopen()
	s.clock = s.clock.Add(time.Hour)
	s.append(101, 10)
	if st := s.Stats(); st.Segments != 1 || st.Pending != 2 {
		t.Errorf("after the grace period: %+v, want 1 segment and 2 pending", st)
	}
	if h := s.append(102, 10); h.Seq != 53 {
		t.Errorf("next sequence number is %d, want 53", h.Seq)
	}
}

func TestSizeCapDropsOldestWithGapRecords(t *testing.T) {
	s := newSite(t, func(c *Config) { c.MaxBytes = 4 * c.SegmentBytes })
	var samples uint64
	for n := range uint64(200) {
		s.append(n, 20_000)
		samples += 10
	}
	if st := s.Stats(); st.Bytes > s.cfg.MaxBytes {
		t.Errorf("%d bytes of segments, the cap is %d", st.Bytes, s.cfg.MaxBytes)
	}
	got := s.pending()
	wantChain(t, got)
	covered := map[uint64]bool{}
	var kept, gone uint64
	for _, b := range got {
		covered[b.Header.Seq] = true
		if b.Header.Kind == evidence.KindSamples {
			kept += uint64(b.Header.Samples)
			continue
		}
		gap, err := evidence.ParseGap(b.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if gap.Reason != evidence.GapSizeCap || gap.LastHash == (evidence.Hash{}) || gap.FirstMS == 0 {
			t.Errorf("gap record %+v", gap)
		}
		for seq := gap.FirstSeq; seq <= gap.LastSeq; seq++ {
			covered[seq] = true
		}
		gone += gap.Samples
	}
	for seq := uint64(1); seq <= s.Stats().NewestSeq; seq++ {
		if !covered[seq] {
			t.Fatalf("batch %d is neither stored nor named by a gap record", seq)
		}
	}
	if kept+gone < samples {
		t.Errorf("%d samples kept and %d named as gone, appended were %d", kept, gone, samples)
	}
}

func TestAcknowledgedSegmentsGoFirstAtTheCap(t *testing.T) {
	s := newSite(t, func(c *Config) { c.MaxBytes = 4 * c.SegmentBytes })
	first := s.append(0, 20_000)
	for n := range uint64(150) {
		s.ack(s.append(n+1, 20_000))
	}
	got := s.pending()
	if len(got) != 1 || got[0].Header != first {
		t.Errorf("%d batches pending, want only the first one, which nobody acknowledged", len(got))
	}
}

func TestSecondOwnerIsRefusedByName(t *testing.T) {
	s := newSite(t)
	_, err := Open(context.Background(), s.cfg)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second owner: %v, want ErrInUse naming the holder", err)
	}
	s.append(1, 10)
	s.cfg.Site[0]++
	_ = s.Close()
	if _, err := Open(context.Background(), s.cfg); err == nil || !strings.Contains(err.Error(), "belongs to site") {
		t.Errorf("another site's spool: %v", err)
	}
}

func TestClockStepsDoNotChangeTheOrder(t *testing.T) {
	s := newSite(t)
	for n := range uint64(20) {
		s.append(n, 20_000)
		if n == 5 {
			s.clock = s.clock.Add(-24 * time.Hour)
		}
		if n == 12 {
			s.clock = s.clock.Add(48 * time.Hour)
			s.reopen()
		}
	}
	got := s.pending()
	wantChain(t, got)
	if len(got) != 20 {
		t.Errorf("%d batches, want 20", len(got))
	}
}

func TestCorruptOlderSegmentIsSetAsideAndNamed(t *testing.T) {
	s := newSite(t)
	for n := range uint64(40) {
		s.append(n, 20_000)
	}
	second := s.segs[1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(second.path, 5000); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if _, err := os.Stat(second.path + corruptSuffix); err != nil {
		t.Errorf("the corrupt file was not set aside: %v", err)
	}
	h := s.append(100, 10)
	if h.Spool != second.spool || h.Seq != 42 {
		t.Errorf("next batch is %d of spool %s, want 42 of the same spool", h.Seq, h.Spool)
	}
	var gaps []evidence.Gap
	for _, b := range s.pending() {
		if b.Header.Kind == evidence.KindGap {
			g, err := evidence.ParseGap(b.Payload)
			if err != nil {
				t.Fatal(err)
			}
			gaps = append(gaps, g)
		}
	}
	if len(gaps) != 1 || gaps[0].FirstSeq != second.first || gaps[0].LastSeq != second.last || gaps[0].Reason != evidence.GapCorrupt || gaps[0].LastHash == (evidence.Hash{}) {
		t.Errorf("gap records %+v, want one for %d to %d", gaps, second.first, second.last)
	}
	s.reopen()
	if n := s.Stats().Segments; n != len(s.segs) {
		t.Errorf("%d segments", n)
	}
}

func TestCorruptNewestSegmentBeginsANewChain(t *testing.T) {
	s := newSite(t)
	for n := range uint64(20) {
		s.append(n, 20_000)
	}
	old := s.ID()
	newest := s.segs[len(s.segs)-1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(newest.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 16384), 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s.reopen()
	if s.ID() == old {
		t.Fatal("the spool id is the same although the end of its chain cannot be read")
	}
	h := s.append(50, 10)
	if h.Seq != 2 { // after the gap record
		t.Errorf("first batch of samples in the new chain is %d, want 2", h.Seq)
	}
	got := s.pending()
	wantChain(t, got)
	gap, err := evidence.ParseGap(got[len(got)-2].Payload)
	if err != nil || gap.Spool != old || gap.FirstSeq != newest.first || gap.LastSeq < gap.FirstSeq {
		t.Errorf("gap record %+v (%v), want the old spool from %d", gap, err, newest.first)
	}
}

func TestFlippedBitLosesOneBatchOnly(t *testing.T) {
	s := newSite(t)
	for n := range uint64(20) {
		s.append(n, 20_000)
	}
	path, bad := s.segs[0].path, payloadOf(4, 20_000)[5000:5100] // in the middle of batch 5's payload
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(raw), string(bad))
	if at < 0 {
		t.Fatal("payload not found in the file")
	}
	raw[at] ^= 4
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if n := len(s.pending()); n != 19 {
		t.Errorf("%d batches readable, want 19 of 20", n)
	}
	s.append(30, 10)
	got := s.pending()
	gap, err := evidence.ParseGap(got[len(got)-2].Payload)
	if err != nil || gap.FirstSeq != 5 || gap.LastSeq != 5 || gap.Reason != evidence.GapCorrupt {
		t.Errorf("gap record %+v (%v), want batch 5", gap, err)
	}
}

func TestUnfinishedFilesAreRemoved(t *testing.T) {
	s := newSite(t)
	s.append(1, 10)
	_ = s.Close()
	tmp := filepath.Join(s.cfg.Dir, segmentName(1, 2)+tmpSuffix)
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", tmp)
	}
	if h := s.append(2, 10); h.Seq != 2 {
		t.Errorf("sequence number %d, want 2", h.Seq)
	}
}

func TestLiveReturnsTheNewest(t *testing.T) {
	s := newSite(t)
	if _, ok, err := s.Live(8, all); ok || err != nil {
		t.Fatalf("an empty spool gave a batch (%v)", err)
	}
	changed := s.Changed()
	for n := range uint64(30) {
		s.append(n, 20_000)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed was not closed by Append")
	}
	b, ok, err := s.Live(8, all)
	if err != nil || !ok || b.Header.Seq != 30 {
		t.Fatalf("live batch %d (%v), want 30", b.Header.Seq, err)
	}
	b, _, _ = s.Live(8, func(r Ref) uint64 {
		if r.Seq >= 28 {
			return 31
		}
		return r.Seq
	})
	if b.Header.Seq != 27 {
		t.Errorf("next live batch is %d, want 27", b.Header.Seq)
	}
	if _, ok, _ = s.Live(3, func(r Ref) uint64 { return 31 }); ok {
		t.Error("live batch although all of the newest three are skipped")
	}
}

func metaOf(s *site) wire.Meta {
	ms := s.clock.UnixMilli()
	return wire.Meta{Miners: 1, Samples: 10, FirstMS: ms, LastMS: ms}
}

func TestAChainBeginsWithTheKeyThatSignsIt(t *testing.T) {
	made := newSite(t, func(c *Config) { c.TellKey = true })
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	c := made.cfg
	keys := func(c Config) (found []ident.KeyID, seqs []uint64) {
		t.Helper()
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), evidence.KindHour, []byte("an hour"), wire.Meta{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Export(t.Context(), c.Dir, func(b Batch) error {
			if b.Header.Kind != evidence.KindKey {
				return nil
			}
			k, err := evidence.ParseKey(b.Payload)
			if err != nil || k.Site != c.Site || ident.KeyIDOf(k.Public) != b.Header.Key {
				t.Errorf("batch %d names key %x of site %s, %v", b.Header.Seq, k.Public, k.Site, err)
			}
			found, seqs = append(found, ident.KeyIDOf(k.Public)), append(seqs, b.Header.Seq)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found, seqs
	}
	first := ident.KeyIDOf(c.Key.Public().(ed25519.PublicKey))
	for range 2 { // the second start says nothing new
		if got, at := keys(c); !slices.Equal(got, []ident.KeyID{first}) || at[0] != 1 {
			t.Fatalf("keys %v at %v, want %v at 1", got, at, first)
		}
	}
	_, next, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Key = next
	second := ident.KeyIDOf(next.Public().(ed25519.PublicKey))
	for range 2 {
		if got, at := keys(c); !slices.Equal(got, []ident.KeyID{first, second}) || at[1] != 4 {
			t.Fatalf("keys %v at %v, want %v and %v at 1 and 4", got, at, first, second)
		}
	}
}

func TestAChainThatReplacesABrokenOneBeginsWithTheKeyToo(t *testing.T) {
	for name, lose := range map[string]func(*site){
		"found at the start": func(s *site) {
			path := s.segs[len(s.segs)-1].path
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(make([]byte, 16384), 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			s.reopen()
		},
		"found while it runs": func(s *site) { s.segs[len(s.segs)-1].broken.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(c *Config) { c.TellKey = true })
			for n := range uint64(20) {
				s.append(n, 20_000)
			}
			old := s.ID()
			lose(s)
			s.append(50, 10)
			s.reopen()
			s.append(51, 10)
			var kinds []evidence.Kind
			for _, b := range s.pending() {
				if b.Header.Spool != old {
					kinds = append(kinds, b.Header.Kind)
				}
			}
			if want := []evidence.Kind{evidence.KindKey, evidence.KindGap, evidence.KindSamples, evidence.KindSamples}; !slices.Equal(kinds, want) {
				t.Errorf("the new chain holds kinds %v, want %v: the key, the gap, and samples", kinds, want)
			}
		})
	}
}

func TestAChainSaysWhatIsStillKeptOfIt(t *testing.T) {
	s := newSite(t)
	for n := range uint64(40) {
		s.append(n, 20_000)
	}
	if n := s.Stats().Segments; n < 3 {
		t.Fatalf("%d segments, want several", n)
	}
	first, second := s.segs[0], s.segs[1]
	if c := s.Chains(); len(c) != 1 || c[0].Kept != 1 || c[0].Newest != 40 {
		t.Errorf("chains %+v, want one that keeps 1 to 40", c)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first.path); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if c := s.Chains(); len(c) != 1 || c[0].Kept != second.first {
		t.Errorf("chains %+v, want one that keeps from %d", c, second.first)
	}
}
