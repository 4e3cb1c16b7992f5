package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAPIKeyCommands(t *testing.T) {
	env := environment(t)
	hub(t, env)
	var made struct {
		ID, Key string
	}
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := output(t, env, args...)
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, stderr)
		}
		return stdout
	}
	status := func(key string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+value(env, "BIND_ADDR")+"/api/sites", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	text := run("apikey", "create", "--name", "report", "--user-id", "7", "--permissions", "sites:read,miners:read", "--expires-in", "30d", "-o", "json")
	if err := json.Unmarshal([]byte(text), &made); err != nil || !strings.HasPrefix(made.Key, "hsi_dev_key_") {
		t.Fatalf("%v %s", err, text)
	}
	if got := status(made.Key); got != http.StatusOK {
		t.Errorf("the new key: %d", got)
	}
	file := filepath.Join(value(env, "HOME"), "next.key")
	if text = run("apikey", "create", "--copy-from", made.ID, "--out", file); strings.Contains(text, "hsi_dev_key_") || !strings.Contains(text, "7 more days") {
		t.Errorf("copy: %s", text)
	}
	b, err := os.ReadFile(file)
	if st, serr := os.Stat(file); err != nil || serr != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the key's file: %v %v %v", st, err, serr)
	}
	if next := strings.TrimSpace(string(b)); status(next) != http.StatusOK || status(made.Key) != http.StatusOK {
		t.Error("in the grace period both work")
	}
	if text = run("apikey", "list", "--expiring"); !strings.Contains(text, made.ID) || strings.Count(text, "\n") != 2 {
		t.Errorf("list: %s", text)
	}
	run("apikey", "limit", "--key-id", made.ID, "--requests-per-minute", "0")
	if text = run("ratelimit", "--set", "50"); !strings.Contains(text, "50 requests a minute (settings: 600, enabled: true)") {
		t.Errorf("ratelimit: %s", text)
	}
	run("ratelimit", "--set", "default")
	run("apikey", "revoke", "--key-id", made.ID, "--why", "test")
	for end := time.Now().Add(time.Minute); status(made.Key) != http.StatusUnauthorized; {
		if time.Now().After(end) {
			t.Fatal("the running hub still lets the revoked key in")
		}
		<-time.After(100 * time.Millisecond)
	}
	if text = run("apikey", "list"); strings.Contains(text, made.ID) {
		t.Errorf("list: %s", text)
	}
	if text = run("apikey", "list", "--all"); !strings.Contains(text, made.ID) || !strings.Contains(text, "revoked") {
		t.Errorf("list --all: %s", text)
	}
	text = run("audit", "search", "-o", "json")
	for _, action := range []string{"apikey_create", "apikey_revoke", "rate_limit", "rate_limit_key"} {
		if !strings.Contains(text, `"action":"`+action+`"`) {
			t.Errorf("no %s in the audit log", action)
		}
	}
	if strings.Contains(text, made.Key) {
		t.Error("a key is in the audit log")
	}
	for _, args := range [][]string{
		{"create", "--name", "x", "--permissions", "sites:burn"}, {"create", "--name", "x", "--permissions", "sites:read", "--expires-in", "soon"},
		{"revoke", "--key-id", "x"}, {"limit", "--key-id", made.ID, "--requests-per-minute", "many"},
	} {
		if _, stderr, err := output(t, env, append([]string{"apikey"}, args...)...); err == nil || !strings.Contains(stderr, "want") && !strings.Contains(stderr, "there are") {
			t.Errorf("%v: %v %s", args, err, stderr)
		}
	}
}
