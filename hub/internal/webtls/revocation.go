package webtls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	fetchTimeout = 5 * time.Second
	maxList      = 16 << 20 // bytes of a revocation list, some 400,000 entries
	maxAnswer    = 64 << 10
	listEvery    = 10 * time.Minute // between two reads of a list behind a URL; a file is read when it changes
	listRetry    = 30 * time.Second
	ocspFor      = 5 * time.Minute // longest that an answer is used
	ocspRetry    = 30 * time.Second
	ocspEntries  = 4096
	ocspSkew     = 5 * time.Minute // between our clock and the responder's
	ocspMaxAge   = 24 * time.Hour  // of an answer that does not say how long it is good for
)

// revocations is a configured list as last read.
type revocations struct {
	due        time.Time
	stamp      []stamp
	issuer     []byte // raw subject of the CA; nil while no list has been read
	issuerKey  []byte // its public key, as in the certificate
	serials    map[string]bool
	thisUpdate time.Time
	nextUpdate time.Time
}

// refreshCRLs reads the lists that are due.
func (t *TLS) refreshCRLs(ctx context.Context) {
	for i, place := range t.c.CRLs {
		t.mu.Lock()
		r := t.crls[place]
		t.mu.Unlock()
		isURL := strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://")
		now := t.now()
		var st []stamp
		if isURL {
			if r != nil && now.Before(r.due) {
				continue
			}
		} else if st = stampOf(place); r != nil && r.issuer != nil && st[0] == r.stamp[0] {
			continue
		}
		next, err := t.readCRL(ctx, place, isURL)
		if err == nil && r != nil && r.issuer != nil && next.thisUpdate.Before(r.thisUpdate) {
			err = fmt.Errorf("it is older (%s) than the one before (%s)", next.thisUpdate.UTC().Format(time.RFC3339), r.thisUpdate.UTC().Format(time.RFC3339))
		}
		if err != nil {
			t.metrics.lists.WithLabelValues("failed").Inc()
			t.log.ErrorContext(ctx, "a revocation list of client certificates cannot be used; the one before holds until it runs out, then its CA's clients are refused",
				"list", i+1, "err", err)
			next = &revocations{}
			if r != nil {
				*next = *r
			}
			next.due, next.stamp = now.Add(listRetry), st
		} else {
			t.metrics.lists.WithLabelValues("ok").Inc()
			t.metrics.listAge.WithLabelValues(strconv.Itoa(i + 1)).Set(float64(next.nextUpdate.Unix()))
			next.due, next.stamp = now.Add(listEvery), st
		}
		t.mu.Lock()
		t.crls[place] = next
		clear(t.passed)
		t.mu.Unlock()
	}
}

func (t *TLS) readCRL(ctx context.Context, place string, isURL bool) (*revocations, error) {
	var text []byte
	var err error
	if isURL {
		if text, err = t.fetch(ctx, http.MethodGet, place, "", nil, maxList); err != nil {
			return nil, err
		}
	} else if text, err = readFile(place, maxList); err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, err
	}
	// Parsing takes tampered bytes: only the signature tells.
	for _, ca := range t.current().cas {
		if !bytes.Equal(list.RawIssuer, ca.RawSubject) || list.CheckSignatureFrom(ca) != nil {
			continue
		}
		r := &revocations{
			issuer: ca.RawSubject, issuerKey: ca.RawSubjectPublicKeyInfo, thisUpdate: list.ThisUpdate, nextUpdate: list.NextUpdate,
			serials: make(map[string]bool, len(list.RevokedCertificateEntries)),
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.ReasonCode == 8 { // removeFromCRL
				continue
			}
			r.serials[string(e.SerialNumber.Bytes())] = true
		}
		return r, nil
	}
	return nil, errors.New("it is not signed by one of the CAs that may name clients (intermediate CAs belong in that file too)")
}

// checkLists looks a certificate up in the lists of its issuer. A configured list that is not there, or has run out, stops all.
func (t *TLS) checkLists(c, issuer *x509.Certificate, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, place := range t.c.CRLs {
		r := t.crls[place]
		switch {
		case r == nil || r.issuer == nil: // nobody knows whose it would be
			return refusal(ReasonUnknown, "whether the client certificate is revoked cannot be found out now")
		case !bytes.Equal(r.issuer, issuer.RawSubject) || !bytes.Equal(r.issuerKey, issuer.RawSubjectPublicKeyInfo):
			continue
		case r.serials[string(c.SerialNumber.Bytes())]:
			return refusal(ReasonRevoked, "the client certificate, or a CA above it, was revoked by its issuer")
		case !r.nextUpdate.IsZero() && now.After(r.nextUpdate):
			return refusal(ReasonUnknown, "whether the client certificate is revoked cannot be found out now: revocation list %d has run out", i+1)
		}
	}
	return nil
}

