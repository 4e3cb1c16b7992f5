package enrol

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

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

// Bounds and times of the service.
const (
	maxCSR        = 8 << 10
	maxVersion    = 64
	working       = 4   // calls that use the database at a time: more of them only wait for each other there
	maxWaiting    = 500 // calls that wait for that, beyond which agents are sent away for a moment
	callTimeout   = 20 * time.Second
	syncTimeout   = 5 * time.Second // for the tunnel's device to take a new peer; the reconcile loop brings it later if it does not
	pendingRetry  = 5 * time.Second
	busyRetry     = 5 * time.Second
	syncAgain     = 15 * time.Minute
	syncAgainSoon = time.Minute // while an order stands
)

// ServerConfig describes a Server.
type ServerConfig struct {
	Store      *Store
	SyncPeers  func(context.Context) error // makes the tunnel's device take new peers; nil where there is no tunnel
	Registerer prometheus.Registerer       // nil means no metrics
}

// Server is the EnrolService.
type Server struct {
	enrolv1.UnimplementedEnrolServiceServer

	s        *Store
	syncPeer func(context.Context) error
	sealer   *sealer
	throttle throttle
	waiting  chan struct{} // a token for each call that is let in
	turns    chan struct{} // a token for each that works
	metrics  *metrics
}

// NewServer returns a Server.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Store == nil {
		return nil, errors.New("enrol: Store is required")
	}
	sealer, err := newSealer(c.Store.c.CA.EvidenceKey())
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Server{
		s: c.Store, syncPeer: c.SyncPeers, sealer: sealer, throttle: throttle{entries: map[netip.Prefix]level{}},
		waiting: make(chan struct{}, working+maxWaiting), turns: make(chan struct{}, working), metrics: m,
	}, nil
}

// caller is who is at the other end of a call.
type caller struct {
	addr  netip.Addr
	chain []*x509.Certificate // as shown; nothing about it has been checked
}

func callerOf(ctx context.Context) caller {
	var c caller
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c
	}
	if ap, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
		c.addr = ap.Addr().Unmap()
	}
	// Package ingest wraps the handshake's result; what it wraps says the same.
	if info, ok := p.AuthInfo.(interface{ TLSState() tls.ConnectionState }); ok {
		c.chain = info.TLSState().PeerCertificates
	} else if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		c.chain = info.State.PeerCertificates
	}
	return c
}

func (c caller) text() string {
	if !c.addr.IsValid() {
		return ""
	}
	return c.addr.String()
}

// refusalError is a refusal with its reason.
type refusalError struct {
	reason string
	code   codes.Code
	text   string
	retry  time.Duration
}

func (e *refusalError) Error() string { return e.text }

func refuse(reason string, format string, args ...any) error {
	e := &refusalError{reason: reason, code: codes.PermissionDenied, text: fmt.Sprintf(format, args...)}
	switch reason {
	case identity.ReasonTooMany:
		e.code = codes.ResourceExhausted
	case identity.ReasonTooOld, identity.ReasonTooNew, identity.ReasonHubFull:
		e.code = codes.FailedPrecondition
	case identity.ReasonChallenge:
		e.code = codes.Aborted
	case identity.ReasonKeyWeak, identity.ReasonProof:
		e.code = codes.InvalidArgument
	}
	return e
}

// GRPCStatus is how the refusal reaches the agent.
func (e *refusalError) GRPCStatus() *status.Status {
	st := status.New(e.code, e.text)
	if e.reason != "" {
		if d, err := st.WithDetails(&errdetails.ErrorInfo{Reason: e.reason, Domain: identity.ErrorDomain}); err == nil {
			st = d
		}
	}
	if e.retry > 0 {
		if d, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.retry)}); err == nil {
			st = d
		}
	}
	return st
}

