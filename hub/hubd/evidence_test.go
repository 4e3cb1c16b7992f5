package hubd_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/archive/s3test"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// agentStream sends batches of one miner, and waits for the acknowledgement of each.
type agentStream struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse]
	site   ident.SiteID
	spool  ident.SpoolID
	miner  ident.MinerID
	key    ed25519.PrivateKey
	enc    *wire.Encoder
	last   evidence.Header
}

func newAgentStream(t *testing.T, c hubd.Config, addr string) *agentStream {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg, bundle := siteWith(t, c, "north", addr, private)
	s := &agentStream{t: t, site: bundle.Site, spool: ident.NewSpoolID(), miner: ident.NewMinerID(), key: private}
	s.last.Key = ident.KeyIDOf(public)
	if s.enc, err = wire.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	s.open(cfg, addr)
	return s
}

func (s *agentStream) open(cfg *tls.Config, addr string) {
	s.t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if s.stream, err = telemetryv1.NewTelemetryServiceClient(conn).Stream(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{
		Protocol: 1, SpoolId: s.spool[:], AgentVersion: "test", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000,
	}}})
}

func (s *agentStream) send(r *telemetryv1.StreamRequest) {
	s.t.Helper()
	if err := s.stream.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

// batch sends a poll made at a time and returns how long its acknowledgement took.
func (s *agentStream) batch(at time.Time) time.Duration {
	s.t.Helper()
	payload, meta, err := s.enc.Samples([]telemetry.Observation{{Miner: s.miner, At: at, Outcome: telemetry.OutcomeOK}}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	h := evidence.Header{
		Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: s.site, Key: s.last.Key, Spool: s.spool, Seq: s.last.Seq + 1,
		PayloadLen: uint32(len(payload)), Payload: sha256.Sum256(payload), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	if h.Seq > 1 {
		h.Prev = s.last.Hash()
	}
	s.last = h
	began := time.Now()
	s.send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{
		{Header: h.Bytes(), Signature: evidence.SignHeader(s.key, h.Bytes()), Payload: payload},
	}}}})
	for {
		r, err := s.stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if a := r.GetAck(); a.GetSeq() == h.Seq {
			return time.Since(began)
		}
		if f := r.GetRefusal(); f != nil {
			s.t.Fatalf("batch %d was refused: %v", h.Seq, f)
		}
	}
}

// One hub takes telemetry, another one does the jobs, and the S3 server that keeps evidence is away: the job tries again, later each time, and is seen to fail; agents
// notice nothing. When the server is back, the next try moves everything, and the evidence is read back from there.
func TestAnEvidenceStoreThatIsAwayDisturbsNobody(t *testing.T) {
	store := s3test.Start(t, "evidence")
	store.Stop()
	c := config(pgtest.URL(t))
	c.Modules = []string{"ingest"}
	taking := start(t, c)
	awaitReady(t, taking)
	agent := newAgentStream(t, c, taking.GRPCAddr().String())
	hour := time.Now().UTC().Truncate(time.Hour).Add(-6 * time.Hour)
	const old = 10
	for i := range old {
		agent.batch(hour.Add(time.Duration(i) * time.Minute))
	}
	conn, err := pgx.Connect(t.Context(), c.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), `DELETE FROM block_dirty`); err != nil { // as the job that seals does, within a minute
		t.Fatal(err)
	}

	working := config(c.DatabaseURL)
	working.Modules = []string{"jobs"}
	working.Evidence = hubd.Evidence{URL: store.URL("evidence"), AccessKeyID: store.AccessKeyID, SecretAccessKey: store.SecretAccessKey}
	jobs := start(t, working)
	awaitReady(t, jobs)
	var slowest time.Duration
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !ok(); {
			if time.Now().After(end) {
				t.Fatalf("no %s", what)
			}
			slowest = max(slowest, agent.batch(time.Now()))
			<-time.After(100 * time.Millisecond)
		}
	}
	metrics := func() string {
		_, _, text := get(t, http.DefaultClient, "http://"+jobs.MetricsAddr().String()+"/metrics", "")
		return text
	}
	until("second failed try", func() bool {
		m := metrics()
		return strings.Contains(m, `hashinsight_archive_failures_total{at="store"} 2`) && strings.Contains(m, `hashinsight_job_runs_total{kind="archive",outcome="failed"} 2`)
	})
	until("third try that is due later than the second was", func() bool { // the row follows the metric
		waiting, err := hubd.Jobs(t.Context(), c.Database, []string{"retryable"}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range waiting {
			if j.Kind != "archive" || time.Until(j.DueAt) < 5*time.Second {
				continue
			}
			if !strings.Contains(j.LastError, "s3://evidence/") || strings.Contains(j.LastError, store.SecretAccessKey) || strings.Contains(j.LastError, store.AccessKeyID) {
				t.Errorf("the list of jobs says %s", j.LastError)
			}
			return true
		}
		return false
	})
	store.Restart()
	until("payload in the store", func() bool {
		var left int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM batch WHERE payload IS NOT NULL AND first_at < $1`, hour.Add(time.Hour)).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
	if slowest > 2*time.Second {
		t.Errorf("an acknowledgement took %s", slowest)
	}
	var out bytes.Buffer
	tail, err := hubd.ExportEvidence(t.Context(), working.Database, working.Evidence, hubd.EvidenceHour{Site: agent.site, From: hour}, false, &out)
	if err != nil || tail.Batches != old || tail.Missing != 0 || strings.Count(out.String(), `"where":"archive"`) != old {
		t.Errorf("exported are %+v, %v", tail, err)
	}
	t.Logf("%d batches acknowledged meanwhile, the slowest within %s", agent.last.Seq-old, slowest)
}
