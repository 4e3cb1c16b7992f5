package uplink

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

var update = flag.Bool("update", false, "record the protocol's byte streams anew")

// Recordings of what agents of each version of the protocol and of payloads have sent, for every later hub to be played against.
const (
	recordings = "../../../deploy/e2e/testdata"
	today      = "protocol-v1-schema-2" // what this version sends; only this one may be made anew, until it is released
)

// recorded are the folders below recordings, and how many batches each holds.
var recorded = map[string]int{"protocol-v1": 21, today: 22}

// recordingStart is the time of the first recorded sample.
var recordingStart = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// record keeps the next streams' messages, each as an unsigned 32-bit big-endian length and the message's bytes.
func (h *hub) record(to *bytes.Buffer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tape = to
}

func (h *hub) keep(m *telemetryv1.StreamRequest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tape == nil {
		return
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.tape.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	h.tape.Write(b)
}

// recordedPoll is one poll of a small fleet in which one miner is dead, one says little and the others everything.
func recordedPoll(r *rand.Rand, at time.Time, poll int64) []telemetry.Observation {
	const miners = 12
	out := make([]telemetry.Observation, 0, miners)
	for i := range miners {
		o := telemetry.Observation{
			Miner: recordedMiner(i), At: at.Add(time.Duration(i*37) * time.Millisecond), Took: time.Duration(3+r.IntN(9)) * time.Millisecond,
			Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing,
		}
		switch i {
		case 0:
			o.Outcome, o.State, o.Errors = telemetry.OutcomeTimeout, telemetry.StateUnknown, []string{"i/o timeout"}
		case 1:
			o.Hashrate = unit.Some(unit.Hashrate(90e12))
		default:
			o.Hashrate = unit.Some(unit.Hashrate(100_000_000+r.IntN(4_000_000)) * unit.MegahashPerSecond)
			o.HashrateWindow, o.HashrateAvg = unit.Some(5*time.Second), unit.Some(unit.Hashrate(102e12))
			o.Hashes, o.Uptime = unit.Some(poll*1_020_000_000), unit.Some(time.Duration(10*poll)*time.Second)
			o.TempBoard, o.TempChip = unit.Some(unit.Celsius(60+r.IntN(9))), unit.Some(unit.Celsius(72+r.IntN(9)))
			o.Power, o.Accepted, o.Rejected = unit.Some(unit.Watts(3200+r.IntN(50))), unit.Some(poll*3), unit.Some(poll/40)
			o.BestShare, o.HardwareErrors = unit.Some(poll), unit.Some(poll/9)
			for range 4 {
				o.Fans = append(o.Fans, unit.Some(unit.RPM(5000+10*r.IntN(60))))
			}
			for b := range int32(3) {
				o.Boards = append(o.Boards, telemetry.Board{
					Index: b, Chips: unit.Some[int32](114), ChipsWorking: unit.Some[int32](114), Hashrate: unit.Some(unit.Hashrate(34e12)),
					Temps: []unit.Celsius{unit.Celsius(55 + r.IntN(9)), unit.Celsius(70 + r.IntN(9))},
				})
			}
			o.Pools = []telemetry.Pool{{URL: "pool.example:3333", Worker: fmt.Sprintf("farm.%02d", i), Priority: unit.Some[int32](0), Alive: unit.Some(true), Accepted: unit.Some(poll * 3)}}
		}
		out = append(out, o)
	}
	return out
}

func recordedMiner(i int) ident.MinerID {
	return ident.MinerID{0x5e, 0xed, byte(i), 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, byte(i)}
}

// TestRecordProtocol plays a site's day in short and keeps what the agent sends: a first stream with live batches only, and a
// second one after an outage, with a newest batch, a backlog in groups and a gap record. With -update the result replaces the
// committed recordings of today's protocol; what they hold is checked by TestRecordingsAreWhole either way.
func TestRecordProtocol(t *testing.T) {
	if !*update {
		t.Skip("records only with -update")
	}
	inBubble(t, func(w *world) {
		enc, err := wire.NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		began, poll := time.Now(), int64(0)
		now := func() time.Time { return recordingStart.Add(time.Since(began)) }
		w.cfg.Now, w.cfg.Version = now, "recorded"
		batch := func() {
			poll++
			var infos []telemetry.MinerInfo
			if poll == 1 {
				for i := range 12 {
					infos = append(infos, telemetry.MinerInfo{
						Miner: recordedMiner(i), Address: fmt.Sprintf("10.0.0.%d:4028", i+1), MAC: fmt.Sprintf("02:00:00:00:00:%02X", i),
						Maker: "Bitmain", Model: "Antminer S19", Firmware: "stock",
					})
				}
			}
			payload, m, err := enc.Samples(recordedPoll(r, now(), poll), infos)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.spool.Append(t.Context(), evidence.KindSamples, payload, m); err != nil {
				t.Fatal(err)
			}
		}
		days := []*bytes.Buffer{{}, {}}
		w.hub.record(days[0])
		pub := seedKey("site").Public().(ed25519.PublicKey)
		k := evidence.Key{Site: siteID, Public: pub}
		if _, err := w.spool.Append(t.Context(), evidence.KindKey, k.Bytes(), wire.Meta{FirstMS: now().UnixMilli(), LastMS: now().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		w.start()
		for range 5 {
			w.run(10 * time.Second)
			batch()
		}
		w.run(time.Second)
		w.hub.record(days[1])
		w.setCut(true)
		for range 12 {
			w.run(10 * time.Second)
			batch()
		}
		gap := evidence.Gap{
			Reason: evidence.GapSizeCap, Spool: ident.SpoolID{0xda, 7}, FirstSeq: 3, LastSeq: 9,
			FirstMS: recordingStart.Add(-2 * time.Hour).UnixMilli(), LastMS: recordingStart.Add(-time.Hour).UnixMilli(), Miners: 12, Samples: 84,
		}
		if _, err := w.spool.Append(t.Context(), evidence.KindGap, gap.Bytes(), wire.Meta{FirstMS: gap.FirstMS, LastMS: gap.LastMS}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.run(10 * time.Second)
			batch()
		}
		w.setCut(false)
		w.run(2 * time.Minute)
		w.wantDrained(recorded[today])
		dir := filepath.Join(recordings, today)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("site %s\npublic_key %x\nkey %s\nspool %s\nbatches %d\n", siteID, []byte(pub), ident.KeyIDOf(pub), w.spool.ID(), recorded[today])
		for name, content := range map[string][]byte{"stream-1.bin": days[0].Bytes(), "stream-2.bin": days[1].Bytes(), "site.txt": []byte(text)} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
	})
}

// What was recorded is what the protocol promises: a greeting, then groups of batches that make one chain.
func TestRecordingsAreWhole(t *testing.T) {
	for folder, batches := range recorded {
		t.Run(folder, func(t *testing.T) { wantWhole(t, filepath.Join(recordings, folder), batches) })
	}
}

func wantWhole(t *testing.T, dir string, batches int) {
	text, err := os.ReadFile(filepath.Join(dir, "site.txt"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[k] = v
	}
	pub := seedKey("site").Public().(ed25519.PublicKey)
	if said["site"] != siteID.String() || said["public_key"] != hex.EncodeToString(pub) {
		t.Errorf("site.txt says %v", said)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	hashes, prev, samples, gaps, keys, groups := map[uint64]evidence.Hash{}, map[uint64]evidence.Hash{}, 0, 0, 0, 0
	schema := map[string]uint8{today: evidence.Schema}[filepath.Base(dir)]
	for _, name := range []string{"stream-1.bin", "stream-2.bin"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; len(b) > 0; i++ {
			n := binary.BigEndian.Uint32(b)
			m := &telemetryv1.StreamRequest{}
			if err := proto.Unmarshal(b[4:4+n], m); err != nil {
				t.Fatal(err)
			}
			b = b[4+n:]
			if hello := m.GetHello(); (i == 0) != (hello != nil) {
				t.Errorf("%s: message %d is %T", name, i, m.GetMessage())
			} else if hello != nil && (hello.GetProtocol() != 1 || hex.EncodeToString(hello.GetSpoolId()) != strings.ReplaceAll(said["spool"], "-", "")) {
				t.Errorf("%s: hello %v", name, hello)
			}
			group := m.GetBatches().GetBatches()
			if len(group) > 1 {
				groups++
			}
			for _, x := range group {
				h, err := evidence.ParseHeader(x.GetHeader())
				if err != nil {
					t.Fatal(err)
				}
				if err := evidence.VerifyHeader(pub, x.GetHeader(), x.GetSignature()); err != nil {
					t.Error(err)
				}
				if err := h.CheckPayload(x.GetPayload()); err != nil {
					t.Error(err)
				}
				hashes[h.Seq], prev[h.Seq] = h.Hash(), h.Prev
				switch h.Kind {
				case evidence.KindGap:
					gaps++
				case evidence.KindKey:
					keys++
				case evidence.KindSamples:
					s, err := dec.Samples(x.GetPayload())
					if err != nil {
						t.Fatal(err)
					}
					samples += s.Len()
					if want := max(schema, evidence.SchemaFirst); h.Schema != want {
						t.Errorf("batch %d has payload schema %d, want %d", h.Seq, h.Schema, want)
					}
				}
			}
		}
	}
	for seq, p := range prev {
		if seq > 1 && hashes[seq-1] != p {
			t.Errorf("batch %d does not follow batch %d", seq, seq-1)
		}
	}
	if len(hashes) != batches || keys != batches-21 || gaps != 1 || samples != 20*12 || groups == 0 {
		t.Errorf("%d batches, %d gap records, %d samples, %d groups of several", len(hashes), gaps, samples, groups)
	}
}