// begin lets a call in: known protocol, an address that may try, room. done gives the room back and counts how it ended.
func (v *Server) begin(ctx context.Context, call string, protocol uint32, who caller) (context.Context, func(*error), error) {
	start := time.Now()
	end := func(err *error) {
		*err = v.result(ctx, call, *err, who)
		v.metrics.took(call, time.Since(start))
	}
	// What others do at its address keeps no site of this hub from renewing: all that strangers behind the same NAT can do is to fail.
	own := call == "renew" || call == "sync"
	if wait := v.throttle.wait(who.addr, v.s.c.Now()); wait > 0 && (!own || !v.s.c.CA.Stands(who.chain)) {
		e := &refusalError{identity.ReasonTooMany, codes.ResourceExhausted, fmt.Sprintf("too many refused attempts from %s: wait %s", who.text(), wait.Round(time.Second)), wait}
		return ctx, end, e
	}
	if err := checkProtocol(protocol); err != nil {
		return ctx, end, err
	}
	select {
	case v.waiting <- struct{}{}:
	default:
		return ctx, end, &refusalError{"", codes.ResourceExhausted, "too many agents come at this moment: try again", busyRetry}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	select {
	case v.turns <- struct{}{}:
	case <-ctx.Done():
		cancel()
		<-v.waiting
		return ctx, end, &refusalError{"", codes.ResourceExhausted, "too many agents come at this moment: try again", busyRetry}
	}
	work := time.Now()
	return ctx, func(err *error) {
		v.metrics.worked(call, time.Since(work))
		<-v.turns
		<-v.waiting
		cancel()
		end(err)
	}, nil
}

func checkProtocol(p uint32) error {
	switch {
	case p < identity.EnrolProtocolOldest:
		return refuse(identity.ReasonTooOld, "the agent speaks protocol %d, this hub %d to %d: upgrade the agent", p, identity.EnrolProtocolOldest, identity.EnrolProtocol)
	case p > identity.EnrolProtocol:
		return refuse(identity.ReasonTooNew, "the agent speaks protocol %d, this hub %d to %d: upgrade the hub first", p, identity.EnrolProtocolOldest, identity.EnrolProtocol)
	}
	return nil
}

// result counts a call, and turns its error into what the agent may see.
func (v *Server) result(ctx context.Context, call string, err error, who caller) error {
	var refused *refusalError
	switch {
	case err == nil:
		v.metrics.calls.WithLabelValues(call, "ok").Inc()
		return nil
	case errors.As(err, &refused):
		reason, level := refused.reason, slog.LevelWarn
		switch reason {
		case "":
			reason, level = "busy", slog.LevelDebug
		case identity.ReasonTooMany: // as often as somebody likes to ask: the metric counts them
			level = slog.LevelDebug
		default:
			if v.throttle.wait(who.addr, v.s.c.Now()) > 0 { // a site, whose calls go on
				level = slog.LevelDebug
			}
			v.throttle.fail(who.addr, v.s.c.Now())
		}
		v.metrics.calls.WithLabelValues(call, reason).Inc()
		v.s.c.Log.Log(ctx, level, "enrolment call refused", "call", call, "from", who.text(), "reason", reason, "err", refused.text)
		return refused.GRPCStatus().Err()
	}
	if st, ok := status.FromError(err); ok { // package pki's refusals
		v.metrics.calls.WithLabelValues(call, reasonOf(st)).Inc()
		if st.Code() == codes.Unauthenticated {
			v.throttle.fail(who.addr, v.s.c.Now())
		}
		return err
	}
	v.metrics.calls.WithLabelValues(call, "error").Inc()
	v.s.c.Log.ErrorContext(ctx, "enrolment call failed", "call", call, "from", who.text(), "err", err)
	p := apperr.Of(err)
	if p.GRPC == codes.Internal || p.GRPC == codes.Unknown { // a database that is away, above all: the agent tries again
		return status.Error(codes.Unavailable, "the hub cannot do that now: try again; its log has the reason")
	}
	return apperr.GRPC(err)
}

func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == identity.ErrorDomain {
			return info.GetReason()
		}
	}
	return st.Code().String()
}

// Begin implements the EnrolService. Anybody may call it; it costs one key pair and no memory.
func (v *Server) Begin(ctx context.Context, r *enrolv1.BeginRequest) (_ *enrolv1.BeginResponse, err error) {
	who := callerOf(ctx)
	_, done, err := v.begin(ctx, "begin", r.GetProtocol(), who)
	defer func() { done(&err) }()
	if err != nil {
		return nil, err
	}
	now := v.s.c.Now()
	challenge, public, err := v.sealer.make(now)
	if err != nil {
		return nil, err
	}
	return &enrolv1.BeginResponse{Protocol: identity.EnrolProtocol, Challenge: challenge, HubKey: public, HubTimeMs: now.UnixMilli()}, nil
}

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
		j, err := fleet.JoinSite(ctx, tx, fleet.Join{Name: t.SiteName, Key: c.request.Evidence, ReplaceKey: t.ReplaceKey, At: now})
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

func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxCSR {
		return nil, refuse(identity.ReasonProof, "a certificate request of %d bytes", len(der))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		return nil, refuse(identity.ReasonProof, "the certificate request is not signed by its key")
	}
	if pub, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
		return nil, refuse(identity.ReasonKeyWeak, "the TLS key is not an ECDSA key on P-256")
	}
	return csr, nil
}

// clip makes what an agent says of itself fit to be stored and shown: short, printable.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
