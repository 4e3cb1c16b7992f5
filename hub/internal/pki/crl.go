package pki

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// Times of a revocation list.
const (
	crlEvery = 10 * time.Minute // at the latest; a revocation makes a new one at once
	crlValid = time.Hour        // after which a client must not use it any more
)

// crlFile is a revocation list as it is served.
type crlFile struct {
	der     []byte
	version uint64 // of the revocations in it
	madeAt  time.Time
	seen    time.Time // the revocations agreed with the database then
}

// CRL returns the revocation list of an issuer, signed by it, and when it was made.
func (a *Authority) crl(ctx context.Context, by *issuer) (*crlFile, error) {
	a.crlMu.Lock()
	defer a.crlMu.Unlock()
	now := a.now().UTC()
	list, version, seen := a.revoked.of(by)
	old := a.crls[by.id]
	if old != nil && old.version == version && now.Sub(old.madeAt) < crlEvery && !now.Before(old.madeAt) {
		return old, nil
	}
	// A process that cannot reach the database must not vouch for what it does not know: its list ends with its knowledge.
	if now.Sub(seen) >= crlValid {
		return nil, fmt.Errorf("what is revoked was last read at %s: the database does not answer", seen.UTC().Format(time.RFC3339))
	}
	tmpl := &x509.RevocationList{
		// Milliseconds grow with every list, in whichever process it is made.
		Number: big.NewInt(now.UnixMilli()), ThisUpdate: seen.UTC().Truncate(time.Second), NextUpdate: seen.UTC().Add(crlValid).Truncate(time.Second),
		RevokedCertificateEntries: make([]x509.RevocationListEntry, 0, len(list)),
	}
	for s, r := range list {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(s[:]), RevocationTime: r.at.UTC()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, by.cert, by.key)
	if err != nil {
		return nil, fmt.Errorf("making a revocation list: %w", err)
	}
	fresh := &crlFile{der: der, version: version, madeAt: now, seen: seen}
	a.crls[by.id] = fresh
	a.log.DebugContext(ctx, "revocation list made", "issuer", by.id.String(), "entries", len(list), "bytes", len(der))
	return fresh, nil
}

// CRL returns the active issuer's revocation list, DER.
func (a *Authority) CRL(ctx context.Context) ([]byte, error) {
	f, err := a.crl(ctx, a.set.Load().active())
	if err != nil {
		return nil, err
	}
	return f.der, nil
}

// ParseCRL reads a revocation list, DER, and checks that issuer signed it and that it has not ended: reading alone accepts a list that was tampered with.
func ParseCRL(der []byte, issuer *x509.Certificate, now time.Time) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	if now.After(list.NextUpdate) {
		return nil, fmt.Errorf("revocation list: it ended on %s", list.NextUpdate.UTC().Format(time.RFC3339))
	}
	return list, nil
}
