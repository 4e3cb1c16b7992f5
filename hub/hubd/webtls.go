package hubd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
)

// WebTLS is the TLS of the page and the API. The zero value is none.
type WebTLS struct {
	Cert, Key    string   // files; empty: plain HTTP
	VerifyClient bool     // clients' certificates count
	CAs          []string // files with the CAs that may name clients
	OwnCA        bool     // the hub's own may too
	Patterns     string   // allowed subjects; empty: any
	CRLs         []string // files or URLs
	OCSP         string   // off, soft or hard
	RequiredFor  string   // admin or api
	ClientHeader string   // in which trusted proxies forward a client's certificate
}

func (w *WebTLS) on() bool { return w.Cert != "" || w.VerifyClient }

func (h *Hub) webTLS(s *subjects) (*webtls.TLS, error) {
	w := h.c.WebTLS
	patterns, err := webtls.ParsePatterns(w.Patterns)
	if err != nil {
		return nil, fmt.Errorf("MTLS_ALLOWED_DN_PATTERNS %w", err)
	}
	c := webtls.Config{
		Cert: w.Cert, Key: w.Key, VerifyClient: w.VerifyClient, CAs: w.CAs, Patterns: patterns, CRLs: w.CRLs, OCSP: w.OCSP,
		Now: h.c.Now, Log: h.c.Log, Registerer: h.c.Registry,
	}
	if !w.VerifyClient {
		c.CAs = nil // not read, and so not required
	}
	if w.VerifyClient && w.OwnCA {
		if s.pki == nil {
			return nil, errors.New("MTLS_CA_CERT_PATH=hub needs ENCRYPTION_PASSWORD in this process: it opens the hub's CA")
		}
		c.Own = func(ctx context.Context, chain []*x509.Certificate) (key [16]byte, err error) {
			client, err := s.pki.VerifyClient(ctx, chain)
			if pub := apperr.Of(err); err != nil && pub.HTTP == http.StatusUnauthorized {
				return key, &webtls.Error{Reason: webtls.ReasonRefused, Text: pub.Text}
			}
			return client.Key, err
		}
	}
	return webtls.New(context.Background(), c)
}
