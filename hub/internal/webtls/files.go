package webtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const maxFile = 1 << 20 // bytes of certificates and keys

// stamp tells whether a file changed.
type stamp struct {
	at   time.Time
	size int64
}

func stampOf(paths ...string) []stamp {
	var all []stamp
	for _, p := range paths {
		var s stamp
		if st, err := os.Stat(p); err == nil {
			s = stamp{st.ModTime(), st.Size()}
		}
		all = append(all, s)
	}
	return all
}

func readFile(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

// loaded is what the files held when they were last read whole.
type loaded struct {
	pair    *tls.Certificate // nil without a server certificate
	cas     []*x509.Certificate
	roots   *x509.CertPool
	between *x509.CertPool // intermediate CAs, which clients need not show then
}

func (t *TLS) read() (*loaded, error) {
	l := &loaded{roots: x509.NewCertPool(), between: x509.NewCertPool()}
	if t.c.Cert != "" {
		cert, err := readFile(t.c.Cert, maxFile)
		if err != nil {
			return nil, fmt.Errorf("the server's certificate (MTLS_SERVER_CERT_PATH): %w", err)
		}
		key, err := readFile(t.c.Key, maxFile)
		if err != nil {
			return nil, fmt.Errorf("the server's key (MTLS_SERVER_KEY_PATH): %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", t.c.Cert, t.c.Key, err)
		}
		l.pair = &pair
	}
	for _, path := range t.c.CAs {
		text, err := readFile(path, maxFile)
		if err != nil {
			return nil, fmt.Errorf("the CA of clients (MTLS_CA_CERT_PATH): %w", err)
		}
		certs, err := parsePEM(text)
		if err != nil {
			return nil, fmt.Errorf("the CA of clients, %s: %w", path, err)
		}
		for _, c := range certs {
			if !c.IsCA {
				return nil, fmt.Errorf("the CA of clients, %s: %s is no CA's certificate", path, c.Subject)
			}
		}
		l.cas = append(l.cas, certs...)
	}
	for _, c := range l.cas {
		// One whose issuer is there too is no root: that issuer can revoke it. One without is trusted by itself.
		if c.CheckSignatureFrom(c) != nil && slices.ContainsFunc(l.cas, func(up *x509.Certificate) bool { return c.CheckSignatureFrom(up) == nil }) {
			l.between.AddCert(c)
		} else {
			l.roots.AddCert(c)
		}
	}
	return l, nil
}

// parsePEM reads one or more certificates.
func parsePEM(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("want certificates in PEM and nothing else")
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %.40q: want certificates only", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return all, nil
}

// refresh reads the files again when one of them changed. What cannot be read leaves what was.
func (t *TLS) refresh(ctx context.Context) {
	paths := append(slices.Clone(t.c.CAs), t.c.Cert, t.c.Key)
	now := stampOf(paths...)
	t.mu.Lock()
	changed := !slices.Equal(now, t.stamps)
	t.stamps = now
	t.mu.Unlock()
	if !changed {
		return
	}
	l, err := t.read()
	if err != nil {
		t.metrics.reloads.WithLabelValues("failed").Inc()
		t.log.ErrorContext(ctx, "the certificates of the web API changed and cannot be read: the old ones stay", "err", err)
		return
	}
	t.take(l)
	t.metrics.reloads.WithLabelValues("ok").Inc()
	t.log.InfoContext(ctx, "the certificates of the web API were read again")
}

func (t *TLS) take(l *loaded) {
	t.mu.Lock()
	t.files = l
	clear(t.passed)
	t.mu.Unlock()
	if l.pair != nil && l.pair.Leaf != nil {
		t.metrics.notAfter.Set(float64(l.pair.Leaf.NotAfter.Unix()))
	}
}
