package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// PostgreSQL is started outside of every bubble.
func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	slot         = 5 * time.Minute
	pollInterval = slot // one poll of every miner in every slot
	secret       = "a world in virtual time keeps its secrets for an hour"
)

// world is miners, an agent, a hub and PostgreSQL in virtual time. Only PostgreSQL is reached over a real socket, and nothing
// waits on that without a query under way.
type world struct {
	t       *testing.T
	url     string
	fleet   *sim.Fleet
	link    *link
	links   []*link // of all sites, w.link among them
	web     *bufconn.Listener
	db      hubd.Database
	block   func() evidence.Beacon // that the hub tells agents; nil: no chain
	keep    hubd.Evidence          // where the hub moves evidence; zero: nowhere
	log     string                 // directory of the transparency log; empty: it keeps none
	agent   agentd.Config
	stops   []func() // in order of start; the hub is apart
	stopHub func()
	metrics *prometheus.Registry // of the hub that was started last

	mu      sync.Mutex
	answers []sim.Answer
}

// link is the way from the agent to the hub, which can be cut.
type link struct {
	mu       sync.Mutex
	hub      *bufconn.Listener // of the hub that runs now
	cut      bool
	up, down gate // messages to the hub and from it
	conns    []net.Conn
}

func (l *link) dial(ctx context.Context, _ string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("link cut")
	}
	inner, err := l.hub.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &gatedConn{Conn: inner, link: l, closed: make(chan struct{})}
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for _, c := range l.conns {
		_ = c.Close() // an end that is closed already is as good
	}
	l.conns = nil
}

// newWorld starts everything. It is called inside of the bubble; url names a database made outside.
func newWorld(t *testing.T, url string, c sim.Config, change ...func(*agentd.Config)) *world {
	t.Helper()
	w := newHubWorld(t, url)
	c.OnAnswer = func(a sim.Answer) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answers = append(w.answers, a)
	}
	var err error
	if w.fleet, err = sim.New(c); err != nil {
		t.Fatal(err)
	}
	w.link = &link{}
	agent := w.site("world", w.fleet, w.link)
	for _, f := range change {
		f(&agent)
	}
	w.agent = agent
	w.stops = append(w.stops, w.start("fleet", w.fleet.Run))
	w.startHub()
	w.stops = append(w.stops, w.startAgent())
	return w
}

// newHubWorld is a world without sites whose hub has not been started yet.
func newHubWorld(t *testing.T, url string) *world {
	w := &world{t: t, url: url}
	w.db = hubd.Database{DatabaseURL: url, EncryptionPassword: secret, PoolSize: 1, PoolOverflow: 4, Now: time.Now} // by virtual time alone
	w.db.Log = w.logOf("hub")
	return w
}

func (w *world) logOf(side string) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})).With("side", side)
}

func (w *world) startAgent() (stop func()) {
	w.t.Helper()
	a, err := agentd.New(w.agent)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.start("agent", a.Run)
}

