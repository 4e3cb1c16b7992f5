package uplink

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

var siteID = ident.SiteID{7, 7, 7}

func seedKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

// authority is a CA for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = issue(t, nil, nil)
	return a
}

// issue makes a certificate for name that is valid from an hour ago for a year; without a parent it is a CA.
func issue(t *testing.T, name *url.URL, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	signer, by := key, tmpl
	if parent == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage, tmpl.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	} else {
		tmpl.URIs = []*url.URL{name}
		signer, by = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) leaf(t *testing.T, name *url.URL) *tls.Certificate {
	t.Helper()
	cert, key := issue(t, name, a)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// hub behaves as the protocol says: it checks, stores and acknowledges. A test changes single steps of it.
type hub struct {
	telemetryv1.UnimplementedTelemetryServiceServer
	t       *testing.T
	key     ed25519.PrivateKey
	credit  *telemetryv1.Credit
	welcome func(*telemetryv1.Welcome)
	admit   func() error                                                // before anything else
	answer  func(telemetryv1.TelemetryService_StreamServer, batch) bool // true when it has dealt with the batch
	got     func(evidence.Header) time.Time                             // when it got a batch, as it says; nil: now

	lis *bufconn.Listener
	mu  sync.Mutex
	// what arrived, in order, and how often each batch did
	order  []uint64
	seen   map[spool.Ref]int
	acked  map[spool.Ref]bool
	after  int  // batches that arrived although they had been acknowledged
	forged bool // acknowledgements are signed by someone else
	hellos int
	hello  *telemetryv1.Hello // the latest
	// asked for after the next welcome
	replays []*telemetryv1.Replay
	tape    *bytes.Buffer // see record; nil keeps nothing
}

type batch struct {
	header evidence.Header
	group  int // batches in the message it came in
}

func (h *hub) Stream(s telemetryv1.TelemetryService_StreamServer) error {
	if h.admit != nil {
		if err := h.admit(); err != nil {
			return err
		}
	}
	msg0, err := s.Recv()
	if err != nil {
		return err
	}
	if msg0.GetHello() == nil {
		return errors.New("no hello")
	}
	h.keep(msg0)
	h.mu.Lock()
	h.hellos++
	h.hello = msg0.GetHello()
	h.mu.Unlock()
	id := ident.KeyIDOf(h.key.Public().(ed25519.PublicKey))
	w := &telemetryv1.Welcome{Protocol: 1, HubKeyId: id[:], HubTimeMs: time.Now().UnixMilli(), Credit: h.credit}
	if h.welcome != nil {
		h.welcome(w)
	}
	if err := s.Send(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Welcome{Welcome: w}}); err != nil {
		return err
	}
	h.mu.Lock()
	asks := h.replays
	h.replays = nil
	h.mu.Unlock()
	for _, r := range asks {
		if err := s.Send(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Replay{Replay: r}}); err != nil {
			return err
		}
	}
	for {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.keep(msg)
		group := msg.GetBatches().GetBatches()
		for _, b := range group {
			hd, err := evidence.ParseHeader(b.GetHeader())
			if err == nil {
				err = errors.Join(evidence.VerifyHeader(seedKey("site").Public().(ed25519.PublicKey), b.GetHeader(), b.GetSignature()), hd.CheckPayload(b.GetPayload()))
			}
			if err != nil {
				h.t.Errorf("batch that arrived: %v", err)
				return err
			}
			ref := spool.Ref{Spool: hd.Spool, Seq: hd.Seq}
			if id := msg0.GetHello().GetSpoolId(); string(id) != string(hd.Spool[:]) {
				h.t.Errorf("batch of spool %s on a stream of spool %x", hd.Spool, id)
			}
			h.mu.Lock()
			h.order = append(h.order, hd.Seq)
			h.seen[ref]++
			if h.acked[ref] {
				h.after++
			}
			h.mu.Unlock()
			if h.answer != nil && h.answer(s, batch{hd, len(group)}) {
				continue
			}
			if err := h.ack(s, hd); err != nil {
				return err
			}
		}
	}
}

// ack says that a batch is committed.
func (h *hub) ack(s telemetryv1.TelemetryService_StreamServer, hd evidence.Header) error {
	at := time.Now()
	if h.got != nil {
		at = h.got(hd)
	}
	a := evidence.Ack{Site: hd.Site, Spool: hd.Spool, Seq: hd.Seq, HeaderHash: hd.Hash(), HubMS: at.UnixMilli()}
	id := ident.KeyIDOf(h.key.Public().(ed25519.PublicKey))
	key := h.key
	h.mu.Lock()
	if h.forged {
		key = seedKey("mallory")
	} else {
		h.acked[spool.Ref{Spool: hd.Spool, Seq: hd.Seq}] = true
	}
	h.mu.Unlock()
	return s.Send(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Ack{Ack: &telemetryv1.Ack{
		SpoolId: a.Spool[:], Seq: a.Seq, HeaderHash: a.HeaderHash[:], HubTimeMs: a.HubMS, HubKeyId: id[:], Signature: a.Sign(key),
		Disposition: telemetryv1.Disposition_DISPOSITION_STORED,
	}}})
}