// answer is what a responder said about a certificate.
type answer struct {
	done  chan struct{} // closed when it is there
	err   error         // *Error when the certificate does not count, another when the responder did not say
	until time.Time
}

// checkOCSP asks the certificate's responder, at most once in a while, however many requests come.
func (t *TLS) checkOCSP(ctx context.Context, c, issuer *x509.Certificate, now time.Time) error {
	if t.c.OCSP == "" || t.c.OCSP == OCSPOff || len(c.OCSPServer) == 0 {
		return nil
	}
	sum := sha256.Sum256(append(append([]byte{}, issuer.RawSubjectPublicKeyInfo...), c.Raw...))
	key := string(sum[:])
	t.mu.Lock()
	a := t.ocsp[key]
	fresh := a == nil
	if a != nil {
		select {
		case <-a.done:
			fresh = now.After(a.until)
		default:
		}
	}
	if fresh {
		if len(t.ocsp) >= ocspEntries {
			clear(t.ocsp)
		}
		a = &answer{done: make(chan struct{})}
		t.ocsp[key] = a
	}
	t.mu.Unlock()
	if fresh {
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout) // others wait for it too
		a.until, a.err = t.ask(ask, c, issuer, now)
		cancel()
		close(a.done)
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	var refused *Error
	switch {
	case a.err == nil:
		return nil
	case errors.As(a.err, &refused):
		return a.err
	case t.c.OCSP == OCSPHard:
		return refusal(ReasonUnknown, "whether the client certificate is revoked cannot be found out now")
	}
	if fresh {
		t.log.WarnContext(ctx, "an OCSP responder does not say whether a client certificate is revoked; it passes, as MTLS_OCSP=soft wants it", "err", a.err)
	}
	return nil
}

func (t *TLS) ask(ctx context.Context, c, issuer *x509.Certificate, now time.Time) (until time.Time, err error) {
	label := "failed"
	defer func() { t.metrics.ocsp.WithLabelValues(label).Inc() }()
	retry := now.Add(ocspRetry)
	request, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		return retry, err
	}
	der, err := t.fetch(ctx, http.MethodPost, c.OCSPServer[0], "application/ocsp-request", request, maxAnswer)
	if err != nil {
		return retry, err
	}
	res, err := ocsp.ParseResponseForCert(der, c, issuer) // checks the signature, by the issuer or a responder that it named
	if err != nil {
		return retry, err
	}
	// The library checks that the issuer signed the responder's certificate, and neither what for nor when: any other client's would do.
	if by := res.Certificate; by != nil && !by.Equal(issuer) &&
		(!slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Add(ocspSkew).Before(by.NotBefore) || now.Add(-ocspSkew).After(by.NotAfter)) {
		return retry, errors.New("the answer is signed by a certificate that is not made for it, or not at this time")
	}
	switch {
	case res.ThisUpdate.After(now.Add(ocspSkew)):
		return retry, errors.New("the answer is from the future")
	case !res.NextUpdate.IsZero() && now.After(res.NextUpdate.Add(ocspSkew)), res.NextUpdate.IsZero() && now.Sub(res.ThisUpdate) > ocspMaxAge:
		return retry, errors.New("the answer is an old one")
	}
	switch res.Status {
	case ocsp.Good:
		label = "good"
		return now.Add(ocspFor), nil
	case ocsp.Revoked:
		label = "revoked"
		return now.Add(ocspFor), refusal(ReasonRevoked, "the client certificate was revoked by its issuer")
	default:
		label = "unknown"
		return retry, errors.New("the responder does not know the certificate")
	}
}

// fetch asks an http(s) URL that the operator, or a certificate of a trusted CA, names.
func (t *TLS) fetch(ctx context.Context, method, url, contentType string, body []byte, limit int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body)) //nolint:gosec // the operator, or a CA that the operator trusts, names it; no redirect is followed
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	res, err := t.client.Do(r) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %d", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	return b, err
}
