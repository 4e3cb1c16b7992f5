package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha1" //nolint:gosec // names issuers in requests: RFC 6960 clients must be able to; nothing is trusted for it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ocsp"
)

// Times and bounds of OCSP answers.
const (
	ocspValid    = time.Hour
	stapleEvery  = 5 * time.Minute
	ocspKept     = time.Minute // that an answer is served again, unless something was revoked
	ocspEntries  = 4096        // answers kept
	ocspParallel = 4           // answers being made, each of which may cost a query
)

// responder signs OCSP answers of one issuer, with a certificate of its own: the issuer's key is used as little as can be.
type responder struct {
	cert    *x509.Certificate
	key     crypto.Signer
	renewAt time.Time
}

// responderOf returns an issuer's responder, a new one when half of its certificate's life is over. The caller holds mu.
func (a *Authority) responderOf(ctx context.Context, by *issuer) (*responder, error) {
	now := a.now()
	if r := a.responders[by.id]; r != nil && now.Before(r.renewAt) {
		return r, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := a.issue(ctx, nil, by, ocspTemplate(), key.Public(), serverValidity)
	if err != nil {
		return nil, err
	}
	r := &responder{cert: cert, key: key, renewAt: now.Add(serverValidity / 2)}
	a.responders[by.id] = r
	return r, nil
}

// sign makes an answer about a certificate.
func (r *responder) sign(by *issuer, t ocsp.Response, now time.Time) ([]byte, error) {
	t.ThisUpdate, t.NextUpdate = now.UTC().Truncate(time.Second), now.UTC().Add(ocspValid).Truncate(time.Second)
	t.Certificate = r.cert
	der, err := ocsp.CreateResponse(by.cert, r.cert, t, r.key)
	if err != nil {
		return nil, fmt.Errorf("making an OCSP answer: %w", err)
	}
	return der, nil
}

// staple makes the answer that the hub shows with its own certificate. Without one, agents go on. The caller holds mu.
func (a *Authority) staple(ctx context.Context, by *issuer, now time.Time) {
	r, err := a.responderOf(ctx, by)
	if err == nil {
		var der []byte
		if der, err = r.sign(by, ocsp.Response{Status: ocsp.Good, SerialNumber: a.server.tls.Leaf.SerialNumber}, now); err == nil {
			t := *a.server.tls // handshakes under way use the old one
			t.OCSPStaple = der
			a.server.tls = &t
		}
	}
	if err != nil {
		a.log.WarnContext(ctx, "the hub's certificate has no OCSP staple", "err", err)
	}
	a.server.stapleAt = now.Add(stapleEvery)
}

type ocspKey struct {
	issuer issuerID
	hash   crypto.Hash // by which the request names the issuer, and so does the answer
	serial serial
}

type ocspAnswer struct {
	der     []byte
	version uint64 // of the revocations
	madeAt  time.Time
	until   time.Time
}

type ocspCache struct {
	mu      sync.Mutex
	entries map[ocspKey]ocspAnswer
	making  int
}

var errBusy = errors.New("too many OCSP answers are being made")

const qOCSP = `SELECT revoked_at, issuer FROM certificate WHERE serial = $1`

// answer returns the answer to an OCSP request, DER, and until when it may be kept.
func (a *Authority) answer(ctx context.Context, request []byte) (der []byte, until time.Time, err error) {
	req, err := ocsp.ParseRequest(request)
	if err != nil {
		return ocsp.MalformedRequestErrorResponse, time.Time{}, nil // which says so
	}
	by := a.issuerNamed(req)
	if by == nil || req.SerialNumber.Sign() < 0 || req.SerialNumber.BitLen() > 128 {
		return ocsp.UnauthorizedErrorResponse, time.Time{}, nil // RFC 5019, 2.2.3: no answer is known
	}
	key := ocspKey{issuer: by.id, hash: req.HashAlgorithm}
	req.SerialNumber.FillBytes(key.serial[:])
	_, version, seen := a.revoked.state()
	now := a.now()
	if now.Sub(seen) >= ocspValid {
		return ocsp.TryLaterErrorResponse, time.Time{}, nil
	}
	if der, until, ok, err := a.ocsp.begin(key, version, now); ok || err != nil {
		return der, until, err
	}
	defer a.ocsp.end()
	t := ocsp.Response{SerialNumber: req.SerialNumber, IssuerHash: req.HashAlgorithm, Status: ocsp.Good}
	var revokedAt *time.Time
	var issued []byte
	err = a.db.QueryRow(ctx, qOCSP, key.serial[:]).Scan(&revokedAt, &issued)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !bytes.Equal(issued, by.id[:]) && (len(issued) > 0 || !by.single()):
		t.Status = ocsp.Unknown
	case err != nil:
		return nil, time.Time{}, fmt.Errorf("OCSP: %w", err)
	case revokedAt != nil:
		t.Status, t.RevokedAt = ocsp.Revoked, revokedAt.UTC()
	}
	a.mu.Lock()
	r, err := a.responderOf(ctx, by)
	a.mu.Unlock()
	if err != nil {
		return nil, time.Time{}, err
	}
	if der, err = r.sign(by, t, now); err != nil {
		return nil, time.Time{}, err
	}
	until = now.Add(ocspKept)
	a.ocsp.keep(key, ocspAnswer{der: der, version: version, madeAt: now, until: until})
	return der, until, nil
}

// begin returns a kept answer, or makes room for one to be made.
func (c *ocspCache) begin(key ocspKey, version uint64, now time.Time) (der []byte, until time.Time, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok && e.version == version && now.Before(e.until) && !now.Before(e.madeAt) {
		return e.der, e.until, true, nil
	}
	if c.making >= ocspParallel {
		return nil, time.Time{}, false, errBusy
	}
	c.making++
	return nil, time.Time{}, false, nil
}

func (c *ocspCache) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.making--
}

func (c *ocspCache) keep(key ocspKey, e ocspAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= ocspEntries {
		for k := range c.entries { // any: they last a minute
			delete(c.entries, k)
			break
		}
	}
	c.entries[key] = e
}

// issuerNamed finds the issuer that a request means by the hashes of its name and key.
func (a *Authority) issuerNamed(req *ocsp.Request) *issuer {
	if !req.HashAlgorithm.Available() {
		return nil
	}
	for _, i := range a.set.Load().trusted() {
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			PublicKey asn1.BitString
		}
		if _, err := asn1.Unmarshal(i.cert.RawSubjectPublicKeyInfo, &info); err != nil {
			continue // it was parsed before
		}
		sum := func(b []byte) []byte { h := req.HashAlgorithm.New(); h.Write(b); return h.Sum(nil) }
		if bytes.Equal(sum(i.cert.RawSubject), req.IssuerNameHash) && bytes.Equal(sum(info.PublicKey.RightAlign()), req.IssuerKeyHash) {
			return i
		}
	}
	return nil
}
