package api

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/webtls"
)

// For what a client certificate is needed, where they are verified at all. Elsewhere it is one way to say who asks.
const (
	CertAdmin = "admin" // paths below /api/admin
	CertAPI   = "api"   // all of the API
)

// shownCertificate finds the certificate that the client of a request showed: to a trusted proxy, which forwards it, or to us. What
// anybody else wrote into the proxy's headers is taken out of the request.
func (s *Server) shownCertificate(r *http.Request) (chain []*x509.Certificate, err error) {
	if s.header != "" {
		ap, aerr := netip.ParseAddrPort(r.RemoteAddr)
		if aerr == nil && contains(s.trusted, ap.Addr().Unmap().WithZone("")) {
			chain, err = webtls.Forwarded(r.Header, s.header)
		}
		r.Header.Del(s.header)
		r.Header.Del(webtls.ChainHeader)
		if chain != nil || err != nil {
			return chain, err // the proxy's own certificate, if it shows one, names the proxy and not the client
		}
		if aerr == nil && contains(s.trusted, ap.Addr().Unmap().WithZone("")) {
			return nil, nil
		}
	}
	if r.TLS != nil {
		return r.TLS.PeerCertificates, nil
	}
	return nil, nil
}

// checkCertificate lets a request to the API through when its client certificate counts, or when there is none and none is needed.
// It looks at every request: a connection, or a session that was resumed, can be older than a revocation.
func (s *Server) checkCertificate(r *http.Request) error {
	if s.tls == nil || !s.tls.Verifies() {
		return nil
	}
	info := requestOf(r.Context())
	refused := func(format string, args ...any) error {
		return apperr.E(apperr.Forbidden, "AUTH_005", format, args...)
	}
	switch {
	case info.shownErr != nil:
		return refused("%w", info.shownErr)
	case len(info.shown) == 0:
		if s.certAPI || isAdmin(r.URL.Path) {
			return refused("this needs a client certificate, and none was shown")
		}
		return nil
	}
	who, err := s.tls.Verify(r.Context(), info.shown)
	var no *webtls.Error
	if errors.As(err, &no) {
		return refused("%w", no)
	}
	if err != nil {
		return err
	}
	info.client = &who
	return nil
}
