package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func siteKeys(t *testing.T) (*ecdsa.PrivateKey, ed25519.PrivateKey) {
	t.Helper()
	k, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, e, err2 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return k, e
}

func siteRequest(t *testing.T) []byte {
	t.Helper()
	k, e := siteKeys(t)
	b, err := NewRequest(k, e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestHoldsBothProofs(t *testing.T) {
	k, e := siteKeys(t)
	b, err := NewRequest(k, e)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRequest(b)
	if err != nil || !r.Evidence.Equal(e.Public()) || !k.PublicKey.Equal(r.CSR.PublicKey) {
		t.Fatalf("got %+v, %v", r, err)
	}
	if bytes.Contains(b, []byte("PRIVATE")) {
		t.Error("the request holds a private key")
	}

	other := siteRequest(t)
	csr, rest := pem.Decode(b)
	_, otherEvidence := pem.Decode(other)
	evidence, _ := pem.Decode(rest)
	evidence.Bytes[40] ^= 1
	csr.Bytes[len(csr.Bytes)-1] ^= 1
	for name, file := range map[string][]byte{
		"empty":                       nil,
		"text":                        []byte("hello"),
		"only the first half":         b[:len(b)-len(rest)],
		"evidence of another request": append(bytes.Clone(b[:len(b)-len(rest)]), otherEvidence...),
		"something after it":          append(bytes.Clone(b), b...),
		"evidence tampered with":      append(bytes.Clone(b[:len(b)-len(rest)]), pem.EncodeToMemory(evidence)...),
		"TLS signature tampered with": append(pem.EncodeToMemory(csr), rest...),
		"too long":                    bytes.Repeat([]byte("x"), MaxFileSize+1),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseRequest(file); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestBundleKeepsWhatItHolds(t *testing.T) {
	k, e := siteKeys(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Unix(2_000_000_000, 0)}
	der, err1 := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	cert, err2 := x509.ParseCertificate(der)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	want := Bundle{
		Site: ident.NewSiteID(), SiteName: `Nørth "1" 矿场`, HubAddress: "[2001:db8::1]:5443",
		Certificate: []*x509.Certificate{cert}, CA: []*x509.Certificate{cert, cert},
		HubEvidence: []ed25519.PublicKey{e.Public().(ed25519.PublicKey)},
	}
	file, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseBundle(file)
	if err != nil || got.Site != want.Site || got.SiteName != want.SiteName || got.HubAddress != want.HubAddress ||
		!got.Certificate[0].Equal(cert) || len(got.CA) != 2 || !got.HubEvidence[0].Equal(want.HubEvidence[0]) {
		t.Errorf("got %+v, %v", got, err)
	}
	// A newer hub may say more.
	if _, err := ParseBundle(bytes.Replace(file, []byte("{"), []byte(`{"later": {"x": 1},`), 1)); err != nil {
		t.Errorf("an unknown member is refused: %v", err)
	}
	for name, change := range map[string][2]string{
		"another format": {bundleFormat, "hsi/site-bundle/v9"}, "no site": {want.Site.String(), ""}, "address without port": {"[2001:db8::1]:5443", "hub"},
		"broken certificate": {"BEGIN CERTIFICATE", "BEGIN SOMETHING"}, "no evidence key": {"hub_evidence_keys", "keys"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseBundle([]byte(strings.ReplaceAll(string(file), change[0], change[1]))); err == nil {
				t.Error("taken")
			}
		})
	}
	want.HubEvidence = nil
	if _, err := want.Encode(); err == nil {
		t.Error("a bundle that nobody could use was encoded")
	}
}
