//go:build linux

package ingest

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// senderVariable names the file of a senderSetup. A test process with it is the sending side of a measurement, so that the hub's process holds
// nothing but the hub.
const senderVariable = "HSI_TEST_SENDER"

// senderSetup is what an agent knows of itself and its hub.
type senderSetup struct {
	Address       string
	CA, Cert, Key []byte // DER
	Site          ident.SiteID
	Spool         ident.SpoolID
	HubKey        ed25519.PublicKey
}

// setupOf is the setup of a site's agent for a hub that listens at address.
func setupOf(t *testing.T, h *hub, s *site, address string) senderSetup {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(s.cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return senderSetup{Address: address, CA: h.ca.cert.Raw, Cert: s.cert.Certificate[0], Key: key, Site: s.id, Spool: s.spool, HubKey: h.public}
}

// sender is an agent's end of an open stream.
type sender struct {
	setup  senderSetup
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[telemetryv1.StreamRequest, telemetryv1.StreamResponse]
}

func dialSender(ctx context.Context, setup senderSetup) (*sender, error) {
	ca, err := x509.ParseCertificate(setup.CA)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(setup.Key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	conn, err := grpc.NewClient("passthrough:///"+setup.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{setup.Cert}, PrivateKey: key}}, RootCAs: pool, ServerName: "hub", MinVersion: tls.VersionTLS13,
	})))
	if err != nil {
		return nil, err
	}
	s := &sender{setup: setup, conn: conn}
	if err := s.hello(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func (s *sender) hello(ctx context.Context) error {
	var err error
	if s.stream, err = telemetryv1.NewTelemetryServiceClient(s.conn).Stream(ctx); err != nil {
		return err
	}
	_ = s.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{ // Recv tells why
		Protocol: 1, SpoolId: s.setup.Spool[:], AgentVersion: "bench", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 10_000,
	}}})
	r, err := s.stream.Recv()
	if err == nil && r.GetWelcome() == nil {
		err = fmt.Errorf("first message is %v, want a Welcome", r)
	}
	return err
}

func (s *sender) send(batches ...*telemetryv1.Batch) error {
	return s.stream.Send(&telemetryv1.StreamRequest{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: batches}}})
}

// ack returns the sequence number of the next batch that the hub has stored, its acknowledgement verified as an agent does.
func (s *sender) ack() (uint64, error) {
	for {
		r, err := s.stream.Recv()
		if err != nil {
			return 0, err
		}
		if r.GetCredit() != nil {
			continue
		}
		a := r.GetAck()
		if a.GetDisposition() != stored {
			return 0, fmt.Errorf("answer %v, want an acknowledgement", r)
		}
		ack := evidence.Ack{Site: s.setup.Site, Spool: ident.SpoolID(a.GetSpoolId()), Seq: a.GetSeq(), HeaderHash: evidence.Hash(a.GetHeaderHash()), HubMS: a.GetHubTimeMs()}
		return a.GetSeq(), ack.Verify(s.setup.HubKey, a.GetSignature())
	}
}

// sent is what a sender reports of one file of batches.
type sent struct {
	Seconds float64 // from the first batch's sending to the last one's acknowledgement
	CPU     float64 // of the sender's process in that time, in seconds
}

// sendAll sends batches as fast as the hub takes them and returns when the last is acknowledged.
func (s *sender) sendAll(batches []*telemetryv1.Batch) (sent, error) {
	begin, cpu := time.Now(), processCPU()
	var sending sync.WaitGroup
	sending.Go(func() {
		for _, b := range batches {
			if s.send(b) != nil {
				return // Recv tells why
			}
		}
	})
	defer sending.Wait()
	for range batches {
		if _, err := s.ack(); err != nil {
			return sent{}, err
		}
	}
	return sent{time.Since(begin).Seconds(), processCPU() - cpu}, nil
}

// runSender is the sender's process: for each line of its input, the name of a file with a BatchGroup, it says when it has read the file, waits for
// another line, sends, and reports.
func runSender(t *testing.T) {
	var setup senderSetup
	b, err := os.ReadFile(os.Getenv(senderVariable))
	if err == nil {
		err = json.Unmarshal(b, &setup)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := dialSender(t.Context(), setup)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.conn.Close() }() // nothing is left to lose
	reports := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		b, err := os.ReadFile(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		var group telemetryv1.BatchGroup
		if err := proto.Unmarshal(b, &group); err != nil {
			t.Fatal(err)
		}
		if err := reports.Encode(sent{}); err != nil || !lines.Scan() {
			t.Fatalf("told to send nothing: %v", err)
		}
		result, err := s.sendAll(group.GetBatches())
		if err != nil {
			t.Fatal(err)
		}
		if err := reports.Encode(result); err != nil {
			t.Fatal(err)
		}
	}
}

// remote is a sender in a process of its own.
type remote struct {
	t       *testing.T
	in      io.Writer
	reports *json.Decoder
}

// startSender starts a sender; it ends with the test.
func startSender(t *testing.T, setup senderSetup) *remote {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "sender.json")
	b, err := json.Marshal(setup)
	must(err)
	must(os.WriteFile(file, b, 0o600))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestBenchIngest$")
	cmd.Env, cmd.Stderr = append(os.Environ(), senderVariable+"="+file), os.Stderr
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // its end of input is the sender's end
		if err := cmd.Wait(); err != nil {
			t.Errorf("sender: %v", err)
		}
	})
	return &remote{t, in, json.NewDecoder(out)}
}

// report writes a line and reads what the sender answers.
func (r *remote) report(line string) (result sent) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, line+"\n"); err != nil {
		r.t.Fatal(err)
	}
	if err := r.reports.Decode(&result); err != nil {
		r.t.Fatalf("the sender's report: %v", err)
	}
	return result
}

// processCPU is the CPU time of this process, in seconds.
func processCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only for arguments that are none
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