// startHub starts a hub on w.url; the agent finds it at its next attempt.
func (w *world) startHub() {
	w.t.Helper()
	listener := bufconn.Listen(1 << 20)
	w.db.DatabaseURL, w.metrics = w.url, prometheus.NewRegistry()
	w.web = bufconn.Listen(64 << 10)
	hub, err := hubd.New(w.t.Context(), hubd.Config{
		Database: w.db, Env: "dev", Evidence: w.keep, Transparency: hubd.Transparency{Dir: w.log}, SessionSecret: secret,
		HubAddress: "hub:5443", WebListener: w.web, GRPCListener: listener, Beacon: w.block, AccessLog: slog.New(slog.DiscardHandler), Registry: w.metrics,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range w.links {
		l.mu.Lock()
		l.hub = listener
		l.mu.Unlock()
	}
	w.stopHub = w.start("hub", hub.Run)
}

// start runs a part and returns what stops it, once. What a test that failed has left running is stopped at its end: a bubble waits for all.
func (w *world) start(name string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// stop stops agent, hub and fleet, in this order: the agent drains first.
func (w *world) stop() {
	for i, stop := range slices.Backward(w.stops) {
		stop()
		if i == len(w.stops)-1 {
			w.stopHub()
		}
	}
}

// site makes a site's keys, registers it as an operator would, and returns its agent's configuration. The hub is started later.
func (w *world) site(name string, fleet *sim.Fleet, link *link) agentd.Config {
	w.links = append(w.links, link)
	t := w.t
	t.Helper()
	tlsKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, evidenceKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(tlsKey, evidenceKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hubd.RegisterSite(t.Context(), w.db, hubd.SiteOrder{Name: name, Request: request, HubAddress: "hub:5443"})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := identity.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: tlsKey, Leaf: bundle.Certificate[0]}
	for _, c := range bundle.Certificate {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	client := identity.Client{
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		CA:          func() []*x509.Certificate { return bundle.CA },
	}
	c := agentd.Config{
		Dir: t.TempDir(), Site: bundle.Site, EvidenceKey: evidenceKey, Hub: agentd.Direct(bundle.HubAddress), HubTLS: client.TLS(),
		HubKey: func(id ident.KeyID) ed25519.PublicKey {
			for _, k := range bundle.HubEvidence {
				if ident.KeyIDOf(k) == id {
					return k
				}
			}
			return nil
		},
		MinerDial: fleet.DialContext, HubDial: link.dial, BatchInterval: 5 * time.Second, Log: w.logOf("agent"),
	}
	for _, m := range fleet.Miners() {
		c.Miners = append(c.Miners, agentd.Miner{Address: m.Address, Interval: pollInterval})
	}
	return c
}

// answered returns what the miners have answered so far.
func (w *world) answered() []sim.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answers)
}

// forgetAnswersBefore leaves only later answers to be looked for.
func (w *world) forgetAnswersBefore(from time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = slices.DeleteFunc(w.answers, func(a sim.Answer) bool { return a.At.Before(from) })
}

// query runs one query on a connection of its own and calls row for each row.
func (w *world) query(sql string, scan []any, row func()) {
	w.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := pgx.ForEachRow(rows, scan, func() error { row(); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) count(sql string) (n int) {
	w.t.Helper()
	w.query(sql, []any{&n}, func() {})
	return n
}

// wantEverySlotOnceSince is wantEverySlotOnce for hot samples that have older ones beside them.
func (w *world) wantEverySlotOnceSince(from, to time.Time) {
	w.t.Helper()
	w.wantSlots(from, to, from)
}

// wantEverySlotOnce checks the hub's database against what the miners say they answered: every answer once, and every whole
// slot of every miner with exactly one sample.
func (w *world) wantEverySlotOnce(from, to time.Time) {
	w.t.Helper()
	w.wantSlots(from, to, time.Time{})
}

// wantSlots passes over samples before since.
func (w *world) wantSlots(from, to, since time.Time) {
	t := w.t
	t.Helper()
	type key struct {
		address string
		serial  int64
	}
	stored := map[key]int{}
	slots := map[string]map[int64]int{}
	var k key
	var at time.Time
	w.query(`SELECT m.address, coalesce(h.best_share, 0), h.ts FROM telemetry_hot h JOIN miner m ON m.id = h.miner_id`,
		[]any{&k.address, &k.serial, &at}, func() {
			if at.Before(since) {
				return
			}
			stored[k]++
			if slots[k.address] == nil {
				slots[k.address] = map[int64]int{}
			}
			slots[k.address][at.Unix()/int64(slot.Seconds())]++
		})
	answers := w.answered()
	for _, a := range answers {
		if n := stored[key{a.Miner, int64(a.Serial)}]; n != 1 {
			t.Errorf("answer %d of %s at %s is stored %d times", a.Serial, a.Miner, a.At, n)
		}
		delete(stored, key{a.Miner, int64(a.Serial)})
	}
	for k, n := range stored {
		if k.serial != 0 {
			t.Errorf("%s: answer %d is stored %d times and was never given", k.address, k.serial, n)
		}
	}
	first, last := from.Unix()/int64(slot.Seconds())+1, to.Unix()/int64(slot.Seconds())-1
	for _, m := range w.fleet.Miners() {
		for s := first; s <= last; s++ {
			if n := slots[m.Address][s]; n != 1 {
				t.Errorf("%s: slot at %s has %d samples, want 1", m.Address, time.Unix(s*int64(slot.Seconds()), 0).UTC(), n)
			}
		}
	}
	t.Logf("%d answers, each stored once; %d slots of %d miners", len(answers), last-first+1, len(w.fleet.Miners()))
}

// wantNoTrouble checks that nothing was refused, forked, dropped or out of order.
func (w *world) wantNoTrouble() {
	w.t.Helper()
	if n := w.count(`SELECT count(*) FROM batch WHERE link_state <> 1`); n != 0 {
		w.t.Errorf("%d batches without a checked link to the one before", n)
	}
	for _, table := range []string{"dead_letter", "batch_fork", "batch_gap"} {
		if n := w.count(`SELECT count(*) FROM ` + table); n != 0 {
			w.t.Errorf("%d rows in %s, want none", n, table)
		}
	}
}

// counter reads one of the hub's counters, by the value of its only label.
func (w *world) counter(name, label string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestEighteenHourCutLosesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, url, sim.Config{Miners: 40, Seed: 7})
		begin := time.Now()
		time.Sleep(3 * time.Hour)
		connected := w.count(`SELECT count(*) FROM telemetry_hot`)

		w.link.set(true)
		time.Sleep(18 * time.Hour)
		during := w.count(`SELECT count(*) FROM telemetry_hot`)
		if connected < 3*11*40 || during > connected+40 {
			t.Errorf("%d samples before the cut and %d at its end: the link was not up or not cut", connected, during)
		}

		w.link.set(false)
		// The newest data is there again long before the backlog could be: within the longest pause of reconnecting and two polls.
		time.Sleep(time.Minute + 2*pollInterval)
		if late := w.count(`SELECT count(*) FROM miner_latest WHERE at < (SELECT max(at) FROM miner_latest) - interval '10 minutes'`); late != 0 {
			t.Errorf("%d miners are still shown with an old value after the link is back", late)
		}
		time.Sleep(4*time.Hour - time.Minute - 2*pollInterval)
		end := time.Now()
		w.stop()

		w.wantEverySlotOnce(begin, end)
		w.wantNoTrouble()
	})
}

// testWriter passes a program's log to the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

var _ io.Writer = testWriter{}
