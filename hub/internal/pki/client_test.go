package pki_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// key puts an API key into the database, as package access does.
func (w *world) key() uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	if _, err := w.db.Exec(w.t.Context(), `INSERT INTO api_key (id, name, hash, permissions, created_at) VALUES ($1, 'robot', sha256($2), '{miners:read}', $3)`,
		id, id[:], w.clock.now()); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func wantUnauthenticated(t *testing.T, err error, text string) {
	t.Helper()
	var coded *apperr.Error
	if !errors.As(err, &coded) || coded.Kind != apperr.Unauthenticated || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a refusal that speaks of %q", err, text)
	}
}

func TestAPIClients(t *testing.T) {
	w := newWorld(t)
	key := w.key()
	order := pki.ClientOrder{Key: key, Name: "billing", Request: csrOf(t, newSite(t).tls), CommonName: "billing.hashinsight.net", Organization: "HashInsight", Country: "US", By: "test"}
	chain, err := w.a.IssueClient(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if got := chain[0].Subject.String(); got != "CN=billing.hashinsight.net,O=HashInsight,C=US" {
		t.Errorf("the subject is %s", got)
	}
	client, err := w.a.VerifyClient(t.Context(), chain)
	if err != nil || client.Key != key || client.Name != "billing" {
		t.Fatalf("%+v, %v", client, err)
	}
	// A client is no site, and a site no client.
	wantReason(t, w.verify(chain), identity.ReasonCertUnknown)
	_, err = w.a.VerifyClient(t.Context(), w.join("north").chain)
	wantUnauthenticated(t, err, "not an API client's")
	_, err = w.a.VerifyClient(t.Context(), nil)
	wantUnauthenticated(t, err, "no client certificate")
	other := newWorld(t)
	foreign := order
	foreign.Key = other.key()
	elsewhere, err := other.a.IssueClient(t.Context(), foreign)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.a.VerifyClient(t.Context(), elsewhere)
	wantUnauthenticated(t, err, "not issued by this hub")

	for name, change := range map[string]func(o *pki.ClientOrder){
		"no such key":      func(o *pki.ClientOrder) { o.Key = uuid.New() },
		"no name":          func(o *pki.ClientOrder) { o.Name = " " },
		"control letters":  func(o *pki.ClientOrder) { o.CommonName = "a\nb" },
		"a long country":   func(o *pki.ClientOrder) { o.Country = "USA" },
		"no request":       func(o *pki.ClientOrder) { o.Request = nil },
		"for ever":         func(o *pki.ClientOrder) { o.ValidFor = 10 * 365 * 24 * time.Hour },
		"a foreign signer": func(o *pki.ClientOrder) { r := *o.Request; r.PublicKey = newSite(t).tls.Public(); o.Request = &r },
	} {
		bad := order
		change(&bad)
		if _, err := w.a.IssueClient(t.Context(), bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	st, err := w.a.Status(t.Context())
	if err != nil || len(st.Clients) != 1 || st.Clients[0].Key != key.String() {
		t.Errorf("%+v, %v", st.Clients, err)
	}
	if err := w.a.Revoke(t.Context(), chain[0], "left", "test"); err != nil {
		t.Fatal(err)
	}
	_, err = w.a.VerifyClient(t.Context(), chain)
	wantUnauthenticated(t, err, "left")
	late, err := w.a.IssueClient(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(pki.DefaultClientValidity + time.Second)
	_, err = w.a.VerifyClient(t.Context(), []*x509.Certificate{late[0]})
	wantUnauthenticated(t, err, "valid from")
	if _, err := w.db.Exec(t.Context(), `UPDATE api_key SET revoked_at = $1`, w.clock.now()); err != nil {
		t.Fatal(err)
	}
	_, err = w.a.IssueClient(t.Context(), order)
	wantConflict(t, err, "revoked")
}
