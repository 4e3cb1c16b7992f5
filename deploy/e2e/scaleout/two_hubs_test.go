package scaleout

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// Two hub processes share a database. Each serves one of two sites and shows both. One is killed: its site moves to the other, which
// shows it live; nothing is lost, nothing is stored twice, and the other one makes the jobs.
func TestOneOfTwoHubsIsKilled(t *testing.T) {
	db := pgtest.URL(t)
	a, b := startHub(t, db), startHub(t, db)
	key, err := hubd.BootstrapKey(t.Context(), database(db), "dev", false)
	if err != nil {
		t.Fatal(err)
	}
	a.key, b.key = key, key
	north := startSite(t, db, "north", "127.20.0.1", a.Agents+","+b.Agents)
	south := startSite(t, db, "south", "127.20.1.1", b.Agents+","+a.Agents)
	both := func(h *hub) bool { up := h.connected(); return up["north"] && up["south"] }
	await(t, "two sites at both hubs", func() bool { return both(a) && both(b) })
	stored := func() int { return count(t, db, `SELECT count(*) FROM telemetry_hot`) }
	await(t, "samples of both sites", func() bool {
		return count(t, db, `SELECT count(DISTINCT site_id) FROM telemetry_hot`) == 2 && stored() > 100
	})

	a.kill()
	killed := time.Now()
	await(t, "site moved to the other hub", func() bool {
		return count(t, db, `SELECT count(*) FROM agent WHERE connected AND connected_at > $1`, killed) == 1
	})
	t.Logf("the site had a stream at the other hub after %v", time.Since(killed).Round(time.Millisecond))
	wantLive(t, b, "127.20.0.", killed)
	if !both(b) {
		t.Errorf("the other hub shows %v as connected", b.connected())
	}
	before := stored()
	await(t, "further samples", func() bool { return stored() > before+100 })

	north.stop()
	south.stop()
	north.wantEachAnswerOnce(db)
	south.wantEachAnswerOnce(db)
	for _, table := range []string{"dead_letter", "batch_fork", "batch_gap"} {
		if n := count(t, db, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%d rows in %s, want none", n, table)
		}
	}
	// A leader's term is 15 s. The dead hub's ends, and who makes the jobs then is alive.
	await(t, "leader that is alive", func() bool {
		return count(t, db, `SELECT count(*) FROM river.river_leader WHERE expires_at > $1`, killed.Add(20*time.Second)) == 1
	})
}

// wantLive reads the hub's events until one brings what a miner of the site answered after a moment.
func wantLive(t *testing.T, h *hub, prefix string, after time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := h.open(ctx, "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var patch struct{ Rows [][]any }
		if err := json.Unmarshal([]byte(data), &patch); err != nil {
			t.Fatal(err)
		}
		for _, r := range patch.Rows {
			address, _ := r[2].(string) // the columns are the snapshot's
			at, _ := r[8].(float64)
			if strings.HasPrefix(address, prefix) && int64(at) > after.UnixMilli() {
				t.Logf("the other hub's events show the site after %v", time.Since(after).Round(time.Millisecond))
				return
			}
		}
	}
	t.Fatalf("no event of the moved site: %v", lines.Err())
}

func count(t *testing.T, db, sql string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// siteRun is an agent with its miners, in this process.
type siteRun struct {
	t    *testing.T
	site ident.SiteID
	stop func()

	mu      sync.Mutex
	answers []sim.Answer
}

func startSite(t *testing.T, db, name, base, hubs string) *siteRun {
	t.Helper()
	s := &siteRun{t: t}
	fleet, err := sim.New(sim.Config{Miners: 20, Base: netip.MustParseAddr(base), Seed: 3, OnAnswer: func(a sim.Answer) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answers = append(s.answers, a)
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := s.config(db, name, hubs)
	c.MinerDial = fleet.DialContext
	for _, m := range fleet.Miners() {
		c.Miners = append(c.Miners, agentd.Miner{Address: m.Address, Interval: time.Second})
	}
	agent, err := agentd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	stopFleet, stopAgent := s.start(fleet.Run), s.start(agent.Run)
	s.stop = sync.OnceFunc(func() { stopAgent(); stopFleet() }) // the agent sends what it has before it ends
	t.Cleanup(s.stop)
	return s
}

func (s *siteRun) start(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

// config makes a site's keys, registers it, and returns its agent's configuration.
func (s *siteRun) config(db, name, hubs string) agentd.Config {
	t := s.t
	t.Helper()
	tlsKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, evidenceKey, err2 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(tlsKey, evidenceKey)
	if err != nil {
		t.Fatal(err)
	}
	file, err := hubd.RegisterSite(t.Context(), database(db), hubd.SiteOrder{Name: name, Request: request, HubAddress: hubs})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := identity.ParseBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	s.site = bundle.Site
	cert := &tls.Certificate{PrivateKey: tlsKey, Leaf: bundle.Certificate[0]}
	for _, c := range bundle.Certificate {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	client := identity.Client{
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		CA:          func() []*x509.Certificate { return bundle.CA },
	}
	return agentd.Config{
		Dir: t.TempDir(), Site: bundle.Site, EvidenceKey: evidenceKey, Hub: agentd.Direct(bundle.HubAddress), HubTLS: client.TLS(),
		HubKey: func(id ident.KeyID) ed25519.PublicKey {
			for _, k := range bundle.HubEvidence {
				if ident.KeyIDOf(k) == id {
					return k
				}
			}
			return nil
		},
		BatchInterval: time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

// wantEachAnswerOnce compares what the miners answered with what the hubs stored.
func (s *siteRun) wantEachAnswerOnce(db string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), db)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }()
	type answer struct {
		address string
		serial  int64
	}
	stored := map[answer]int{}
	var k answer
	rows, err := conn.Query(s.t.Context(), `SELECT m.address, coalesce(h.best_share, 0) FROM telemetry_hot h JOIN miner m ON m.id = h.miner_id AND m.site_id = h.site_id WHERE h.site_id = $1`, s.site[:])
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := pgx.ForEachRow(rows, []any{&k.address, &k.serial}, func() error { stored[k]++; return nil }); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.answers {
		if n := stored[answer{a.Miner, int64(a.Serial)}]; a.Complete && n != 1 {
			s.t.Errorf("answer %d of %s at %s is stored %d times", a.Serial, a.Miner, a.At, n)
		}
	}
	s.t.Logf("%d answers of site %s, each stored once", len(s.answers), s.site)
}
