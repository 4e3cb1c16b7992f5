package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

func TestCACommands(t *testing.T) {
	url := pgtest.URL(t)
	env := append(environment(t), "DATABASE_URL="+url)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("pass"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := output(t, env, append([]string{"ca"}, args...)...)
		if err != nil {
			t.Fatalf("ca %v: %v %s", args, err, stderr)
		}
		return stdout
	}
	refused := func(text string, args ...string) {
		t.Helper()
		if stdout, stderr, err := output(t, env, append([]string{"ca"}, args...)...); err == nil || !strings.Contains(stderr, text) {
			t.Errorf("ca %v: %v %s %s, want a refusal that speaks of %q", args, err, stdout, stderr, text)
		}
	}

	// Nothing that cannot be undone happens without --yes, and a refused command leaves no file.
	refused("--yes", "init", "--root-out", in("root"), "--passphrase-file", in("pass"))
	refused("at least", "init", "--root-out", in("root"), "--passphrase-file", "-", "--yes") // nothing on standard input
	if _, err := os.Stat(in("root")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused command left a file")
	}
	run("init", "--root-out", in("root"), "--passphrase-file", in("pass"), "--yes")
	if st, err := os.Stat(in("root")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the root's file: %v %v", st, err)
	}
	status := func() (st hubd.CAStatus) {
		t.Helper()
		if err := json.Unmarshal([]byte(run("status", "-o", "json")), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := status(); len(st.Authorities) != 1 || st.Authorities[0].RootKey != "offline" {
		t.Fatalf("%+v", st)
	}

	hub(t, env) // all else works beside a running hub
	key := uuid.New()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `INSERT INTO api_key (id, name, hash, permissions, created_at) VALUES ($1, 'robot', sha256($2), '{}', $3)`, key, key[:], time.Now()); err != nil {
		t.Fatal(err)
	}
	refused("no API key", "issue", "--key-id", uuid.NewString(), "--name", "x", "--out", in("x.crt"), "--key-out", in("x.key"))
	refused("either --csr", "issue", "--key-id", key.String(), "--name", "x", "--out", in("x.crt"))
	if _, err := os.Stat(in("x.key")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused certificate left a private key")
	}
	run("issue", "--key-id", key.String(), "--name", "robot", "--cn", "robot.hashinsight.net", "--o", "HashInsight", "--c", "US", "--out", in("robot.crt"), "--key-out", in("robot.key"))
	if st, err := os.Stat(in("robot.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the client's key: %v %v", st, err)
	}
	file, err := os.ReadFile(in("robot.crt"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := identity.ParseCertificates(file)
	if err != nil || len(chain) != 2 || chain[0].Subject.String() != "CN=robot.hashinsight.net,O=HashInsight,C=US" {
		t.Fatalf("%v %v", chain, err)
	}
	st := status()
	if len(st.Clients) != 1 || st.Clients[0].Name != "robot" {
		t.Fatalf("%+v", st.Clients)
	}
	refused("--yes", "revoke", "--serial", st.Clients[0].Serial, "--reason", "test")
	refused("--reason", "revoke", "--serial", st.Clients[0].Serial, "--yes")
	refused("32 hexadecimal", "revoke", "--serial", "12", "--reason", "test", "--yes")
	run("revoke", "--serial", st.Clients[0].Serial, "--reason", "test", "--yes")
	refused("no valid certificate", "revoke", "--serial", st.Clients[0].Serial, "--reason", "test", "--yes")
	if st := status(); !st.Clients[0].Revoked || st.Revoked != 1 {
		t.Errorf("%+v", st)
	}
	if crl := run("crl"); !strings.HasPrefix(crl, "-----BEGIN X509 CRL-----") {
		t.Errorf("the list is %.40q", crl)
	}
	refused("does not exist", "revoke", "--site", uuid.NewString(), "--reason", "test", "--yes")
	refused("does not exist", "allow-recovery", uuid.NewString())

	refused("one step", "rotate", "--activate", "--finish", "--yes")
	run("rotate", "--root-in", in("root"), "--root-in-passphrase-file", in("pass"), "--root-out", in("root2"), "--passphrase-file", in("pass"), "--yes")
	if st := status(); len(st.Authorities) != 2 || !st.Authorities[1].Cross {
		t.Fatalf("%+v", st.Authorities)
	}
	run("rotate", "--activate", "--yes")
	refused("another root", "rotate", "--intermediate", "--root-in", in("root"), "--root-in-passphrase-file", in("pass"), "--yes")
	text := run("rotate", "--finish", "--yes", "--force")
	if !strings.Contains(text, "active") || !strings.Contains(text, "retired") {
		t.Error(text)
	}
	stdout, stderr, err := output(t, env, "audit", "search", "--category", "encryption", "-o", "json")
	for _, action := range []string{"ca_made", "certificate_issued", "certificate_revoked", "ca_rotate_begun", "ca_rotate_activated", "ca_rotate_finished"} {
		if err != nil || !strings.Contains(stdout, action) {
			t.Errorf("the audit log lacks %s: %v %s", action, err, stderr)
		}
	}
}
