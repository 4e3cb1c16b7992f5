package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuditCommands(t *testing.T) {
	env := environment(t)
	home := value(env, "HOME")
	if _, stderr, err := output(t, env, "apikey", "bootstrap", "--out", filepath.Join(home, "owner.key")); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	hub(t, env) // so that commands find a database that runs, and the file is written
	file := filepath.Join(value(env, "DATA_DIR"), "logs", "audit.jsonl")
	var lines []byte
	for end := time.Now().Add(30 * time.Second); !bytes.HasSuffix(lines, []byte("\n")); lines, _ = os.ReadFile(file) { // absent at first
		if time.Now().After(end) {
			t.Fatal("no audit file")
		}
		<-time.After(20 * time.Millisecond)
	}
	stdout, stderr, err := output(t, env, "audit", "search", "--action", "apikey_bootstrap", "--since", "1h", "-o", "json")
	if err != nil || stdout != string(lines) || !json.Valid([]byte(stdout)) {
		t.Errorf("search: %v %s\n%s\nthe file\n%s", err, stderr, stdout, lines)
	}
	if stdout, stderr, err = output(t, env, "audit", "tail", "-n", "1"); err != nil || !strings.Contains(stdout, "apikey_bootstrap") || !strings.Contains(stdout, "SEQ") {
		t.Errorf("tail: %v %s %s", err, stderr, stdout)
	}
	if stdout, stderr, err = output(t, env, "audit", "export"); err != nil || stdout != string(lines) {
		t.Errorf("export: %v %s %s", err, stderr, stdout)
	}
	out := filepath.Join(home, "export.jsonl")
	if _, stderr, err = output(t, env, "audit", "export", "--out", out); err != nil || !strings.Contains(stderr, "1 entries, head 1:") {
		t.Errorf("export to a file: %v %s", err, stderr)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, lines) {
		t.Errorf("exported %v %s", err, b)
	}
	if stdout, stderr, err = output(t, env, "audit", "verify"); err != nil || !strings.Contains(stdout, "1 entries in order, head 1:") {
		t.Errorf("verify: %v %s %s", err, stderr, stdout)
	}
	if _, stderr, err = output(t, env, "audit", "verify", "--head", "2:"+strings.Repeat("ab", 32)); err == nil || !strings.Contains(stderr, "entry 2") {
		t.Errorf("verify with a head beyond the end: %v %s", err, stderr)
	}
	for _, args := range [][]string{{"search", "--level", "loud"}, {"search", "--category", "x"}, {"tail", "--since", "yesterday"}, {"verify", "--head", "7"}} {
		if _, stderr, err := output(t, env, append([]string{"audit"}, args...)...); err == nil || !strings.Contains(stderr, "want") && !strings.Contains(stderr, "looks like") {
			t.Errorf("%v: %v %s", args, err, stderr)
		}
	}
}
