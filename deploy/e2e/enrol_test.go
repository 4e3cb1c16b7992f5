package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/bench"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// joining is a world whose agent has joined with a token and keeps its own identity.
type joining struct {
	*world
	dir string
}

// newJoining replaces the agent that was registered by hand with one that joins as the site "north".
func newJoining(t *testing.T, url string) *joining {
	t.Helper()
	w := newWorld(t, url, sim.Config{Miners: 3, Seed: 4})
	w.stops[len(w.stops)-1]() // by hand, no longer needed
	w.stops = w.stops[:len(w.stops)-1]
	j := &joining{w, filepath.Join(t.TempDir(), "identity")}
	j.join(hubd.NewToken{SiteName: "north"})
	by := w.agent
	w.agent = agentd.Config{
		Dir: t.TempDir(), IdentityDir: j.dir, MinerDial: by.MinerDial, HubDial: by.HubDial, Miners: by.Miners, BatchInterval: by.BatchInterval, Log: by.Log,
	}
	w.stops = append(w.stops, w.startAgent())
	return j
}

func (j *joining) token(n hubd.NewToken) identity.Token {
	j.t.Helper()
	text, _, err := hubd.CreateToken(j.t.Context(), j.db, "dev", n)
	if err != nil {
		j.t.Fatal(err)
	}
	token, err := identity.ParseToken(text)
	if err != nil {
		j.t.Fatal(err)
	}
	return token
}

func (j *joining) join(n hubd.NewToken) agentd.Joined {
	j.t.Helper()
	got, err := agentd.Join(j.t.Context(), agentd.JoinConfig{Dir: j.dir, Token: j.token(n), Addresses: []string{"hub:5443"}, Dial: j.link.dial, Version: "test"})
	if err != nil {
		j.t.Fatal(err)
	}
	return got
}

// bundle is what the site holds now.
func (j *joining) bundle() identity.Bundle {
	j.t.Helper()
	raw, err := os.ReadFile(filepath.Join(j.dir, "bundle.json"))
	if err != nil {
		j.t.Fatal(err)
	}
	b, err := identity.ParseBundle(raw)
	if err != nil {
		j.t.Fatal(err)
	}
	return b
}

// connected reports whether the site's stream is up, by the hub's database.
func (j *joining) connected() bool {
	j.t.Helper()
	return j.count(`SELECT count(*) FROM agent a JOIN site s ON s.id = a.site_id WHERE s.name = 'north' AND a.connected AND a.lease_until > '`+
		time.Now().UTC().Format(time.RFC3339Nano)+`'`) == 1
}

func TestAJoinedSiteRenewsByItself(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, url)
		begin := time.Now()
		for range 5 {
			time.Sleep(8 * time.Hour)
			if left := time.Until(j.bundle().Certificate[0].NotAfter); left < 8*time.Hour || left > 24*time.Hour {
				t.Fatalf("after %v the certificate is good for %v", time.Since(begin), left)
			}
			if !j.connected() {
				t.Fatalf("after %v the site is not connected", time.Since(begin))
			}
		}
		n := j.count(`SELECT count(*) FROM certificate c JOIN site s ON s.id = c.site_id WHERE s.name = 'north'`)
		if n < 3 || n > 6 {
			t.Errorf("%d certificates in 40 hours", n)
		}
		// The first batch of its spool says whose key signs it.
		if k := j.count(`SELECT count(*) FROM batch b JOIN site s ON s.id = b.site_id WHERE s.name = 'north' AND b.seq = 1 AND b.kind = 4 AND b.disposition = 1`); k != 1 {
			t.Error("the chain does not begin with the site's key")
		}
		if entries, err := os.ReadDir(j.dir); err != nil || len(entries) > 6 {
			t.Errorf("the identity directory grows: %v, %v", entries, err)
		}
		j.stop()
		j.wantNoTrouble()
	})
}

// N7: dark for longer than its certificate, and back unattended in a minute.
func TestBenchN7ASiteThatWasDarkComesBackByItself(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, url)
		time.Sleep(time.Hour)
		j.link.set(true)
		time.Sleep(30 * time.Hour)
		if time.Now().Before(j.bundle().Certificate[0].NotAfter) {
			t.Fatal("the certificate has not run out")
		}
		j.link.set(false)
		begin := time.Now()
		for !j.connected() {
			time.Sleep(time.Second)
			if time.Since(begin) > time.Minute {
				t.Fatal("the site is not back after a minute")
			}
		}
		took := time.Since(begin)
		t.Logf("back after %v", took)
		if os.Getenv(bench.FileVariable) != "" {
			if err := bench.Record(bench.Result{
				ID: "N7", What: "site dark for 30 h with a 24 h certificate: link back → stream open, virtual time", Floor: 60, Value: took.Seconds(), Unit: "s",
				Ratio: took.Seconds() / 60, Target: "≤ 60 s", Met: took <= time.Minute, Samples: map[string][]float64{"back": {took.Seconds()}},
			}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(3 * time.Hour)
		if n := j.count(`SELECT count(*) FROM batch b JOIN site s ON s.id = b.site_id WHERE s.name = 'north' AND b.link_state <> 1`); n != 0 {
			t.Errorf("%d batches of the dark days are missing or out of order", n)
		}
		j.stop()
		j.wantNoTrouble()
	})
}

