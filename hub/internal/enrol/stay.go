package enrol

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// site returns the site whose valid certificate the caller has shown.
func (v *Server) site(ctx context.Context, who caller) (ident.SiteID, error) {
	p, err := v.s.c.CA.Verify(ctx, who.chain)
	return p.Site, err
}

// Renew implements the EnrolService for sites with a valid certificate, each for itself.
func (v *Server) Renew(ctx context.Context, r *enrolv1.RenewRequest) (_ *enrolv1.RenewResponse, err error) {
	who := callerOf(ctx)
	ctx, done, err := v.begin(ctx, "renew", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	site, err := v.site(ctx, who)
	if err != nil {
		return nil, err
	}
	csr, err := parseCSR(r.GetCsr())
	if err != nil {
		return nil, err
	}
	chain, err := v.s.c.CA.Renew(ctx, who.chain[0], csr)
	switch {
	case errors.Is(err, pki.ErrTooEarly), errors.Is(err, pki.ErrTooOften):
		return nil, &refusalError{identity.ReasonTooMany, codes.ResourceExhausted, err.Error(), time.Minute}
	case errors.Is(err, pki.ErrWeakKey):
		return nil, refuse(identity.ReasonKeyWeak, "%v", err)
	case err != nil:
		return nil, err
	}
	g, err := v.s.grantFor(ctx, site, chain)
	if err != nil {
		return nil, err
	}
	return &enrolv1.RenewResponse{Grant: g.message()}, nil
}

// Recover implements the EnrolService for sites whose certificate ran out: both of the site's registered keys must have signed
// for this moment.
func (v *Server) Recover(ctx context.Context, r *enrolv1.RecoverRequest) (_ *enrolv1.RecoverResponse, err error) {
	who := callerOf(ctx)
	ctx, done, err := v.begin(ctx, "recover", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	if _, err := v.sealer.open(r.GetChallenge(), v.s.c.Now()); err != nil {
		return nil, refuse(identity.ReasonChallenge, "%v: begin again", err)
	}
	if len(r.GetCertificate()) > maxCSR {
		return nil, refuse(identity.ReasonProof, "a certificate of %d bytes", len(r.GetCertificate()))
	}
	old, err := x509.ParseCertificate(r.GetCertificate())
	if err != nil {
		return nil, refuse(identity.ReasonCertUnknown, "the certificate cannot be read")
	}
	csr, err := parseCSR(r.GetCsr())
	if err != nil {
		return nil, err
	}
	message := identity.RecoverMessage(r.GetChallenge(), r.GetCsr(), r.GetCertificate())
	if err := identity.CheckRecovery(old, r.GetEvidenceKey(), message, r.GetTlsSignature(), r.GetEvidenceSignature()); err != nil {
		return nil, refuse(identity.ReasonProof, "%v", err)
	}
	site, chain, err := v.recover(ctx, old, csr, r.GetEvidenceKey())
	if err != nil {
		return nil, err
	}
	v.s.c.Log.WarnContext(ctx, "a site's certificate had run out and was recovered", "site", site, "from", who.text(), "old_not_after", old.NotAfter)
	g, err := v.s.grantFor(ctx, site, chain)
	if err != nil {
		return nil, err
	}
	return &enrolv1.RecoverResponse{Grant: g.message()}, nil
}

func (v *Server) recover(ctx context.Context, old *x509.Certificate, csr *x509.CertificateRequest, evidence ed25519.PublicKey) (site ident.SiteID, chain []*x509.Certificate, err error) {
	if site, err = v.s.c.CA.VerifyExpired(ctx, old); err != nil {
		return site, nil, err
	}
	err = pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		if err := fleet.CheckKey(ctx, tx, site, evidence); err != nil {
			if errors.Is(err, fleet.ErrNotFound) || errors.Is(err, fleet.ErrKeyEnded) {
				return refuse(identity.ReasonKeyOther, "%v", err)
			}
			return err
		}
		chain, err = v.s.c.CA.Recover(ctx, tx, site, csr)
		return err
	})
	switch {
	case errors.Is(err, pki.ErrRevoked), errors.Is(err, pki.ErrNotKnown):
		err = refuse(identity.ReasonSiteRevoked, "%v", err)
	case errors.Is(err, pki.ErrCounted):
		err = refuse(identity.ReasonRecoveriesUsed, "%v", err)
	case errors.Is(err, pki.ErrTooOften):
		err = &refusalError{identity.ReasonTooMany, codes.ResourceExhausted, err.Error(), time.Minute}
	case errors.Is(err, pki.ErrNoSuchSite):
		err = refuse(identity.ReasonSiteUnknown, "%v", err)
	case errors.Is(err, pki.ErrWeakKey):
		err = refuse(identity.ReasonKeyWeak, "%v", err)
	}
	return site, chain, err
}

// Sync implements the EnrolService for sites with a valid certificate, each for itself.
func (v *Server) Sync(ctx context.Context, r *enrolv1.SyncRequest) (_ *enrolv1.SyncResponse, err error) {
	who := callerOf(ctx)
	ctx, done, err := v.begin(ctx, "sync", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	site, err := v.site(ctx, who)
	if err != nil {
		return nil, err
	}
	if r.GetWireguard() != nil && v.s.c.Peers != nil {
		if err := v.rotate(ctx, site, r.GetWireguard()); err != nil {
			return nil, err
		}
	}
	g, err := v.s.grantFor(ctx, site, who.chain)
	if err != nil {
		return nil, err
	}
	out := &enrolv1.SyncResponse{NextMs: uint32(syncAgain.Milliseconds())}
	if string(g.generation) != string(r.GetGeneration()) {
		out.Grant = g.message()
	}
	if g.orders.rotate {
		out.Orders = append(out.Orders, enrolv1.Order_ORDER_ROTATE_WIREGUARD)
	}
	if v.s.c.CA.Outdated(who.chain[0]) {
		out.Orders = append(out.Orders, enrolv1.Order_ORDER_RENEW)
	}
	if len(out.Orders) > 0 {
		out.NextMs = uint32(syncAgainSoon.Milliseconds())
	}
	return out, nil
}

// rotate takes a site's next WireGuard key.
func (v *Server) rotate(ctx context.Context, site ident.SiteID, k *enrolv1.WireGuardKey) error {
	key, err := v.wireGuard(k, nil)
	if err != nil {
		return err
	}
	err = pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		_, err := v.s.c.Peers.StageKey(ctx, tx, site, key, "agent")
		return err
	})
	if err != nil {
		return tunnelError(err)
	}
	v.sync(ctx, site)
	return nil
}

// maxOrdered bounds the sites told of in one round; the others come in the next.
const maxOrdered = 1000

// Watch tells of sites whose agents should sync now, until ctx ends, and returns nil then: an order waits for them. It asks the database, so that
// orders given at any hub process, or by a command, arrive at the one that has the agent's stream.
func (v *Server) Watch(ctx context.Context, every time.Duration, notify func(ident.SiteID)) error {
	if v.s.c.Peers == nil {
		<-ctx.Done()
		return nil
	}
	for {
		t := time.NewTimer(every)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		asking, cancel := context.WithTimeout(ctx, callTimeout)
		sites, err := v.s.c.Peers.Ordered(asking, maxOrdered)
		cancel()
		if err != nil && ctx.Err() == nil {
			v.s.c.Log.WarnContext(ctx, "orders to sites were not read; the next round does", "err", err)
		}
		for _, site := range sites {
			notify(site)
		}
	}
}
