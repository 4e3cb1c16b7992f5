package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/hub/internal/proof"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestLogCommands(t *testing.T) {
	url, dir := pgtest.URL(t), filepath.Join(t.TempDir(), "log")
	const password = "a password of this test, 32 bytes long"
	env := append(environment(t), "DATABASE_URL="+url, "TRANSPARENCY_LOG_DIR="+dir, "ENCRYPTION_PASSWORD="+password)
	pool, err := pgxpool.New(t.Context(), url)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	defer pool.Close()
	stdout, stderr, err := output(t, env, "log", "checkpoint")
	if err != nil || !strings.Contains(stdout, "no checkpoint has been signed yet") {
		t.Fatalf("an empty log: %v %s %s", err, stdout, stderr)
	}
	a, err := pki.Open(t.Context(), pki.Config{DB: pool, Password: password})
	must(err)
	s, err := proof.New(proof.Config{Pool: pool, Dir: dir, Key: a.LogKey, Evidence: a.EvidenceKey})
	must(err)
	site := ident.NewSiteID()
	key, _, err := ed25519.GenerateKey(nil)
	must(err)
	must(pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		return fleet.RegisterSite(t.Context(), tx, fleet.Registration{Site: site, Name: "north", Key: key, At: time.Now(), Note: proof.Note})
	}))
	must(s.Run(context.WithoutCancel(t.Context())))

	stdout, stderr, err = output(t, env, "log", "checkpoint", "-o", "json")
	var v logView
	if jerr := json.Unmarshal([]byte(stdout), &v); err != nil || jerr != nil || v.Size != 3 || v.Pending != 0 || !strings.HasPrefix(v.Checkpoint, v.Origin+"\n3\n") || !strings.HasPrefix(v.PublicKey, v.Origin+"+") {
		t.Fatalf("checkpoint: %v %v %s %s", err, jerr, stdout, stderr)
	}
	stdout, stderr, err = output(t, env, "log", "list", "--kind", "site_key", "-o", "json")
	var list []logEntryView
	if jerr := json.Unmarshal([]byte(stdout), &list); err != nil || jerr != nil || len(list) != 1 || !strings.Contains(list[0].Says, site.String()+" added") {
		t.Fatalf("list: %v %v %s %s", err, jerr, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "log", "list"); err != nil || strings.Count(stdout, "the hub's key") != 2 {
		t.Errorf("list: %v %s %s", err, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "log", "show", "0"); err != nil || !strings.Contains(stdout, `"kind": "site_key"`) {
		t.Errorf("show: %v %s %s", err, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, "log", "fsck"); err != nil || !strings.Contains(stdout, "everything fits") {
		t.Errorf("fsck: %v %s %s", err, stdout, stderr)
	}
	rebuilt := filepath.Join(t.TempDir(), "rebuilt")
	if stdout, stderr, err = output(t, env, "log", "rebuild", rebuilt); err != nil || !strings.Contains(stdout, "3 entries written") {
		t.Errorf("rebuild: %v %s %s", err, stdout, stderr)
	}
	for _, name := range []string{"checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"} {
		one, err1 := os.ReadFile(filepath.Join(dir, name))
		two, err2 := os.ReadFile(filepath.Join(rebuilt, name))
		if err1 != nil || err2 != nil || string(one) != string(two) {
			t.Errorf("%s: %v, %v", name, err1, err2)
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE log_entry SET noted_ms = 1 WHERE idx = 0`); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err = output(t, env, "log", "fsck", "-o", "json")
	var found fsckView
	if jerr := json.Unmarshal([]byte(stdout), &found); err == nil || jerr != nil || found.OK || len(found.Problems) == 0 {
		t.Errorf("fsck of a changed row: %v %v %s %s", err, jerr, stdout, stderr)
	}
	for _, args := range [][]string{
		{"log", "show", "99"}, {"log", "show", "x"}, {"log", "list", "--kind", "payout"}, {"log", "rebuild", rebuilt}, {"log", "rebuild", filepath.Join(t.TempDir(), "new")},
	} {
		if stdout, stderr, err := output(t, env, args...); err == nil || stderr == "" {
			t.Errorf("%v: %v %s %s", args, err, stdout, stderr)
		}
	}
}
