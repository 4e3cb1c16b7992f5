package enrol

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/peers"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/internal/pki"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	"github.com/hashinsight/hashinsight/pkg/wg"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// candidate is who wants to join, after all proofs.
type candidate struct {
	token   identity.Token
	request identity.Request
	wg      wg.Key
	hasWG   bool
	keys    [sha256.Size]byte
	version string
	caller  caller
}

func (v *Server) candidate(r *enrolv1.EnrolRequest, who caller) (c candidate, err error) {
	c.caller, c.version = who, clip(r.GetAgentVersion(), maxVersion)
	if c.token, err = identity.ParseToken(r.GetToken()); err != nil {
		return c, refuse(identity.ReasonTokenUnknown, "what was sent is no token")
	}
	if c.token.Env != v.s.c.Env {
		return c, refuse(identity.ReasonTokenUnknown, "the token is for %s, this hub is %s", c.token.Env, v.s.c.Env)
	}
	if c.request, err = identity.ParseRequest(r.GetRequest()); err != nil {
		return c, refuse(identity.ReasonProof, "%v", err)
	}
	if pub, ok := c.request.CSR.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
		return c, refuse(identity.ReasonKeyWeak, "the TLS key is not an ECDSA key on P-256")
	}
	if r.GetWireguard() != nil {
		if c.wg, err = v.wireGuard(r.GetWireguard(), r.GetRequest()); err != nil {
			return c, err
		}
		c.hasWG = true
		c.keys = c.request.KeysHash(c.wg[:])
		return c, nil
	}
	c.keys = c.request.KeysHash(nil)
	return c, nil
}

// wireGuard checks that the caller holds the WireGuard key.
func (v *Server) wireGuard(k *enrolv1.WireGuardKey, bound []byte) (wg.Key, error) {
	hub, err := v.sealer.open(k.GetChallenge(), v.s.c.Now())
	if err != nil {
		return wg.Key{}, refuse(identity.ReasonChallenge, "%v: begin again", err)
	}
	site, err := ecdh.X25519().NewPublicKey(k.GetPublicKey())
	if err != nil {
		return wg.Key{}, refuse(identity.ReasonKeyWeak, "the WireGuard key is no X25519 key")
	}
	want, err := identity.WireGuardProof(hub, site, k.GetPublicKey(), k.GetChallenge(), bound)
	if err != nil {
		return wg.Key{}, refuse(identity.ReasonKeyWeak, "the WireGuard key is of low order")
	}
	if !hmac.Equal(want, k.GetProof()) {
		return wg.Key{}, refuse(identity.ReasonProof, "the caller has not shown that it holds the WireGuard key")
	}
	return wg.Key(k.GetPublicKey()), nil
}

// Enrol implements the EnrolService: whoever holds an open token, and keys of its own, becomes the site's agent.
func (v *Server) Enrol(ctx context.Context, r *enrolv1.EnrolRequest) (_ *enrolv1.EnrolResponse, err error) {
	who := callerOf(ctx)
	ctx, done, err := v.begin(ctx, "enrol", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	c, err := v.candidate(r, who)
	if err != nil {
		return nil, err
	}
	for range 3 { // a race for the token was lost: look again at what became of it
		out, err := v.join(ctx, &c)
		if !errors.Is(err, errNotUsable) {
			return out, err
		}
	}
	return nil, status.Error(codes.Unavailable, "the token is being changed at this moment: try again")
}

func (v *Server) join(ctx context.Context, c *candidate) (*enrolv1.EnrolResponse, error) {
	t, known, err := oneToken(ctx, v.s.c.DB, c.token.ID)
	if err != nil {
		return nil, err
	}
	if !known || !t.fits(c.token) {
		return nil, refuse(identity.ReasonTokenUnknown, "this hub has not made that token")
	}
	if t.Source.IsValid() && !t.Source.Contains(c.caller.addr) {
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenNetwork, "token %s may be used from %s, and the caller is %s", t.ID, t.Source, c.caller.text()))
	}
	now := v.s.c.Now().UTC()
	switch state := t.state(now); {
	case state == StateUsed && t.usedKeys == c.keys && now.Before(t.ExpiresAt):
		return v.again(ctx, c, &t)
	case state == StateUsed:
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenUsed, "token %s was used on %s from %s", t.ID, t.UsedAt.Format(time.RFC3339), t.UsedFrom))
	case state == StateRevoked:
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenRevoked, "token %s was revoked", t.ID))
	case state == StateRefused:
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenRefused, "whoever came with token %s was not approved", t.ID))
	case state == StateExpired:
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenExpired, "token %s expired on %s", t.ID, t.ExpiresAt.Format(time.RFC3339)))
	case state == StateOpen && t.Approval:
		if err := v.claim(ctx, c, &t, now); err != nil {
			return nil, err
		}
		return pending(c, &t), nil
	case (state == StateWaiting || state == StateApproved) && t.claimed != c.keys:
		return nil, v.audited(ctx, c, &t, refuse(identity.ReasonTokenUsed, "another agent has come with token %s from %s and waits for approval", t.ID, t.ClaimedFrom))
	case state == StateWaiting:
		return pending(c, &t), nil
	}
	return v.admit(ctx, c, &t, now)
}

