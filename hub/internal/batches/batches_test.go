package batches

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/archive/export"
	"github.com/hashinsight/hashinsight/hub/internal/verify"
	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// site is one that signs batches of real polls, six an hour, and exports of them by hour.
type site struct {
	t       *testing.T
	id      ident.SiteID
	spool   ident.SpoolID
	key     ed25519.PrivateKey
	seq     uint64
	prev    evidence.Hash
	enc     *wire.Encoder
	dec     *wire.Decoder
	facts   *evidence.Facts
	hashes  map[ident.MinerID]int64
	exports map[uint32][]export.Entry
	lie     func(hour uint32, leaves []evidence.Leaf) // before the site signs its leaves
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, hashes: map[ident.MinerID]int64{}, exports: map[uint32][]export.Entry{}}
	var err error
	if s.enc, err = wire.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	if s.dec, err = wire.NewDecoder(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.dec.Close)
	return s
}

func (s *site) sign(h evidence.Header, payload []byte) (header, signature []byte) {
	s.seq++
	h.Site, h.Spool, h.Seq, h.Prev, h.Payload, h.PayloadLen = s.id, s.spool, s.seq, s.prev, sha256.Sum256(payload), uint32(len(payload))
	pub := s.key.Public().(ed25519.PublicKey)
	h.Key = ident.KeyIDOf(pub)
	header = h.Bytes()
	s.prev = h.Hash()
	signature = evidence.SignHeader(s.key, header)
	hour := uint32(h.FirstMS / evidence.HourMS)
	s.exports[hour] = append(s.exports[hour], export.Entry{
		Spool: s.spool.String(), Seq: h.Seq, Kind: h.Kind.String(), Key: h.Key.String(), PublicKey: pub, Header: header, Signature: signature, Payload: payload,
	})
	return header, signature
}

// poll polls all miners each minute of an hour.
func (s *site) poll(miners []ident.MinerID, hour uint32) {
	s.t.Helper()
	for part := range 6 {
		var obs []telemetry.Observation
		for minute := part * 10; minute < part*10+10; minute++ {
			at := time.UnixMilli(int64(hour)*evidence.HourMS + int64(minute)*60_000 + 7_000).UTC()
			for i, m := range miners {
				o := telemetry.Observation{Miner: m, At: at, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing}
				s.hashes[m] += int64(60 * 90_000_000 / (1 + (i+int(hour))%5))
				o.Hashes, o.Uptime = unit.Some(s.hashes[m]), unit.Some(time.Duration(at.Unix()-1_700_000_000)*time.Second)
				if (minute+i)%13 == 5 {
					o = telemetry.Observation{Miner: m, At: at, Outcome: telemetry.OutcomeTimeout}
				}
				obs = append(obs, o)
			}
		}
		payload, meta, err := s.enc.Samples(obs, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		s.sign(evidence.Header{
			Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
		}, payload)
		samples, err := s.dec.Samples(payload)
		if err != nil {
			s.t.Fatal(err)
		}
		samples.EachFact(func(o *telemetry.Observation) { s.facts.Add(s.seq, o) })
	}
}

// hour polls and signs an hour, as MonthOf asks for.
func (s *site) hour(w *prooftest.World, id ident.SiteID, spool ident.SpoolID, miners []ident.MinerID, hour uint32) prooftest.SignedHour {
	s.t.Helper()
	if s.facts == nil {
		s.id, s.spool = id, spool
		s.key, _ = w.SiteKey(id)
		s.facts = evidence.NewFacts(id, spool)
		for before := hour - 4; before < hour; before++ { // it did not begin with the month
			s.poll(miners, before)
			s.facts.Close(before, s.seq)
		}
	}
	s.poll(miners, hour)
	leaves := s.facts.Close(hour, s.seq)
	first := s.seq
	for i := range leaves {
		w.Fill(leaves[i].Salt[:])
		first = min(first, leaves[i].FirstSeq)
	}
	if s.lie != nil {
		s.lie(hour, leaves)
	}
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		s.t.Fatal(err)
	}
	h := evidence.Hour{Site: id, Hour: hour, Spool: spool, FirstSeq: first, LastSeq: s.seq, Leaves: uint32(len(leaves)), Root: tree.Root()}
	begin := int64(hour) * evidence.HourMS
	raw, signature := s.sign(evidence.Header{Kind: evidence.KindHour, Schema: evidence.SchemaFirst, Miners: h.Leaves, FirstMS: begin, LastMS: begin + evidence.HourMS - 1}, h.Bytes())
	body, err := proof.ParseHourBody(slices.Concat(raw, signature, h.Bytes()))
	if err != nil {
		s.t.Fatal(err)
	}
	return prooftest.SignedHour{HourBody: body, Leaves: leaves, Index: w.Add(body.Entry(begin + evidence.HourMS + 90_000))}
}

