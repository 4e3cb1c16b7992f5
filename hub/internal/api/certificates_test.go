package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

func TestCertificatesAreListed(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		key, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		der, err2 := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		csr, err3 := x509.ParseCertificateRequest(der)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error {
			_, err := w.pki.IssueSite(t.Context(), tx, w.site, csr, 0)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(query string) (l CertificateList) {
		t.Helper()
		res, body := w.get("/api/certificates" + query)
		if err := json.Unmarshal(body, &l); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		return l
	}
	first := ask("?limit=2")
	if len(first.Items) != 2 || first.Next == "" || first.Items[0].State != "pending" || first.Items[0].SiteName != "North" || len(first.Roots) != 1 || first.Roots[0].RootKey != "database" {
		t.Fatalf("%+v", first)
	}
	if rest := ask("?limit=2&cursor=" + first.Next); len(rest.Items) != 1 || rest.Items[0].Serial == first.Items[1].Serial {
		t.Errorf("%+v", rest)
	}
	if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error { return w.pki.RevokeSite(t.Context(), tx, w.site, "sold", "test") }); err != nil {
		t.Fatal(err)
	}
	if l := ask("?site=" + w.site.String()); len(l.Items) != 3 || l.Items[0].State != "revoked" || l.Items[0].RevokedWhy != "sold" {
		t.Errorf("%+v", l)
	}
	if l := ask("?kind=client"); len(l.Items) != 0 {
		t.Errorf("%+v", l)
	}
	for query, want := range map[string]int{"?cursor=x": 400, "?site=x": 422, "?kind=x": 422} {
		if res, body := w.get("/api/certificates" + query); res.StatusCode != want {
			t.Errorf("%s: %d %s", query, res.StatusCode, body)
		}
	}
	if res, _ := w.request("GET", "/api/certificates", "", "Authorization", "Bearer "+w.key("sites:read")); res.StatusCode != http.StatusForbidden {
		t.Errorf("without permission: %d", res.StatusCode)
	}
	// What anyone may have needs no key.
	if res, _ := w.request("GET", "/pki/ca.crl", ""); res.StatusCode != http.StatusOK {
		t.Errorf("the revocation list: %d", res.StatusCode)
	}
}