func pending(c *candidate, t *token) *enrolv1.EnrolResponse {
	return &enrolv1.EnrolResponse{Outcome: &enrolv1.EnrolResponse_Pending{Pending: &enrolv1.Pending{
		Fingerprint: identity.FormatFingerprint(c.keys), RetryAfterMs: uint32(pendingRetry.Milliseconds()), UntilMs: t.ExpiresAt.UnixMilli(),
	}}}
}

// claim makes the token wait for a person's decision on these keys.
func (v *Server) claim(ctx context.Context, c *candidate, t *token, now time.Time) error {
	return pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, qClaim, t.ID, now, c.keys[:], c.caller.text(), c.version)
		if err != nil {
			return fmt.Errorf("claiming a token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errNotUsable
		}
		return v.s.audit(ctx, tx, agent(ident.SiteID{}, c.caller.text()), audit.Security, "enrol_waits", map[string]any{
			"token": t.ID, "site_name": t.SiteName, "fingerprint": identity.FormatFingerprint(c.keys),
		})
	})
}

// audited records the refusal of a caller who holds a token of this hub: that is worth a look. Others are only counted.
func (v *Server) audited(ctx context.Context, c *candidate, t *token, refusal error) error {
	var r *refusalError
	if !errors.As(refusal, &r) {
		return refusal
	}
	err := pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		return v.s.c.Audit.Add(ctx, tx, audit.Entry{
			Level: audit.Security, Category: audit.Suspicious, Action: "enrol_denied", Status: audit.Denied, IP: c.caller.text(),
			Details: map[string]any{"token": t.ID, "site_name": t.SiteName, "reason": r.reason, "fingerprint": identity.FormatFingerprint(c.keys)},
		})
	})
	if err != nil {
		v.s.c.Log.WarnContext(ctx, "a refused enrolment is not in the audit log", "token", t.ID, "reason", r.reason, "err", err)
	}
	return refusal
}

// admit makes the site, its tunnel and its certificate, and uses the token up, all or nothing: whatever fails leaves the token
// as it was.
func (v *Server) admit(ctx context.Context, c *candidate, t *token, now time.Time) (*enrolv1.EnrolResponse, error) {
	var site ident.SiteID
	var chain []*x509.Certificate
	err := pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		if err := v.s.use(ctx, tx, t.ID, c.keys, c.caller.text(), now); err != nil {
			return err
		}
		j, err := fleet.JoinSite(ctx, tx, fleet.Join{Name: t.SiteName, Key: c.request.Evidence, ReplaceKey: t.ReplaceKey, At: now, Note: v.s.c.Note})
		if err != nil {
			return err
		}
		site = j.Site
		if c.hasWG && v.s.c.Peers != nil {
			if _, err := v.s.c.Peers.Add(ctx, tx, peers.New{Site: site, PublicKey: c.wg, Replace: true, By: "token " + t.ID}); err != nil {
				return tunnelError(err)
			}
		}
		if chain, err = v.s.c.CA.IssueSite(ctx, tx, site, c.request.CSR, 0); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qJoined, t.ID, site); err != nil {
			return fmt.Errorf("using a token: %w", err)
		}
		replaced := make([]string, len(j.Replaced))
		for i, k := range j.Replaced {
			replaced[i] = k.String()
		}
		return v.s.audit(ctx, tx, agent(site, c.caller.text()), audit.Security, "site_joined", map[string]any{
			"site_id": site.String(), "site_name": t.SiteName, "token": t.ID, "new": j.New, "evidence_key": ident.KeyIDOf(c.request.Evidence).String(),
			"replaced_keys": replaced, "fingerprint": identity.FormatFingerprint(c.keys), "agent_version": c.version,
		})
	})
	if err != nil {
		if refusal := v.whyNotJoined(err); refusal != nil {
			return nil, v.audited(ctx, c, t, refusal)
		}
		return nil, err
	}
	v.metrics.joined.Inc()
	v.s.c.Log.InfoContext(ctx, "site joined", "site", site, "name", t.SiteName, "token", t.ID, "from", c.caller.text(), "fingerprint", identity.FormatFingerprint(c.keys))
	return v.answer(ctx, site, chain)
}

