package agentd_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/sim"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// site is a fleet in memory and what an agent of its needs.
type site struct {
	t      *testing.T
	config agentd.Config
	fleet  *sim.Fleet

	mu      sync.Mutex
	answers map[string]bool // "address serial" of every complete answer
}

func newSite(t *testing.T, c sim.Config) *site {
	t.Helper()
	s := &site{t: t, answers: map[string]bool{}}
	c.OnAnswer = func(a sim.Answer) {
		if a.Complete {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answers[fmt.Sprintf("%s %d", a.Miner, a.Serial)] = true
		}
	}
	var err error
	if s.fleet, err = sim.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.fleet.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.config = agentd.Config{
		Dir: t.TempDir(), Site: ident.SiteID{1}, EvidenceKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), MinerDial: s.fleet.DialContext,
	}
	for _, m := range s.fleet.Miners() {
		s.config.Miners = append(s.config.Miners, agentd.Miner{Address: m.Address})
	}
	return s
}

// run runs an agent for d and stops it.
func (s *site) run(d time.Duration) {
	s.t.Helper()
	a, err := agentd.New(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	time.Sleep(d)
	if h := a.Health(); h.Status != "ok" || h.Link.State != "none" || h.Miners.Known == 0 {
		s.t.Errorf("health %+v", h)
	}
	cancel()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// stored reads the spool: how often each answer is in it, the ids of each address, and the outcomes.
func (s *site) stored() (answers map[string]int, ids map[string]map[ident.MinerID]bool, outcomes map[telemetry.Outcome]int) {
	s.t.Helper()
	sp, err := spool.Open(context.Background(), spool.Config{
		Dir: agentd.SpoolDir(s.config.Dir), Site: s.config.Site, Key: s.config.EvidenceKey, HubKey: func(ident.KeyID) ed25519.PublicKey { return nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = sp.Close() }()
	dec, err := wire.NewDecoder()
	if err != nil {
		s.t.Fatal(err)
	}
	defer dec.Close()
	answers, ids, outcomes = map[string]int{}, map[string]map[ident.MinerID]bool{}, map[telemetry.Outcome]int{}
	address := map[ident.MinerID]string{}
	for seq := uint64(1); seq <= sp.Stats().NewestSeq; seq++ {
		b, err := sp.Read(spool.Ref{Spool: sp.ID(), Seq: seq})
		if err != nil {
			s.t.Fatal(err)
		}
		if b.Header.Kind != evidence.KindSamples {
			continue
		}
		obs, err := dec.Samples(b.Payload)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, i := range obs.Infos {
			address[i.Miner] = i.Address
		}
		for i := range obs.Len() {
			o := obs.Observation(i)
			outcomes[o.Outcome]++
			at := address[o.Miner]
			if ids[at] == nil {
				ids[at] = map[ident.MinerID]bool{}
			}
			ids[at][o.Miner] = true
			if n, ok := o.BestShare.Get(); ok {
				answers[fmt.Sprintf("%s %d", at, n)]++
			}
		}
	}
	return answers, ids, outcomes
}

func TestEveryAnswerIsStoredOnceOverRestartsAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, sim.Config{Miners: 40, Faulty: 0.25})
		s.run(10 * time.Minute)
		time.Sleep(time.Minute)
		s.run(5 * time.Minute)
		answers, ids, outcomes := s.stored()
		if len(s.answers) < 30*90 {
			t.Fatalf("the fleet gave only %d answers", len(s.answers))
		}
		for a := range s.answers {
			if n := answers[a]; n != 1 {
				t.Errorf("answer %s is stored %d times", a, n)
			}
		}
		for a := range answers {
			if !s.answers[a] {
				t.Errorf("stored answer %s was never given in full", a)
			}
		}
		for a, set := range ids {
			if len(set) != 1 {
				t.Errorf("%s has %d ids over a restart", a, len(set))
			}
		}
		if len(ids) != 40 {
			t.Errorf("%d of 40 miners have samples", len(ids))
		}
		if len(outcomes) < 4 {
			t.Errorf("outcomes %v: the faults left no trace", outcomes)
		}
	})
}

func TestWithoutAHubItPollsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, sim.Config{Miners: 3})
		s.run(time.Minute)
	})
}

func TestWrongConfigurationsAreNamed(t *testing.T) {
	if _, err := agentd.New(agentd.Config{Hub: agentd.Direct("hub:1")}); err == nil || !strings.Contains(err.Error(), "Dir") || !strings.Contains(err.Error(), "HubTLS") {
		t.Errorf("error %v does not name both problems", err)
	}
}

func TestAFailedStartStopsWhatHadStarted(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	c := agentd.Config{
		Dir: t.TempDir(), Site: ident.SiteID{1}, EvidenceKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Listen: strings.TrimPrefix(taken.URL, "http://"),
	}
	for range 2 { // the second start finds the spool released
		a, err := agentd.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "HSI_LISTEN") {
			t.Fatalf("error %v does not say what to do", err)
		}
	}
}

func TestADamagedInventoryStopsTheAgent(t *testing.T) {
	c := agentd.Config{Dir: t.TempDir(), Site: ident.SiteID{1}, EvidenceKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	if err := os.WriteFile(filepath.Join(c.Dir, "inventory.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := agentd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("error %v does not say what to do", err)
	}
}

func TestStatusIsServed(t *testing.T) {
	s := newSite(t, sim.Config{Miners: 2, Instant: true})
	s.config.Listen = "127.0.0.1:0"
	log := &addressLog{found: make(chan string, 1)}
	s.config.Log = log.logger()
	a, err := agentd.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	base := <-log.found
	get := func(path string) string {
		t.Helper()
		r, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		var b strings.Builder
		if _, err := fmt.Fprint(&b, r.StatusCode, " "); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&b, r.Body); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var h agentd.Health
	if err := json.Unmarshal([]byte(strings.TrimPrefix(get("/health"), "200 ")), &h); err != nil || h.Site != s.config.Site.String() || h.Link.State != "none" {
		t.Errorf("health %+v, %v", h, err)
	}
	for _, want := range []string{"hashinsight_agent_polls_total", "hashinsight_agent_spool_pending_batches", "hashinsight_agent_miners"} {
		if !strings.Contains(get("/metrics"), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if got := get("/other"); !strings.HasPrefix(got, "404") {
		t.Errorf("another path answers %.40q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
