package ingest

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// recordings holds what agents of each protocol and payload schema sent; the READMEs say what is in them.
const recordings = "../../../deploy/e2e/testdata"

// recordedSite reads whose streams were recorded.
func recordedSite(t *testing.T, folder string) (s *site, public ed25519.PublicKey) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(recordings, folder, "site.txt"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[k] = v
	}
	s = &site{}
	if s.id, err = ident.ParseSiteID(said["site"]); err != nil {
		t.Fatal(err)
	}
	if s.spool, err = ident.ParseSpoolID(said["spool"]); err != nil {
		t.Fatal(err)
	}
	if public, err = hex.DecodeString(said["public_key"]); err != nil || len(public) != ed25519.PublicKeySize {
		t.Fatalf("site.txt: public key %q: %v", said["public_key"], err)
	}
	return s, public
}

// recordedStream reads the messages of one stream, the Hello first.
func recordedStream(t *testing.T, folder, name string) []*telemetryv1.StreamRequest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recordings, folder, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []*telemetryv1.StreamRequest
	for len(b) > 0 {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			t.Fatalf("%s ends within a message", name)
		}
		end := 4 + int(binary.BigEndian.Uint32(b))
		m := &telemetryv1.StreamRequest{}
		if err := proto.Unmarshal(b[4:end], m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, b = append(out, m), b[end:]
	}
	return out
}

// An agent of protocol 1 is understood for as long as there is one: its bytes as they were recorded are stored once, however often they come.
func TestRecordedStreamsOfProtocol1AreStoredOnce(t *testing.T) {
	for folder, batches := range map[string]int64{
		"protocol-v1":          21,
		"protocol-v1-schema-2": 22, // packed columns, and the key as the first batch
	} {
		t.Run(folder, func(t *testing.T) { playTwice(t, folder, batches) })
	}
}

func playTwice(t *testing.T, folder string, batches int64) {
	now := time.Date(2026, 11, 23, 12, 10, 0, 0, time.UTC) // the recorded samples are some minutes old then
	h := newHubAt(t, pgtest.New(t), func() time.Time { return now }, nil)
	s, public := recordedSite(t, folder)
	// The certificate is judged by the real clock in the handshake and by the hub's afterwards.
	s.cert = h.ca.issueLasting(t, identity.SiteURI(s.id), false, max(0, time.Until(now))+time.Hour)
	h.register(t, s, "recorded", public)
	for round := range 2 {
		for _, name := range []string{"stream-1.bin", "stream-2.bin"} {
			messages := recordedStream(t, folder, name)
			l, err := h.dialWith(t, s, messages[0])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var sent []*telemetryv1.Batch
			for _, m := range messages[1:] {
				if err := l.stream.Send(m); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				sent = append(sent, m.GetBatches().GetBatches()...)
			}
			l.wantAcks(stored, sent...)
			l.close()
		}
		t.Run(fmt.Sprintf("played %d times", round+1), func(t *testing.T) {
			h.want(t, "batches", ledger, batches, s.id[:])
			// Links between transactions that ran at once are judged after the answer.
			waitFor(t, "links", func() bool { return h.count(t, linksOK, s.id[:]) == batches })
			h.want(t, "quarantine and forks", `SELECT (SELECT count(*) FROM dead_letter) + (SELECT count(*) FROM batch_fork)`, 0)
			h.want(t, "totals", `SELECT batches * 1000 + samples FROM batch_total WHERE site_id = $1 AND spool_id = $2`, batches*1000+240, s.id[:], s.spool[:])
			h.want(t, "hot rows", rowsOf, 240, s.id[:])
			h.want(t, "polls that timed out", `SELECT count(*) FROM telemetry_hot WHERE site_id = $1 AND outcome <> 1`, 20, s.id[:])
			h.want(t, "serial numbers", serials, 20, s.id[:])
			h.want(t, "full readings", `SELECT count(*) FROM telemetry_hot WHERE site_id = $1 AND hashrate_mhs BETWEEN 100000000 AND 104000000
				AND power_dw BETWEEN 32000 AND 32500 AND fan4_rpm >= 5000 AND temp_chip_dc >= 720 AND detail IS NOT NULL`, 200, s.id[:])
			h.want(t, "described miners", `SELECT count(*) FROM miner WHERE site_id = $1 AND model = 'Antminer S19'`, 12, s.id[:])
			h.want(t, "latest polls", `SELECT count(*) FROM miner_latest WHERE site_id = $1`, 12, s.id[:])
			h.want(t, "gap records", `SELECT count(*) FROM batch_gap WHERE site_id = $1 AND first_seq = 3 AND last_seq = 9 AND samples = 84 AND gap_spool = $2`, 1, s.id[:], s.spool[:])
		})
	}
	if n := h.metric(t, "hashinsight_ingest_batches_total", "duplicate"); n != float64(batches) {
		t.Errorf("%g batches known again, want %d", n, batches)
	}
}
