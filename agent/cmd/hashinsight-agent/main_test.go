package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// call runs the program with arguments and returns what it printed.
func call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v does not say %q", err, w)
		}
	}
}

func TestTheExampleConfigurationPassesItsCheck(t *testing.T) {
	example, err := call(t, "config", "example")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := call(t, "config", "check", "--config", path, "--data-dir", t.TempDir())
	if err != nil || !strings.Contains(out, "configuration is good: 2 single addresses, 304 in networks") || !strings.Contains(out, "keys init") {
		t.Errorf("check says %q, %v", out, err)
	}
	_, err = call(t, "config", "check", "--config", path, "--poll-interval", "10", "--batch-interval", "1h")
	wantError(t, err, "--poll-interval", "no unit", "batch.interval: 1h0m0s is outside 1s to 5s")
}

func TestRunWithoutKeysSaysWhatToDo(t *testing.T) {
	t.Setenv("HSI_TARGETS", "127.0.0.1")
	t.Setenv("HSI_DATA_DIR", t.TempDir())
	_, err := call(t, "run")
	wantError(t, err, "hashinsight-agent keys init --dir")
}

func TestKeysInitPrintsTheNextSteps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	out, err := call(t, "keys", "init", "--dir", dir, "--site-name", "north")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hashinsight-hub site register --name north --request request.pem", "keys install --dir " + dir} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
	_, err = call(t, "keys", "install", "--dir", dir, "--bundle", filepath.Join(dir, "request.pem"))
	wantError(t, err, "site bundle: not the file that hashinsight-hub site register writes")
}

func TestProbeShowsAMinerAndKeepsTheTerminalSafe(t *testing.T) {
	f, err := sim.New(sim.Config{Miners: 1, Port: 4128, Instant: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Listen(t.Context()); err != nil {
		t.Skipf("needs addresses of 127.0.0.0/8 to listen on: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	address := f.Miners()[0].Address
	out, err := call(t, "probe", address, "-o", "json")
	var got struct {
		Normalised struct {
			State      string  `json:"state"`
			HashrateHS float64 `json:"hashrate_hs"`
		} `json:"normalised"`
		Raw []struct{ Command, Reply string } `json:"raw"`
	}
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Normalised.State != "hashing" || got.Normalised.HashrateHS < 1e12 || len(got.Raw) < 3 {
		t.Errorf("probe gives %.400s, %v", out, err)
	}
	out, err = call(t, "probe", address)
	if err != nil || !strings.Contains(out, "TH/s") || !strings.Contains(out, "--- summary") {
		t.Errorf("probe gives %.400s, %v", out, err)
	}
	if got := printable("a\x1b[2Jb\r\u009bc\n"); got != "a\uFFFD[2Jb\uFFFD\uFFFDc\n" {
		t.Errorf("printable gives %q", got)
	}
}

func TestProbeOfNothingFails(t *testing.T) {
	_, err := call(t, "probe", "127.0.0.1:1", "--timeout", "1s")
	wantError(t, err, "127.0.0.1:1 could not be read", "refused")
	_, err = call(t, "probe", "10.0.0.5:port")
	wantError(t, err, "is not ADDRESS")
	_, err = call(t, "probe", "10.0.0.5", "-o", "xml")
	wantError(t, err, "none of text, json")
	_, err = call(t, "probe", "10.0.0.5", "--timeout", "-5s")
	wantError(t, err, "--timeout -5s is no time to wait")
}

func TestExportGivesEveryStoredAnswerWithItsAddress(t *testing.T) {
	answered := make(chan sim.Answer, 1024)
	f, err := sim.New(sim.Config{Miners: 3, Instant: true, OnAnswer: func(a sim.Answer) { answered <- a }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	simDone, agentDone := make(chan error, 1), make(chan error, 1)
	go func() { simDone <- f.Run(ctx) }()
	c := agentd.Config{
		Dir: t.TempDir(), Site: ident.SiteID{1}, EvidenceKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), MinerDial: f.DialContext,
	}
	for _, m := range f.Miners() {
		c.Miners = append(c.Miners, agentd.Miner{Address: m.Address, Interval: time.Second})
	}
	a, err := agentd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	agentCtx, stop := context.WithCancel(context.Background())
	go func() { agentDone <- a.Run(agentCtx) }()
	type key struct {
		Address string
		Serial  int64
	}
	given := map[key]bool{}
	for range 6 {
		x := <-answered
		given[key{x.Miner, int64(x.Serial)}] = true
	}
	stop()
	if err := <-agentDone; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-simDone; err != nil {
		t.Fatal(err)
	}
	close(answered)
	for x := range answered {
		given[key{x.Miner, int64(x.Serial)}] = true
	}
	out, err := call(t, "spool", "export", "--dir", c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var l struct {
			Address   string `json:"address"`
			BestShare int64  `json:"best_share"`
			Seq       uint64 `json:"seq"`
			Outcome   string `json:"outcome"`
			PublicKey string `json:"public_key"`
		}
		if strings.Contains(line, `"kind":"key"`) { // the first batch says who signs
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Seq != 1 || l.PublicKey != hex.EncodeToString(c.EvidenceKey.Public().(ed25519.PublicKey)) {
				t.Errorf("line %s: %v", line, err)
			}
			continue
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Seq == 0 || l.Outcome != "ok" || !given[key{l.Address, l.BestShare}] {
			t.Errorf("line %s: %v", line, err)
		}
		delete(given, key{l.Address, l.BestShare})
	}
	if len(given) > 0 {
		t.Errorf("answers %v are not exported", given)
	}
	out, err = call(t, "spool", "stats", "--dir", c.Dir, "-o", "json")
	var sum spoolSummary
	if err != nil || json.Unmarshal([]byte(out), &sum) != nil || sum.Samples < 6 || sum.Batches == 0 {
		t.Errorf("stats give %s, %v", out, err)
	}
	_, err = call(t, "spool", "export", "--dir", filepath.Join(c.Dir, "nowhere"))
	wantError(t, err, "data_dir")
}
