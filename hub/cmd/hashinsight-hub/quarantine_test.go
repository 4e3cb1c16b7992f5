package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
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
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// quarantineSamples puts an authentic, readable batch into quarantine, as an older hub may have left it, and returns its name.
func quarantineSamples(t *testing.T, url string) []string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pool, err := pgxpool.New(t.Context(), url)
	must(err)
	defer pool.Close()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	site, spool, now := ident.NewSiteID(), ident.NewSpoolID(), time.Now()
	enc, err := wire.NewEncoder()
	must(err)
	payload, meta, err := enc.Samples([]telemetry.Observation{{Miner: ident.NewMinerID(), At: now, Outcome: telemetry.OutcomeOK}}, nil)
	must(err)
	h := evidence.Header{
		Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: site, Key: ident.KeyIDOf(public), Spool: spool, Seq: 1,
		PayloadLen: uint32(len(payload)), Payload: sha256.Sum256(payload), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	hash, sig := h.Hash(), evidence.SignHeader(private, h.Bytes())
	must(pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		if err := fleet.RegisterSite(t.Context(), tx, fleet.Registration{Site: site, Name: "north", Key: public, At: now}); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id,
			header_hash, header, signature) VALUES ($1, $2, 1, 1, 2, 1, 1, 1, $3, $3, $3, $4, $5, $6, $7)`,
			site[:], spool[:], now, h.Key[:], hash[:], h.Bytes(), sig); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO batch_total (site_id, spool_id, batches, samples, quarantined, newest_seq, last_received_at)
			VALUES ($1, $2, 1, 0, 1, 1, $3)`, site[:], spool[:], now); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO dead_letter (site_id, spool_id, seq, header, signature, payload, reason, received_at)
			VALUES ($1, $2, 1, $3, $4, $5, 'a kind that came later', $6)`, site[:], spool[:], h.Bytes(), sig, payload, now)
		return err
	}))
	return []string{site.String(), spool.String(), "1"}
}

func TestQuarantineCommands(t *testing.T) {
	url := pgtest.URL(t)
	env := append(environment(t), "DATABASE_URL="+url)
	name := quarantineSamples(t, url)
	stdout, stderr, err := output(t, env, "deadletter", "list", "-o", "json")
	var list []letterView
	if jerr := json.Unmarshal([]byte(stdout), &list); err != nil || jerr != nil || len(list) != 1 || list[0].Site != name[0] || list[0].Reason != "a kind that came later" {
		t.Fatalf("list: %v %v %s %s", err, jerr, stdout, stderr)
	}
	if stdout, stderr, err = output(t, env, append([]string{"deadletter", "show"}, name...)...); err != nil || !strings.Contains(stdout, `"payload"`) {
		t.Errorf("show: %v %s %s", err, stdout, stderr)
	}
	if _, stderr, err = output(t, env, append([]string{"deadletter", "drop"}, name...)...); err == nil || !strings.Contains(stderr, "--yes") {
		t.Errorf("drop without --yes: %v %s", err, stderr)
	}
	if stdout, stderr, err = output(t, env, append([]string{"deadletter", "retry"}, name...)...); err != nil || !strings.Contains(stdout, "1 of its samples") {
		t.Errorf("retry: %v %s %s", err, stdout, stderr)
	}
	for _, args := range [][]string{{"retry"}, {"show"}, {"drop", "--yes"}} {
		if _, stderr, err = output(t, env, append(append([]string{"deadletter"}, args...), name...)...); err == nil || !strings.Contains(stderr, "no such batch") {
			t.Errorf("%s after the retry: %v %s", args[0], err, stderr)
		}
	}
	if stdout, stderr, err = output(t, env, "forks", "list"); err != nil || !strings.Contains(stdout, "SITE") {
		t.Errorf("forks list: %v %s %s", err, stdout, stderr)
	}
	file := filepath.Join(value(env, "HOME"), "proof.json")
	if _, stderr, err = output(t, env, append([]string{"forks", "export", "--out", file}, name...)...); err == nil || !strings.Contains(stderr, "no fork") {
		t.Errorf("forks export of a batch without: %v %s", err, stderr)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a refused export left a file")
	}
}
