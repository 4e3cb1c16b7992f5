package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/wg"
)

func TestPeersByCommand(t *testing.T) {
	env := environment(t)
	for i, e := range env {
		if e == "WG_ADDR=off" {
			env[i] = "WG_ADDR=127.0.0.1:51987" // no hub runs: nothing listens there
		}
	}
	env = append(env, "WG_BACKEND=netstack", "WG_ENDPOINT=hub.example.com:51987")
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := output(t, env, args...)
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, stderr)
		}
		return out
	}
	refused := func(text string, args ...string) {
		t.Helper()
		if out, stderr, err := output(t, env, args...); err == nil || !strings.Contains(stderr, text) {
			t.Errorf("%v: %v, %s%s: %q is missing", args, err, out, stderr, text)
		}
	}
	old := filepath.Join(dir, "wg0.conf")
	private, key := wg.NewPrivate(), wg.NewPrivate().Public()
	conf := "[Interface]\nPrivateKey = " + private.Reveal() + "\n\n# North\n[Peer]\nPublicKey = " + key.String() + "\nAllowedIPs = 10.8.0.7/32, 192.168.7.0/24\n"
	if err := os.WriteFile(old, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run("peers", "import", old, "--hub-key", "--dry-run"); !strings.Contains(out, "1 peers would be taken over") {
		t.Errorf("a trial: %s", out)
	}
	if out := run("peers", "import", old, "--hub-key"); !strings.Contains(out, "1 peers taken over") || !strings.Contains(out, "1 sites made") {
		t.Errorf("import: %s", out)
	}
	if out := run("peers", "list"); !strings.Contains(out, "North") || !strings.Contains(out, "10.8.0.7") || !strings.Contains(out, "never_seen") || !strings.Contains(out, key.String()) {
		t.Errorf("list: %s", out)
	}
	var shown peerView
	if err := json.Unmarshal([]byte(run("peers", "show", "North", "-o", "json")), &shown); err != nil || shown.Address != "10.8.0.7" || len(shown.Networks) != 1 {
		t.Errorf("show: %+v, %v", shown, err)
	}
	site := filepath.Join(dir, "north.conf")
	next := wg.NewPrivate().Public().String()
	refused("another key", "peers", "add", "North", "--public-key", next, "--out", site)
	run("peers", "add", "North", "--public-key", next, "--out", site, "--replace", "--network", "192.168.9.0/24")
	st, err := os.Stat(site)
	text, rerr := os.ReadFile(site)
	if err != nil || rerr != nil || st.Mode().Perm() != 0o600 || !strings.Contains(string(text), private.Public().String()) || !strings.Contains(string(text), "PresharedKey") || !strings.Contains(string(text), "hub.example.com:51987") {
		t.Errorf("the site's file: %v %v %v", st.Mode(), err, rerr)
	}
	refused("no site", "peers", "add", "Nowhere", "--public-key", next, "--out", filepath.Join(dir, "x"))
	if out := run("peers", "rotate", "North"); !strings.Contains(out, "new key ordered") {
		t.Errorf("rotate: %s", out)
	}
	if out := run("peers", "rotate", "--hub"); !strings.Contains(out, "hub.example.com:51988") {
		t.Errorf("rotate --hub: %s", out)
	}
	refused("--yes", "peers", "rotate", "--hub", "--finish")
	run("peers", "rotate", "--hub", "--finish", "--yes")
	refused("name a site", "peers", "rotate")
	out := run("peers", "export")
	if strings.Contains(out, "PrivateKey") || strings.Contains(out, "PresharedKey") || !strings.Contains(out, "# North") {
		t.Errorf("export: %s", out)
	}
	refused("--out", "peers", "export", "--secrets")
	refused("--yes", "peers", "remove", "North")
	run("peers", "remove", "North", "--yes")
	refused("no peer", "peers", "show", "North")
	if out := run("wg", "setup"); !strings.Contains(out, "UDP port") || !strings.Contains(out, "the hub's public key") || !strings.Contains(out, "after a reboot") {
		t.Errorf("wg setup: %s", out)
	}
	if out := run("audit", "search", "--user", "command", "--category", "configuration"); !strings.Contains(out, "peer_removed") || !strings.Contains(out, "hub_key_adopted") {
		t.Errorf("audit: %s", out)
	}
}
