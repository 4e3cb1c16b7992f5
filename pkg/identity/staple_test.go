package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestASiteLooksAtTheHubsOCSPAnswer(t *testing.T) {
	ca, foreign := newParty(t, nil, nil), newParty(t, nil, nil)
	hub, site := newParty(t, ca, HubURI()), newParty(t, ca, SiteURI(ident.NewSiteID()))
	responder := func(by *party, usage x509.ExtKeyUsage) *party {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(9), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, key.Public(), by.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &party{cert, key}
	}
	answer := func(by *party, status int, at time.Time) []byte {
		der, err := ocsp.CreateResponse(ca.cert, by.cert, ocsp.Response{
			Status: status, SerialNumber: hub.cert.SerialNumber, ThisUpdate: at, NextUpdate: at.Add(time.Hour), RevokedAt: at, Certificate: by.cert,
		}, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := responder(ca, x509.ExtKeyUsageOCSPSigning)
	for name, c := range map[string]struct {
		staple   []byte
		revoked  bool
		unproven bool
	}{
		"good":                        {answer(good, ocsp.Good, noon), false, false},
		"revoked":                     {answer(good, ocsp.Revoked, noon), true, false},
		"revoked long ago":            {answer(good, ocsp.Revoked, noon.Add(-48*time.Hour)), true, false},
		"none":                        {nil, false, true},
		"bytes":                       {[]byte("hello"), false, true},
		"an old one":                  {answer(good, ocsp.Good, noon.Add(-3*time.Hour)), false, true},
		"by another CA":               {answer(responder(foreign, x509.ExtKeyUsageOCSPSigning), ocsp.Good, noon), false, true},
		"good, signed by a site":      {answer(site, ocsp.Good, noon), false, true},
		"revoked, signed by a site":   {answer(site, ocsp.Revoked, noon), false, true},
		"signed by one for something": {answer(responder(ca, x509.ExtKeyUsageClientAuth), ocsp.Good, noon), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			var told error
			client := Client{CA: func() []*x509.Certificate { return []*x509.Certificate{ca.cert} }, Unproven: func(why error) { told = why }}
			state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{hub.cert}, OCSPResponse: c.staple}
			err := client.verifyHub(state, noon)
			if errors.Is(err, ErrHubRevoked) != c.revoked || (err != nil) != c.revoked || (told != nil) != c.unproven {
				t.Errorf("got %v, told %v", err, told)
			}
			client.RequireStaple = true
			if err := client.verifyHub(state, noon); (err != nil) != (c.revoked || c.unproven) {
				t.Errorf("where it is required: %v", err)
			}
		})
	}
}