// write writes an export of each hour from one on.
func (s *site) write(dir string, from uint32, change func(hour uint32, all []export.Entry) []export.Entry) {
	s.t.Helper()
	for hour, all := range s.exports {
		if hour < from {
			continue
		}
		if change != nil {
			all = change(hour, slices.Clone(all))
		}
		var b bytes.Buffer
		out := json.NewEncoder(&b)
		_ = out.Encode(export.Head{Format: export.Format, Site: s.id.String()})
		for i := range all {
			_ = out.Encode(all[i])
		}
		_ = out.Encode(export.Tail{End: true, Batches: len(all)})
		if err := os.WriteFile(filepath.Join(dir, strconv.FormatUint(uint64(hour), 10)), b.Bytes(), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

type month struct {
	*site
	file  []byte
	first uint32 // hour
}

const hours = 30

func newMonth(t *testing.T, lie func(hour uint32, leaves []evidence.Leaf)) *month {
	t.Helper()
	m := &month{site: newSite(t)}
	m.lie = lie
	parts, _ := verifytest.MonthOf{Seed: 9, Miners: 3, Others: 2, Hours: hours, Hour: m.hour}.Parts(t)
	var err error
	if m.file, err = parts.Bytes(); err != nil {
		t.Fatal(err)
	}
	m.first = slices.Min(func() (all []uint32) {
		for h := range m.exports {
			all = append(all, h)
		}
		return all
	}()) + 4
	return m
}

// recompute is what hashinsight-verify recompute --evidence does.
func (m *month) recompute(dir string) (proof.Step, error) {
	d, err := Open(dir)
	if err != nil {
		return proof.Step{}, err
	}
	defer d.Close()
	c := Compare(d, verify.NewSLA())
	r := proof.Check(m.t.Context(), bytes.NewReader(m.file), proof.Trust{}, c)
	for _, s := range r.Steps {
		if s.State == proof.Wrong {
			m.t.Errorf("%+v", s)
		}
	}
	s, ok := c.Step()
	if !ok {
		m.t.Error("nothing was compared")
	}
	return s, nil
}

func TestBatchesGiveTheLeavesThatWereSigned(t *testing.T) {
	m := newMonth(t, nil)
	dir := t.TempDir()
	m.write(dir, m.first-2, nil)
	s, err := m.recompute(dir)
	if err != nil || s.State != proof.OK || !strings.HasPrefix(s.Text, fmt.Sprintf("%d leaves of %d hours", 3*(hours-2), hours-2)) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestALeafThatItsBatchesDoNotGiveIsFalse: the site's agent signs what it did not measure.
func TestALeafThatItsBatchesDoNotGiveIsFalse(t *testing.T) {
	for name, lie := range map[string]func([]evidence.Leaf){
		"more work": func(l []evidence.Leaf) {
			l[0].Slots[3].Hashes++
			l[1].Slots[3].Hashes++
			l[2].Slots[3].Hashes++
			l[3].Slots[3].Hashes++
			l[4].Slots[3].Hashes++
		},
		"polls not made": func(l []evidence.Leaf) {
			for i := range l {
				l[i].Slots[0].Polls++
			}
		},
		"other first batch": func(l []evidence.Leaf) {
			for i := range l {
				l[i].FirstSeq++
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m *month
			n := 0
			m = newMonth(t, func(_ uint32, leaves []evidence.Leaf) {
				if n++; n == 7 {
					lie(leaves)
				}
			})
			dir := t.TempDir()
			m.write(dir, m.first-2, nil)
			if s, err := m.recompute(dir); err != nil || s.State != proof.Wrong {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func TestEvidenceThatIsNotWholeProvesNothing(t *testing.T) {
	m := newMonth(t, nil)
	for name, c := range map[string]struct {
		from   uint32
		change func(hour uint32, all []export.Entry) []export.Entry
		says   string
	}{
		"the hours before are missing": {m.first, nil, "those of the hour before"},
		"a batch is missing": {m.first - 2, func(hour uint32, all []export.Entry) []export.Entry {
			if hour == m.first+5 {
				all = slices.Delete(all, 2, 3)
			}
			return all
		}, "are missing"},
		"a payload is missing": {m.first - 2, func(hour uint32, all []export.Entry) []export.Entry {
			if hour == m.first+5 {
				all[1].Payload, all[1].Missing = nil, "damaged \x1b[31m"
			}
			return all
		}, "damaged"},
		"an hour is missing": {m.first - 2, func(hour uint32, all []export.Entry) []export.Entry {
			if hour == m.first+9 {
				return nil
			}
			return all
		}, "are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m.write(dir, c.from, c.change)
			if s, err := m.recompute(dir); err != nil || s.State != proof.Unknown || !strings.Contains(s.Text, c.says) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func TestEvidenceThatNobodySignedIsRefused(t *testing.T) {
	m := newMonth(t, nil)
	other := ed25519.NewKeyFromSeed(make([]byte, 32))
	for name, change := range map[string]func(e *export.Entry){
		"a payload changed":   func(e *export.Entry) { e.Payload = append(bytes.Clone(e.Payload), 0) },
		"a header changed":    func(e *export.Entry) { e.Header = bytes.Clone(e.Header); e.Header[150]++ },
		"a signature changed": func(e *export.Entry) { e.Signature = bytes.Clone(e.Signature); e.Signature[3]++ },
		"another key":         func(e *export.Entry) { e.PublicKey = other.Public().(ed25519.PublicKey) },
		"no key":              func(e *export.Entry) { e.PublicKey = nil },
		"no header":           func(e *export.Entry) { e.Header = nil },
	} {
		dir := t.TempDir()
		m.write(dir, m.first-2, func(hour uint32, all []export.Entry) []export.Entry {
			if hour == m.first {
				change(&all[1])
			}
			return all
		})
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "not an export": "hello\n", "no end": `{"format":"hashinsight-evidence-1"}` + "\n", "another number": `{"format":"hashinsight-evidence-1"}` + "\n" + `{"end":true,"batches":3,"missing":0}` + "\n",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