// again answers the same keys that used the token: the first answer was lost. A site that was cut off meanwhile stays so, and if it has come back with
// other keys, those of the token are no longer its own: a machine that was stolen has its token too.
func (v *Server) again(ctx context.Context, c *candidate, t *token) (*enrolv1.EnrolResponse, error) {
	var chain []*x509.Certificate
	err := pg.InTx(ctx, v.s.c.DB, func(tx pgx.Tx) error {
		why, revoked, err := v.s.c.CA.SiteRevoked(ctx, tx, t.Site)
		if err != nil {
			return err
		}
		if revoked {
			return refuse(identity.ReasonSiteRevoked, "site %q was revoked: %s", t.SiteName, why)
		}
		if chain, err = v.s.c.CA.IssueAgain(ctx, tx, t.Site, c.request.CSR); err == nil && chain == nil {
			err = refuse(identity.ReasonTokenUsed, "token %s was used on %s from %s, and its site has had other keys since", t.ID, t.UsedAt.Format(time.RFC3339), t.UsedFrom)
		}
		return err
	})
	if err != nil {
		return nil, v.audited(ctx, c, t, err)
	}
	return v.answer(ctx, t.Site, chain)
}

func (v *Server) answer(ctx context.Context, site ident.SiteID, chain []*x509.Certificate) (*enrolv1.EnrolResponse, error) {
	v.sync(ctx, site)
	g, err := v.s.grantFor(ctx, site, chain)
	if err != nil {
		return nil, err
	}
	return &enrolv1.EnrolResponse{Outcome: &enrolv1.EnrolResponse_Grant{Grant: g.message()}}, nil
}

func (g *grant) message() *enrolv1.Grant {
	return &enrolv1.Grant{Bundle: g.bundle, PresharedKey: g.psk, Generation: g.generation}
}

// sync lets the tunnel's device take what has just been committed.
func (v *Server) sync(ctx context.Context, site ident.SiteID) {
	if v.syncPeer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if err := v.syncPeer(ctx); err != nil {
		v.s.c.Log.WarnContext(ctx, "the tunnel's device has not taken a site yet; the next pass brings it", "site", site, "err", err)
	}
}

// whyNotJoined turns what other packages said into a refusal; nil when it is none.
func (v *Server) whyNotJoined(err error) error {
	var r *refusalError
	switch {
	case errors.As(err, &r):
		return err
	case errors.Is(err, fleet.ErrKeyTaken), errors.Is(err, fleet.ErrKeyEnded):
		return refuse(identity.ReasonKeyTaken, "%v", err)
	case errors.Is(err, fleet.ErrKeyOther):
		return refuse(identity.ReasonKeyOther, "%v: make a token with --replace-key if the old one is lost", err)
	case errors.Is(err, fleet.ErrFull):
		return refuse(identity.ReasonHubFull, "%v", err)
	case errors.Is(err, pki.ErrWeakKey):
		return refuse(identity.ReasonKeyWeak, "%v", err)
	}
	return nil
}

// tunnelError tells the refusals of package peers apart.
func tunnelError(err error) error {
	var coded *apperr.Error
	switch {
	case errors.As(err, &coded) && coded.Code == "PEER_001": // no address is left
		return refuse(identity.ReasonHubFull, "%v", err)
	case errors.As(err, &coded) && coded.Kind == apperr.Conflict:
		return refuse(identity.ReasonKeyTaken, "%v", err)
	case errors.As(err, &coded) && coded.Kind == apperr.Invalid:
		return refuse(identity.ReasonKeyWeak, "%v", err)
	case errors.As(err, &coded) && coded.Kind == apperr.TooMany:
		return &refusalError{identity.ReasonTooMany, codes.ResourceExhausted, err.Error(), time.Minute}
	}
	return err
}
