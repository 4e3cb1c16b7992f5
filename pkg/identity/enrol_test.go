package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestTokenComesBackAndTellsItsHub(t *testing.T) {
	root := sha256.Sum256([]byte("root"))
	for _, env := range []string{"prod", "dev"} {
		for range 200 {
			made := NewToken(env, root)
			got, err := ParseToken("  " + made.Reveal() + "\n")
			if err != nil {
				t.Fatal(err)
			}
			if got != made || got.Root != root || got.Hash() != made.Hash() || got.Hash() != sha256.Sum256([]byte(made.Reveal())) {
				t.Fatalf("%s came back as another token", made)
			}
		}
	}
}

func TestTokenSecretIsNeverShownByAccident(t *testing.T) {
	token := NewToken("prod", sha256.Sum256([]byte("root")))
	secret := token.Reveal()[len("hsi_prod_join_")+tokenIDDigits+1:]
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token)
	asJSON, err := json.Marshal(map[string]any{"token": token})
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", token), "%+v": fmt.Sprintf("%+v", token), "%#v": fmt.Sprintf("%#v", token), "%s": fmt.Sprint(token),
		"log": log.String(), "json": string(asJSON),
	} {
		if strings.Contains(shown, secret) || strings.Contains(shown, "secret:") {
			t.Errorf("%s shows the secret: %s", name, shown)
		}
		if !strings.Contains(shown, token.ID) {
			t.Errorf("%s does not say which token: %s", name, shown)
		}
	}
}

func TestWhatIsNoTokenIsSaidWithoutRepeatingIt(t *testing.T) {
	good := NewToken("prod", sha256.Sum256(nil)).Reveal()
	for name, text := range map[string]string{
		"empty": "", "an API key": "hsi_prod_key_" + strings.Repeat("a", 43), "cut": good[:len(good)-1], "longer": good + "a", "other env": strings.Replace(good, "prod", "test", 1),
		"bad digit": good[:len(good)-1] + "-", "too large": good[:len(good)-tokenSecretDigits] + strings.Repeat("Z", tokenSecretDigits), "huge": strings.Repeat("a", 1<<20),
		"newline inside": good[:30] + "\n" + good[30:],
	} {
		_, err := ParseToken(text)
		if !errors.Is(err, ErrNotToken) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(text) > 20 && strings.Contains(err.Error(), text[15:20]) && !strings.Contains("hsi_prod_join_…", text[15:20]) {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
}

func TestWireGuardProofIsBoundToEverythingItNames(t *testing.T) {
	site, err1 := ecdh.X25519().GenerateKey(rand.Reader)
	hub, err2 := ecdh.X25519().GenerateKey(rand.Reader)
	other, err3 := ecdh.X25519().GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	pub := site.PublicKey().Bytes()
	made, err := WireGuardProof(site, hub.PublicKey(), pub, []byte("challenge"), []byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	same, err := WireGuardProof(hub, site.PublicKey(), pub, []byte("challenge"), []byte("request"))
	if err != nil || !bytes.Equal(made, same) {
		t.Fatalf("the hub computes another proof (%v)", err)
	}
	for name, p := range map[string]func() ([]byte, error){
		"another challenge": func() ([]byte, error) {
			return WireGuardProof(hub, site.PublicKey(), pub, []byte("c"), []byte("request"))
		},
		"another request": func() ([]byte, error) { return WireGuardProof(hub, site.PublicKey(), pub, []byte("challenge"), nil) },
		"another key": func() ([]byte, error) {
			return WireGuardProof(other, hub.PublicKey(), pub, []byte("challenge"), []byte("request"))
		},
	} {
		got, err := p()
		if err != nil || bytes.Equal(got, made) {
			t.Errorf("%s gives the same proof (%v)", name, err)
		}
	}
	low, err := ecdh.X25519().NewPublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WireGuardProof(hub, low, make([]byte, 32), nil, nil); err == nil {
		t.Error("a key of low order proves something")
	}
}

func TestFingerprintNamesAllThreeKeys(t *testing.T) {
	request := func() Request {
		r, err := ParseRequest(siteRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := request(), request()
	mixed := a
	mixed.Evidence = b.Evidence
	wg, wg2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	seen := map[string]bool{}
	for _, f := range []string{a.Fingerprint(wg), a.Fingerprint(wg2), a.Fingerprint(nil), b.Fingerprint(wg), mixed.Fingerprint(wg)} {
		if len(f) != 39 || seen[f] {
			t.Errorf("fingerprint %q has another form, or names other keys too", f)
		}
		seen[f] = true
	}
}

func TestEveryReasonSaysWhatToDo(t *testing.T) {
	for _, r := range Reasons() {
		if len(WhatNext(r)) < 30 {
			t.Errorf("%s: %q", r, WhatNext(r))
		}
	}
	if !slices.Contains(Reasons(), ReasonTokenUsed) || Permanent("") || !Permanent(ReasonSiteRevoked) {
		t.Error("the list of reasons is not the one meant")
	}
}

func TestTunnelTravelsInTheBundle(t *testing.T) {
	ca := newParty(t, nil, nil)
	_, e := siteKeys(t)
	b := Bundle{
		Site: ident.NewSiteID(), SiteName: "north", HubAddress: "hub.example:5443", Certificate: []*x509.Certificate{ca.cert}, CA: []*x509.Certificate{ca.cert},
		HubEvidence: []ed25519.PublicKey{e.Public().(ed25519.PublicKey)}, //nolint:forcetypeassert // ed25519 has no other
	}
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	b.FallbackAddress = "hub.example:443"
	b.Tunnel = &Tunnel{
		PublicKey: key, Address: netip.MustParsePrefix("10.8.0.7/32"), HubKeys: []string{key}, Endpoint: "hub.example:51820", HubAddress: "10.8.0.1:5443",
		Keepalive: 25 * time.Second, PresharedKey: PSKID([]byte("x")),
	}
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tunnel == nil || fmt.Sprint(*got.Tunnel) != fmt.Sprint(*b.Tunnel) || got.FallbackAddress != b.FallbackAddress {
		t.Errorf("got %+v, want %+v", got.Tunnel, b.Tunnel)
	}
	for _, broken := range []Tunnel{
		{}, {PublicKey: key, Address: b.Tunnel.Address, Endpoint: "h:1", HubAddress: "10.8.0.1:1"},
		{PublicKey: "x", Address: b.Tunnel.Address, HubKeys: []string{key}, Endpoint: "h:1", HubAddress: "10.8.0.1:1"},
		{PublicKey: key, Address: b.Tunnel.Address, HubKeys: []string{key}, Endpoint: "h", HubAddress: "10.8.0.1:1"},
		{PublicKey: key, Address: b.Tunnel.Address, HubKeys: []string{key}, Endpoint: "h:1", HubAddress: "hub:1"},
		{PublicKey: key, Address: b.Tunnel.Address, HubKeys: []string{key}, Endpoint: "h:1", HubAddress: "10.8.0.1:1", Keepalive: -time.Second},
	} {
		b.Tunnel = &broken
		if _, err := b.Encode(); err == nil {
			t.Errorf("%+v is handed out", broken)
		}
	}
}
