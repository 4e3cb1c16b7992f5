package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Peer is the site at the other end of a call, after its certificate has been checked.
type Peer struct {
	Site     ident.SiteID
	NotAfter time.Time // of its certificate
}

type serverCert struct {
	tls     *tls.Certificate
	renewAt time.Time
}

// ServerTLS returns the settings of the hub's gRPC listener. A client must show a certificate that names a site, at every
// handshake and on resumed sessions too. Whether it counts is decided on each call, by Verify, which package ingest asks: a TLS 1.3 client learns
// nothing from a refused handshake, while a refused call tells it why.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAnyClientCert,
		NextProtos:     []string{"h2"},
		Time:           a.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.serverCertificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("no client certificate")
			}
			_, err := identity.SiteOf(cs.PeerCertificates[0])
			return err
		},
	}
}

// serverCertificate returns the hub's own certificate, a new one when half of its life is over.
func (a *Authority) serverCertificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.server != nil && now.Before(a.server.renewAt) {
		return a.server.tls, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := a.issueServer(key.Public())
	if err != nil {
		return nil, err
	}
	a.server = &serverCert{
		tls:     &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		renewAt: now.Add(serverValidity / 2),
	}
	return a.server.tls, nil
}

const qCert = `SELECT der, revoked_at IS NOT NULL, coalesce(revoked_why, '') FROM certificate WHERE serial = $1 AND site_id = $2`

// Verify decides whether a site's certificate counts now. A refusal is a gRPC status with one of the reasons that package identity lists; a
// database that is away is Unavailable, never a pass.
func (a *Authority) Verify(ctx context.Context, chain []*x509.Certificate) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, a.refuse(identity.ReasonCertUnknown, "no certificate was shown")
	}
	leaf := chain[0]
	site, err := identity.SiteOf(leaf)
	if err != nil {
		return Peer{}, a.refuse(identity.ReasonCertUnknown, err.Error())
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.ca)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: a.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && leaf.CheckSignatureFrom(a.ca) == nil:
		return Peer{}, a.refuse(identity.ReasonCertExpired, fmt.Sprintf("the certificate of site %s is valid from %s to %s, and it is %s here", site,
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), a.now().UTC().Format(time.RFC3339)))
	default:
		return Peer{}, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s was not issued by this hub", site))
	}
	var der []byte
	var revoked bool
	var why string
	err = a.db.QueryRow(ctx, qCert, serialBytes(leaf), site).Scan(&der, &revoked, &why)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !bytes.Equal(der, leaf.Raw):
		return Peer{}, a.refuse(identity.ReasonCertUnknown, fmt.Sprintf("the certificate of site %s is not in this hub's database", site))
	case err != nil:
		a.log.WarnContext(ctx, "a site's certificate cannot be checked", "site", site, "err", err)
		return Peer{}, status.Error(codes.Unavailable, "DB_001: the hub cannot check certificates now: try again")
	case revoked:
		return Peer{}, a.refuse(identity.ReasonCertRevoked, fmt.Sprintf("the certificate of site %s was revoked: %s", site, why))
	}
	return Peer{Site: site, NotAfter: leaf.NotAfter}, nil
}

func (a *Authority) refuse(reason, text string) error {
	a.refused.WithLabelValues(reason).Inc()
	p := apperr.Of(apperr.E(apperr.Unauthenticated, "AUTH_004", "%s", text))
	st := status.Newf(p.GRPC, "%s: %s. %s", p.Code, p.Text, p.Help)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: identity.ErrorDomain})
	if err != nil {
		return st.Err() // the text says it too
	}
	return detailed.Err()
}

type peerKey struct{}

// PeerFrom returns the site that makes the call. Without the interceptors there is none.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

func (a *Authority) authenticate(ctx context.Context) (context.Context, error) {
	var chain []*x509.Certificate
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			chain = info.State.PeerCertificates
		}
	}
	who, err := a.Verify(ctx, chain)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, peerKey{}, who), nil
}

// UnaryInterceptor checks the caller of every unary call.
func (a *Authority) UnaryInterceptor(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := a.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// StreamInterceptor checks the caller of every stream when it opens.
func (a *Authority) StreamInterceptor(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := a.authenticate(ss.Context())
	if err != nil {
		return err
	}
	return next(srv, stream{ss, ctx})
}

type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the only way to give a stream's handler a value
}

func (s stream) Context() context.Context { return s.ctx }
