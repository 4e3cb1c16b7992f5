package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestContractCommands(t *testing.T) {
	url := pgtest.URL(t)
	env := append(environment(t), "DATABASE_URL="+url)
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := output(t, env, args...)
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, stderr)
		}
		return stdout
	}
	refused := func(part string, args ...string) {
		t.Helper()
		if _, stderr, err := output(t, env, args...); err == nil || !strings.Contains(stderr, part) {
			t.Errorf("%v: %v %s", args, err, stderr)
		}
	}
	decode := func(text string, v any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // of a database that is dropped
	site, miners := uuid.New(), []uuid.UUID{uuid.New(), uuid.New()}
	if _, err := conn.Exec(t.Context(), `INSERT INTO site (id, name, created_at) VALUES ($1, 'north', '2026-01-01')`, site); err != nil {
		t.Fatal(err)
	}
	for _, m := range miners {
		if _, err := conn.Exec(t.Context(), `INSERT INTO miner (site_id, id, first_seen_at, info_at) VALUES ($1, $2, '2026-01-01', '2026-01-01')`, site, m); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UTC().Truncate(time.Hour)
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }

	if text := run("customer", "add", "Acme"); !strings.Contains(text, "next: hashinsight-hub contract add") {
		t.Errorf("%s", text)
	}
	refused("already", "customer", "add", "Acme")
	run("contract", "add", "--customer", "Acme", "--name", "Hall 1", "--rate-mhs", "100000000", "--from", at(0), "--tier", "990000:500", "--tier", "950000:2500", "--fee-minor", "1000000", "--currency", "EUR")
	refused("already", "contract", "add", "--customer", "Acme", "--name", "Hall 1", "--rate-mhs", "1")
	refused("customer list", "contract", "add", "--customer", "Nobody", "--name", "Hall 1", "--rate-mhs", "1")
	refused("PPM:BP", "contract", "add", "--customer", "Acme", "--name", "Hall 2", "--rate-mhs", "1", "--tier", "x")
	refused("such as", "contract", "add", "--customer", "Acme", "--name", "Hall 2", "--rate-mhs", "1", "--from", "tomorrow")
	run("contract", "amend", "Hall 1", "--from", at(48*time.Hour), "--target-ppm", "995000")

	file := filepath.Join(value(env, "HOME"), "miners")
	if err := os.WriteFile(file, []byte(miners[0].String()+"\n\n"+miners[1].String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var made []struct{ ID, Miner_ID string } //nolint:revive // the form of the JSON
	decode(run("contract", "miners", "add", "Hall 1", "--site", "north", "--from", at(0), "--file", file, "-o", "json"), &made)
	if len(made) != 2 {
		t.Fatalf("%+v", made)
	}
	if text := run("contract", "miners", "add", "Hall 1", "--site", "north", "--from", at(0), "--all"); !strings.Contains(text, made[0].ID) || !strings.Contains(text, made[1].ID) {
		t.Errorf("the same again: %s", text)
	}
	refused("overlaps", "contract", "miners", "add", "Hall 1", "--site", "north", "--from", at(time.Hour), "--miner", miners[0].String())
	refused("--all", "contract", "miners", "add", "Hall 1", "--site", "north", "--from", at(time.Hour))
	run("contract", "miners", "end", "Hall 1", "--assignment", made[0].ID, "--at", at(24*time.Hour))
	run("contract", "miners", "add", "Hall 1", "--site", site.String(), "--from", at(25*time.Hour), "--miner", made[0].Miner_ID)
	if text := run("contract", "miners", "list", "Hall 1", "--at", at(24*time.Hour)); strings.Count(text, "\n") != 2 {
		t.Errorf("%s", text)
	}
	if text := run("contract", "show", "Hall 1"); !strings.Contains(text, "miners without any contract") || !strings.Contains(text, at(25*time.Hour)) || !strings.Contains(text, `"target_ppm":995000`) {
		t.Errorf("%s", text)
	}
	if text := run("contract", "list", "--customer", "Acme"); !strings.Contains(text, "Hall 1") {
		t.Errorf("%s", text)
	}
	if text := run("customer", "list"); !strings.Contains(text, "Acme") {
		t.Errorf("%s", text)
	}

	id := uuid.NewString()
	if text := run("maintenance", "announce", "--site", "north", "--from", at(2*time.Hour), "--to", at(4*time.Hour), "--id", id, "--note", "fans"); !strings.Contains(text, `NOT honoured by "Hall 1": maintenance_notice_s is 86400`) {
		t.Errorf("%s", text)
	}
	run("maintenance", "announce", "--site", "north", "--from", at(2*time.Hour), "--to", at(4*time.Hour), "--id", id, "--note", "fans")
	if text := run("curtail", "order", "--site", "north", "--from", at(2*time.Hour), "--to", at(4*time.Hour), "--miner", miners[0].String()); !strings.Contains(text, "honoured") || strings.Contains(text, "NOT honoured") {
		t.Errorf("%s", text)
	}
	run("excuses", "end", id, "--at", at(2*time.Hour))
	if text := run("excuses", "list", "--site", "north", "--from", at(0)); strings.Count(text, "\n") != 3 || !strings.Contains(text, "shortened") {
		t.Errorf("%s", text)
	}
	var key struct {
		ID, Customer string
		Permissions  []string
	}
	decode(run("apikey", "create", "--customer", "Acme", "--name", "theirs", "-o", "json"), &key)
	if key.Customer != "Acme" || fmt.Sprint(key.Permissions) != "[contracts:read sla:read statements:read]" {
		t.Errorf("%+v", key)
	}
	refused("may not hold", "apikey", "create", "--customer", "Acme", "--name", "theirs", "--permissions", "sites:read")
	if text := run("apikey", "list"); !strings.Contains(text, "Acme") {
		t.Errorf("%s", text)
	}
}