func TestARevokedSiteBuffersAndComesBackByAToken(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, url)
		time.Sleep(time.Hour)
		site := j.bundle().Site
		if _, err := hubd.RevokeSite(t.Context(), j.db, "dev", "north", "van stolen"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // N4, with notices lost
		if j.connected() {
			t.Error("its stream is still there after 5 s")
		}
		time.Sleep(26 * time.Hour) // beyond its certificate
		if j.connected() {
			t.Error("it came back")
		}
		if got := j.bundle(); got.Site != site {
			t.Error("the agent has given up its identity")
		}
		got := j.join(hubd.NewToken{SiteName: "north"}) // beside the running agent
		if got.Bundle.Site != site || got.Already {
			t.Errorf("joined as %s, was %s", got.Bundle.Site, site)
		}
		time.Sleep(time.Minute)
		if !j.connected() {
			t.Error("the running agent does not notice that it may come back")
		}
		time.Sleep(3 * time.Hour)
		if n := j.count(`SELECT count(*) FROM batch b JOIN site s ON s.id = b.site_id WHERE s.name = 'north' AND b.link_state <> 1`); n != 0 {
			t.Errorf("%d batches from while it was cut off are missing", n)
		}
		j.stop()
		j.wantNoTrouble()
	})
}

func TestJoiningAgainChangesNothingAndWrongHubsLearnNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, url)
		before := j.bundle()
		other := identity.NewToken("dev", [32]byte{1})
		_, err := agentd.Join(t.Context(), agentd.JoinConfig{Dir: t.TempDir(), Token: other, Addresses: []string{"hub:5443"}, Dial: j.link.dial, Patience: time.Second})
		if err == nil || !strings.Contains(err.Error(), "told nothing") {
			t.Errorf("a hub that the token does not name: %v", err)
		}
		if n := j.count(`SELECT count(*) FROM enrol_token WHERE used_at IS NULL`); n != 0 {
			t.Errorf("%d tokens are open", n)
		}
		used := j.token(hubd.NewToken{SiteName: "south"})
		at := func(dir string) error {
			_, err := agentd.Join(t.Context(), agentd.JoinConfig{Dir: dir, Token: used, Addresses: []string{"hub:5443"}, Dial: j.link.dial})
			return err
		}
		first := t.TempDir()
		if err := errors.Join(at(first), at(first)); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if err := at(t.TempDir()); err == nil || !strings.Contains(err.Error(), identity.ReasonTokenUsed) || !strings.Contains(err.Error(), "ask for a new token") {
			t.Errorf("another machine with a used token: %v", err)
		}
		for _, name := range []string{"tls.key", "evidence.key", "wg.key"} {
			if fi, err := os.Stat(filepath.Join(first, name)); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, fi, err)
			}
		}
		if got := j.bundle(); got.Certificate[0].SerialNumber.Cmp(before.Certificate[0].SerialNumber) != 0 {
			t.Error("the other site's identity changed")
		}
		j.stop()
	})
}

func TestAPersonApprovesAJoiningSite(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, url)
		token := j.token(hubd.NewToken{SiteName: "east", Approval: true})
		type result struct {
			got agentd.Joined
			err error
		}
		done := make(chan result, 1)
		told := make(chan string, 1)
		dir := t.TempDir()
		go func() {
			got, err := agentd.Join(t.Context(), agentd.JoinConfig{
				Dir: dir, Token: token, Addresses: []string{"hub:5443"}, Dial: j.link.dial, Waiting: func(f string, _ time.Time) { told <- f },
			})
			done <- result{got, err}
		}()
		fingerprint := <-told
		time.Sleep(10 * time.Minute)
		list, err := hubd.Tokens(t.Context(), j.db, "dev", true, 10)
		if err != nil || len(list) != 1 || list[0].Fingerprint != fingerprint {
			t.Fatalf("waiting %+v, %v; the site shows %s", list, err, fingerprint)
		}
		if err := hubd.DecideSite(t.Context(), j.db, "dev", token.ID, fingerprint, true); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if r.err != nil || r.got.Fingerprint != fingerprint || r.got.Bundle.SiteName != "east" {
			t.Errorf("joined %+v, %v", r.got, r.err)
		}
		j.stop()
	})
}
