package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/identity"
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
	salts    saltRate
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
	own := call == "renew" || call == "sync" || call == "salts"
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