func (h *hub) refuse(s telemetryv1.TelemetryService_StreamServer, hd evidence.Header, reason telemetryv1.RefusalReason, again time.Duration) {
	hash := hd.Hash()
	_ = s.Send(&telemetryv1.StreamResponse{Message: &telemetryv1.StreamResponse_Refusal{Refusal: &telemetryv1.Refusal{
		SpoolId: hd.Spool[:], Seq: hd.Seq, HeaderHash: hash[:], Reason: reason, Text: "as the test wants", RetryAfterMs: uint32(again.Milliseconds()),
	}}})
}

func (h *hub) forge(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forged = on
}

func (h *hub) streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hellos
}

func (h *hub) arrived() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]uint64(nil), h.order...)
}

// world is a spool, an uplink and a hub with TLS over memory connections, inside a synctest bubble.
type world struct {
	t        *testing.T
	hub      *hub
	ca       *authority
	spool    *spool.Spool
	spoolCfg spool.Config
	cfg      Config
	up       *Uplink
	reg      *prometheus.Registry

	mu    sync.Mutex
	cut   bool // dials fail
	conns []*link
	dials []time.Time
	stop  func()
}

// link is one connection; once dark it swallows everything, as a cable that was pulled does.
type link struct {
	net.Conn
	mu   sync.Mutex
	dark bool
}

func (l *link) isDark() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dark
}

func (l *link) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err != nil || !l.isDark() {
			return n, err
		}
	}
}

func (l *link) Write(b []byte) (int, error) {
	if l.isDark() {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ca: newAuthority(t), reg: prometheus.NewRegistry()}
	w.hub = &hub{
		t: t, key: seedKey("hub"), seen: map[spool.Ref]int{}, acked: map[spool.Ref]bool{}, lis: bufconn.Listen(1 << 20),
		credit: &telemetryv1.Credit{Batches: 1000, Bytes: 64 << 20},
	}
	hubPub := w.hub.key.Public().(ed25519.PublicKey)
	beacon := &Beacon{}
	w.spoolCfg = spool.Config{
		Dir: t.TempDir(), Site: siteID, Key: seedKey("site"), Beacon: beacon.Load, Registerer: w.reg, SegmentBytes: 1 << 20,
		HubKey: func(id ident.KeyID) ed25519.PublicKey {
			if id == ident.KeyIDOf(hubPub) {
				return hubPub
			}
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
	sp, err := spool.Open(t.Context(), w.spoolCfg)
	if err != nil {
		t.Fatal(err)
	}
	w.spool = sp
	site := w.ca.leaf(t, identity.SiteURI(siteID))
	w.cfg = Config{
		Spool: sp, Addresses: func() []string { return []string{"hub.test:7443"} }, Version: "test", PollInterval: 10 * time.Second, Beacon: beacon, Registerer: w.reg,
		Log: slog.New(slog.DiscardHandler),
		TLS: identity.Client{
			Certificate: func() (*tls.Certificate, error) { return site, nil },
			CA:          func() []*x509.Certificate { return []*x509.Certificate{w.ca.cert} },
		}.TLS(),
		DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.dials = append(w.dials, time.Now())
			if w.cut {
				return nil, errors.New("network is unreachable")
			}
			c, err := w.hub.lis.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			l := &link{Conn: c}
			w.conns = append(w.conns, l)
			return l, nil
		},
	}
	return w
}

// start runs hub and uplink until the test ends.
func (w *world) start() {
	w.t.Helper()
	cert := w.ca.leaf(w.t, identity.HubURI())
	clients := x509.NewCertPool()
	clients.AddCert(w.ca.cert)
	srv := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		})),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(wire.MaxPayload+1<<20),
	)
	telemetryv1.RegisterTelemetryServiceServer(srv, w.hub)
	var err error
	if w.up, err = New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(w.hub.lis) })
	wg.Go(func() {
		if err := w.up.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.stop = func() {
		cancel()
		w.dark(false) // let blocked reads end
		srv.Stop()
		wg.Wait()
		_ = w.spool.Close()
	}
}

// dark makes every present connection swallow what is sent (or closes them).
func (w *world) dark(swallow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.conns {
		if !swallow {
			_ = l.Close()
			continue
		}
		l.mu.Lock()
		l.dark = true
		l.mu.Unlock()
	}
}

func (w *world) setCut(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
	if cut {
		w.dark(false)
	}
}

func (w *world) dialTimes() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.dials...)
}

func (w *world) append(n, size int) {
	w.t.Helper()
	for range n {
		ms := time.Now().UnixMilli()
		payload := make([]byte, size)
		_, _ = rand.Read(payload)
		if _, err := w.spool.Append(context.Background(), evidence.KindSamples, payload, wire.Meta{Miners: 1, Samples: 1, FirstMS: ms, LastMS: ms}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// run lets virtual time pass.
func (w *world) run(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) wantDrained(n int) {
	w.t.Helper()
	if p := w.spool.Stats().Pending; p != 0 {
		w.t.Fatalf("%d batches still pending", p)
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if len(w.hub.acked) != n {
		w.t.Errorf("the hub has %d batches, want %d", len(w.hub.acked), n)
	}
	if w.hub.after != 0 {
		w.t.Errorf("%d batches were sent after their acknowledgement", w.hub.after)
	}
}

// counter reads one value of the registry; labels are "name", "value" pairs.
func (w *world) counter(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				if !found {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

// inBubble runs a story in virtual time.
func inBubble(t *testing.T, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() {
			if w.stop != nil {
				w.stop()
			}
		}()
		story(w)
	})
}
