package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a file system and programs of a test.
type machine struct {
	root string
	says map[string]string // output by command line; what is absent is not installed
	ran  []string
}

func newMachine(t *testing.T, files map[string]string, says map[string]string) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), says: says}
	for name, text := range files {
		path := filepath.Join(m.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) run(_ context.Context, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	m.ran = append(m.ran, line)
	out, ok := m.says[line]
	if !ok {
		return "", errNoProgram
	}
	return out, nil
}

func (m *machine) check(t *testing.T, open bool) map[string]Check {
	t.Helper()
	checks, err := CheckServer(t.Context(), Server{Listen: "127.0.0.1:51999", Backend: "auto", OpenFirewall: open, Root: m.root, Run: m.run})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Check{}
	for _, c := range checks {
		out[c.Name] = c
	}
	return out
}

const ruleset = `table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
}
`

func TestWhatAServerOffersToTheTunnel(t *testing.T) {
	root := map[string]string{"proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n", "sys/module/wireguard/version": "1", "dev/net/tun": "", "proc/sys/net/ipv4/ip_forward": "0\n"}
	plain := map[string]string{"proc/self/status": "CapEff:\t0000000000000000\n", "etc/wireguard/wg0.conf": "[Interface]\n"}

	c := newMachine(t, root, nil).check(t, false)
	if b := c["backend"]; b.State != CheckOK || !strings.Contains(b.Found, "best backend here is kernel") {
		t.Errorf("root with the module: %+v", b)
	}
	if f := c["firewall"]; f.State != CheckNote {
		t.Errorf("no firewall: %+v", f)
	}
	c = newMachine(t, plain, nil).check(t, false)
	if b := c["backend"]; b.State != CheckOK || !strings.Contains(b.Found, "best backend here is netstack") {
		t.Errorf("nobody: %+v", b)
	}
	if o := c["older set-up"]; o.State != CheckTodo || !strings.Contains(o.Advice, "peers import") {
		t.Errorf("an older set-up: %+v", o)
	}
}

// The firewall is changed on request only.
func TestTheFirewallIsOpenedOnRequestOnly(t *testing.T) {
	for name, c := range map[string]struct {
		says map[string]string
		opens,
		advice string
	}{
		"ufw": {map[string]string{"ufw status": "Status: active\n\n22/tcp ALLOW Anywhere\n", "ufw allow 51999/udp comment HashInsight": "Rule added\n"}, "ufw allow 51999/udp comment HashInsight", "--open-firewall"},
		"nftables": {map[string]string{"ufw status": "Status: inactive\n", "nft list ruleset": ruleset, `nft insert rule inet filter input udp dport 51999 accept comment "HashInsight"`: ""},
			`nft insert rule inet filter input udp dport 51999 accept comment "HashInsight"`, "/etc/nftables.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, nil, c.says)
			f := m.check(t, false)["firewall"]
			if f.State != CheckTodo || !strings.Contains(f.Advice, c.advice) {
				t.Errorf("unasked: %+v", f)
			}
			for _, line := range m.ran {
				if line == c.opens {
					t.Errorf("unasked it ran %s", line)
				}
			}
			f = m.check(t, true)["firewall"]
			if f.State != CheckOK || !strings.Contains(strings.Join(m.ran, "\n"), c.opens) {
				t.Errorf("on request: %+v; it ran %v", f, m.ran)
			}
		})
	}
	// A name in the ruleset is never more than a name.
	if got := dropping("table inet $(reboot) {\n chain input {\n type filter hook input priority 0; policy drop;\n"); len(got) != 0 {
		t.Errorf("taken: %v", got)
	}
	open := newMachine(t, nil, map[string]string{"nft list ruleset": strings.Replace(ruleset, "ct state", "udp dport 51999 accept\nct state", 1)}).check(t, false)
	if open["firewall"].State != CheckOK {
		t.Errorf("open already: %+v", open["firewall"])
	}
}
