package uplink

import (
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/agent/internal/tunnel"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Why a session ended, as the label of the reconnects metric.
const (
	reasonDial     = "dial"     // the hub was not reached
	reasonLost     = "lost"     // the stream broke
	reasonAuth     = "auth"     // one side's certificate does not count
	reasonProtocol = "protocol" // the two sides do not understand or trust each other's messages
	reasonTimeout  = "timeout"  // the hub was silent for too long
	reasonCloned   = "cloned"   // the hub serves another agent with this identity
	reasonMoved    = "moved"    // the way to the hub has changed
)

// Error is why a session ended, in words that say what to do.
type Error struct {
	Reason string // one of a closed list: dial, lost, auth, protocol, timeout, cloned, moved
	Text   string
	Err    error // may be nil
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err == nil {
		return "uplink: " + e.Text
	}
	return "uplink: " + e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func reasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return reasonLost
}

// dial prepares a connection to the next address. gRPC reports failures below it as text only, so that what really
// happened is kept in tr.
func (u *Uplink) dial() (conn *grpc.ClientConn, address string, tr *tunnel.Trace, err error) {
	addresses := u.cfg.Addresses()
	if len(addresses) == 0 {
		return nil, "", nil, &Error{reasonDial, "there is no address at which the hub can be reached", nil}
	}
	address = addresses[u.turn%len(addresses)]
	u.turn++
	tr = &tunnel.Trace{}
	// The name is resolved at every dial: a hub that moved is found again.
	conn, err = grpc.NewClient("passthrough:///"+address, append(tr.Options(u.cfg.TLS, u.cfg.DialContext),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
	)...)
	if err != nil {
		return nil, address, tr, &Error{reasonDial, fmt.Sprintf("hub address %q cannot be used", address), err}
	}
	return conn, address, tr, nil
}

// explain turns an error of a stream into one that says what to do.
func explain(err error, address string, tr *tunnel.Trace, opened bool) error {
	var done *Error
	if err == nil || errors.As(err, &done) || errors.Is(err, errOtherChain) {
		return err
	}
	below := tr.First()
	auth := func(format string, args ...any) error {
		return &Error{reasonAuth, fmt.Sprintf(format, args...), err}
	}
	var remote *net.OpError
	switch {
	case errors.Is(below, tunnel.ErrMoved):
		return &Error{reasonMoved, "the stream to the hub at " + address + " goes another way from now on", below}
	case errors.Is(below, identity.ErrHubWrongCA):
		return auth("the server at %s shows a certificate of another CA than the one this site trusts: check the hub's address; "+
			"if the hub was set up anew, enrol there with a token", address)
	case errors.Is(below, identity.ErrHubExpired):
		return auth("the certificate of the hub at %s is not valid at this time: check this machine's clock, then the hub's", address)
	case errors.Is(below, identity.ErrHubRevoked):
		return auth("the certificate of the hub at %s was revoked by its own CA, so somebody else may have its key: ask the hub's operator; data is kept here meanwhile", address)
	case errors.Is(below, identity.ErrHubName):
		return auth("the server at %s is trusted by this site's CA and is not a hub: check the hub's address", address)
	case errors.As(below, &remote) && remote.Op == "remote error":
		return auth("the hub at %s refused this site's certificate in the handshake (%v): enrol again with a new token",
			address, remote.Err)
	}
	st, ok := status.FromError(err)
	if !ok {
		return &Error{reasonLost, "the stream to the hub at " + address + " broke", err}
	}
	switch reason := refusedFor(st); reason {
	case "":
	case identity.ReasonCloned:
		return &Error{reasonCloned, "the hub at " + address + " says: " + identity.WhatNext(reason), err}
	default:
		if next := identity.WhatNext(reason); next != "" {
			return auth("the hub at %s refuses this site (%s): %s", address, reason, next)
		}
	}
	switch st.Code() {
	case codes.ResourceExhausted:
		return &Error{reasonDial, "the hub at " + address + " is busy and asks this agent to come back later", err}
	case codes.Unauthenticated, codes.PermissionDenied:
		return auth("the hub at %s does not let this site in: ask the hub's operator", address)
	case codes.AlreadyExists:
		return &Error{reasonCloned, "the hub at " + address + " already serves another agent with this site's identity; unless that was this one, a moment ago, " +
			"one of the two is a copy: stop it, or register it as a site of its own", err}
	case codes.Unimplemented:
		return &Error{reasonProtocol, "the server at " + address + " has no telemetry service: check the hub's address (it is the gRPC one that is needed)", err}
	case codes.InvalidArgument, codes.FailedPrecondition:
		return &Error{reasonProtocol, "the hub at " + address + " refused the stream: compare the versions of agent and hub", err}
	}
	if !opened {
		return &Error{reasonDial, "the hub at " + address + " cannot be reached: check address, network and firewall", err}
	}
	return &Error{reasonLost, "the stream to the hub at " + address + " broke", err}
}

// askedWait is how long the hub asked this agent to stay away when it refused the stream; 0 means it did not.
func askedWait(err error) time.Duration {
	st, ok := status.FromError(err)
	if !ok {
		return 0
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return min(max(0, info.GetRetryDelay().AsDuration()), maxPause)
		}
	}
	return 0
}

func refusedFor(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == identity.ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// superseded reports whether the hub ended a stream because a newer certificate of this site has been used: by this agent, as a rule,
// which then has it and uses it for the next stream.
func superseded(err error) bool {
	st, ok := status.FromError(err)
	return ok && refusedFor(st) == identity.ReasonCertSuperseded
}
