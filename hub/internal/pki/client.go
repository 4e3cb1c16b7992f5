package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// ClientOrder is a certificate for a program or person that calls the API.
type ClientOrder struct {
	Key          uuid.UUID // the API key whose permissions the certificate has
	Name         string    // for lists, up to 100 bytes
	Request      *x509.CertificateRequest
	CommonName   string // this and the next two: of the subject, which patterns of allowed names look at
	Organization string
	Country      string        // two letters
	ValidFor     time.Duration // 0 means DefaultClientValidity
	By           string        // who orders it
}

const qAPIKey = `SELECT revoked_at IS NOT NULL FROM api_key WHERE id = $1`

// IssueClient makes an API client's certificate: the leaf first, then the intermediate. The names in the request are ignored.
func (a *Authority) IssueClient(ctx context.Context, o ClientOrder) (chain []*x509.Certificate, err error) {
	if o.ValidFor == 0 {
		o.ValidFor = DefaultClientValidity
	}
	o.Name = strings.TrimSpace(o.Name)
	invalid := func(format string, args ...any) error {
		return apperr.E(apperr.Invalid, "VALID_001", format, args...)
	}
	switch {
	case o.ValidFor < 0 || o.ValidFor > maxValidity:
		return nil, invalid("a certificate cannot be valid for %v: the most is %v", o.ValidFor, maxValidity)
	case o.Request == nil:
		return nil, invalid("there is no certificate request")
	case o.Request.CheckSignature() != nil:
		return nil, invalid("the request is not signed by its own key: make it again")
	case o.Name == "" || len(o.Name) > 100:
		return nil, invalid("a client's name has 1 to 100 bytes, this one has %d", len(o.Name))
	case o.Country != "" && (len(o.Country) != 2 || strings.ToUpper(o.Country) != o.Country):
		return nil, invalid("country %.10q: want two capital letters, such as US", o.Country)
	}
	subject := pkix.Name{CommonName: o.CommonName}
	for field, v := range map[string]string{"common name": o.CommonName, "organization": o.Organization, "name": o.Name} {
		if len(v) > 64 && field != "name" || strings.ContainsFunc(v, unicode.IsControl) {
			return nil, invalid("the %s has at most 64 bytes and no control characters", field)
		}
	}
	if o.Organization != "" {
		subject.Organization = []string{o.Organization}
	}
	if o.Country != "" {
		subject.Country = []string{o.Country}
	}
	if err := checkClientKey(o.Request.PublicKey); err != nil {
		return nil, err
	}
	t := template{kind: "client", profile: "client", key: &o.Key, name: o.Name}
	t.Subject = subject
	t.URIs = append(t.URIs, identity.ClientURI(o.Key))
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	err = a.inTx(ctx, func(tx pgx.Tx) error {
		var revoked bool
		err := tx.QueryRow(ctx, qAPIKey, o.Key).Scan(&revoked)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no API key %s: its permissions are the certificate's", o.Key)
		case err != nil:
			return fmt.Errorf("API key %s: %w", o.Key, err)
		case revoked:
			return errConflict("API key %s was revoked", o.Key)
		}
		by := a.set.Load().active()
		cert, err := a.issue(ctx, tx, by, t, o.Request.PublicKey, o.ValidFor)
		if err != nil {
			return err
		}
		chain = by.chain(cert)
		return a.audit(ctx, tx, audit.Security, "certificate_issued", o.By, map[string]any{
			"profile": "client", "serial": hex.EncodeToString(serialBytes(cert)), "key_id": o.Key.String(), "name": o.Name, "subject": cert.Subject.String(), "not_after": cert.NotAfter,
		})
	})
	if err != nil {
		return nil, err
	}
	return chain, nil
}

// Client is an API client after its certificate has been checked.
type Client struct {
	Key      uuid.UUID // whose permissions it has, if that key still counts
	Name     string
	Subject  pkix.Name
	NotAfter time.Time
}

const qClientCert = `
SELECT der = $2, revoked_at IS NOT NULL, coalesce(revoked_why, ''), key_id, coalesce(name, '') FROM certificate WHERE serial = $1 AND kind = 'client'`

// VerifyClient decides whether an API client's certificate counts now; the leaf comes first. Its subject is the caller's to filter.
func (a *Authority) VerifyClient(ctx context.Context, chain []*x509.Certificate) (Client, error) {
	refused := func(format string, args ...any) (Client, error) {
		return Client{}, apperr.E(apperr.Unauthenticated, "AUTH_001", format, args...)
	}
	s := a.set.Load()
	if s == nil {
		return Client{}, apperr.E(apperr.Unavailable, "API_003", "the hub is starting")
	}
	if len(chain) == 0 || chain[0] == nil {
		return refused("no client certificate was shown")
	}
	leaf := chain[0]
	key, err := identity.ClientOf(leaf)
	if err != nil {
		return refused("%v", err)
	}
	number, ok := serialOf(leaf)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.rootPool, Intermediates: s.intermediates, CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil || !ok {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return refused("the client certificate is valid from %s to %s", leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		return refused("the client certificate was not issued by this hub")
	}
	if r, ok := a.revoked.get(number); ok {
		return refused("the client certificate was revoked: %s", r.why)
	}
	var same, revoked bool
	var why, name string
	var recorded *uuid.UUID
	err = a.db.QueryRow(ctx, qClientCert, number[:], leaf.Raw).Scan(&same, &revoked, &why, &recorded, &name)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && (!same || recorded == nil || *recorded != key):
		return refused("the client certificate is not in this hub's database")
	case err != nil:
		return Client{}, fmt.Errorf("checking a client certificate: %w", err)
	case revoked:
		return refused("the client certificate was revoked: %s", why)
	}
	return Client{Key: key, Name: name, Subject: leaf.Subject, NotAfter: leaf.NotAfter}, nil
}
