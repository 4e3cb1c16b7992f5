package peers

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/wg"
)

func TestAnOlderSetUpIsTakenOver(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	private, psk := wg.NewPrivate(), wg.NewPSK()
	keys := []wg.Key{newKey(), newKey(), newKey(), newKey()}
	file := fmt.Sprintf(`# WireGuard of the old hub
[Interface]
PrivateKey = %s
Address = 10.8.0.1/16
ListenPort = 51820
PostUp = iptables -A FORWARD -i wg0 -j ACCEPT

# Site North
[Peer]
PublicKey = %s
PresharedKey = %s
AllowedIPs = 10.8.0.7/32, 192.168.7.0/24
Endpoint = north.example.com:51820
PersistentKeepalive = 30

[Peer] # South
PublicKey=%s
AllowedIPs=10.8.0.3

[Peer]
# friendly_name = West
PublicKey = %s
AllowedIPs = 10.8.0.4/32

[Peer]
PublicKey = %s
AllowedIPs = 10.8.0.5/32
`, private.Reveal(), keys[0], psk.Reveal(), keys[1], keys[2], keys[3])
	conf, err := ParseConf(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := b.Import(t.Context(), conf, true, true, "command"); err != nil || out.Added != 4 {
		t.Fatalf("a trial: %+v, %v", out, err)
	}
	if list, err := b.List(t.Context(), Position{}, true, 10); err != nil || len(list) != 0 {
		t.Fatalf("a trial left %v, %v", list, err)
	}
	out, err := b.Import(t.Context(), conf, true, false, "command")
	if err != nil || out.Added != 4 || out.Sites != 4 || out.HubKey != private.Public() {
		t.Fatalf("%+v, %v", out, err)
	}
	p, err := b.Find(t.Context(), "North")
	if err != nil || p.Address.String() != "10.8.0.7" || len(p.Networks) != 1 || p.Networks[0].String() != "192.168.7.0/24" || p.Endpoint != "north.example.com:51820" || p.Keepalive != 30*time.Second {
		t.Errorf("North is %+v, %v", p, err)
	}
	if k, err := b.KeysOf(t.Context(), b.pool, p.Site); err != nil || k.PSK != psk {
		t.Errorf("its preshared key is another: %v", err)
	}
	for _, name := range []string{"South", "West", "peer " + keys[3].String()[:8]} {
		q, err := b.Find(t.Context(), name)
		if err != nil {
			t.Error(err)
			continue
		}
		if k, err := b.KeysOf(t.Context(), b.pool, q.Site); err != nil || !k.PSK.IsZero() {
			t.Errorf("%s got a preshared key that its site does not know: %v", name, err)
		}
	}
	// What is exported is what was imported.
	text, err := b.Export(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConf(bytes.NewReader(text))
	if err != nil || again.Private != private || again.Port != 51820 || len(again.Peers) != 4 {
		t.Fatalf("exported: %v\n%s", err, strings.ReplaceAll(string(text), private.Reveal(), "…"))
	}
	if out, err := b.Import(t.Context(), again, true, false, "command"); err != nil || out.Added != 0 && out.Sites != 0 {
		t.Errorf("importing the export: %+v, %v", out, err)
	}
	if text, err = b.Export(t.Context(), false); err != nil || bytes.Contains(text, []byte(psk.Reveal())) || bytes.Contains(text, []byte(private.Reveal())) {
		t.Errorf("an export without secrets has one: %v", err)
	}
	// New sites do not get an address that was imported.
	if q := b.add(b.site("New"), newKey()); q.Address.String() == "10.8.0.3" || q.Address.String() == "10.8.0.7" {
		t.Errorf("a new site got %s", q.Address)
	}
}

func TestAllProblemsOfAFileAreTold(t *testing.T) {
	key := newKey()
	secret := wg.NewPSK().Reveal()
	_, err := ParseConf(strings.NewReader(fmt.Sprintf(`stray = 1
[Interface]
ListenPort = many
PrivateKey = %s=
# A
[Peer]
PublicKey = %s
AllowedIPs = 10.8.0.300
# A
[Peer]
PublicKey = %s
Endpoint = x; reboot:1
[Peer]
AllowedIPs = 10.8.0.4/32
PublicKy = x
`, secret, key, key)))
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"line 1:", "line 3:", "line 4:", "line 8:", "line 10:", "line 12:", "line 13:", "line 15:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Error("a secret is repeated")
	}
}

// Nothing of a file is taken over unless all of it can be.
func TestAnImportIsAllOrNothing(t *testing.T) {
	b := newBook(t, "10.8.0.0/16")
	held := b.add(b.site("Held"), newKey())
	conf := Conf{Peers: []ConfPeer{
		{Line: 1, Name: "good", PublicKey: newKey(), Allowed: prefixes("10.8.0.9/32")},
		{Line: 2, Name: "elsewhere", PublicKey: newKey(), Allowed: prefixes("10.9.0.9/32")},
		{Line: 3, Name: "thief", PublicKey: held.PublicKey, Allowed: prefixes("10.8.0.10/32")},
		{Line: 4, Name: "squatter", PublicKey: newKey(), Allowed: prefixes(held.Address.String() + "/32")},
	}}
	_, err := b.Import(t.Context(), conf, false, false, "command")
	for _, want := range []string{`line 2, "elsewhere"`, "WG_NETWORK", `line 3, "thief"`, `line 4, "squatter"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
	if list, err := b.List(t.Context(), Position{}, true, 10); err != nil || len(list) != 1 {
		t.Errorf("the import left %d peers, %v", len(list), err)
	}
}

func FuzzParseConf(f *testing.F) {
	f.Add("[Interface]\nPrivateKey = x\n# A\n[Peer]\nPublicKey = AAAA\nAllowedIPs = 10.8.0.2/32, ::/0\n")
	f.Add("[Peer]\n# \x00Name = \xff\nEndpoint = [::1]:1\nPersistentKeepalive = off\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConf(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range c.Peers {
			if p.PublicKey.IsZero() || p.Name == "" || len(p.Name) > 100 || strings.ContainsAny(p.Name, "\n\r\x00") {
				t.Errorf("taken: %+v", p.Name)
			}
		}
	})
}
