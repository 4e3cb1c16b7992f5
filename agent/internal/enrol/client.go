// Package enrol is the site's side of joining a hub and staying in it: it joins with a one-time token, renews the certificate at
// half of its life, recovers it after it ran out in the dark, and takes what the hub changes (roots, keys, tunnel). It decides
// nothing about telemetry, which goes on whatever happens here, keeps no key (package keys does), and never deletes an identity.
// The command enrol calls Join, agentd runs a Keeper.
package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/agent/internal/tunnel"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// Times and bounds of calls.
const (
	callTimeout = 30 * time.Second // of one call, dial and handshake included
	maxMessage  = 256 << 10
	maxAsked    = 10 * time.Minute // of what a hub may ask an agent to wait
)

// Dialer opens the connection below TLS.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Error is why the hub was not reached, or said no.
type Error struct {
	Reason string        // one of identity's; "" when the hub gave none
	Text   string        // what happened
	Next   string        // what to do; may be empty
	Retry  time.Duration // how long the hub asks to wait; 0: it does not
	Down   bool          // the hub was not reached
	Absent bool          // the hub has no such service: it is older than this agent
	Err    error
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Text
	if e.Err != nil && e.Down {
		text += ": " + e.Err.Error()
	}
	if e.Next != "" {
		text += ": " + e.Next
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether it stands until a person does something.
func (e *Error) Permanent() bool { return identity.Permanent(e.Reason) }

// errWrongHub means that the server is not the hub that the token or the identity names.
var errWrongHub = errors.New("not the hub that this site knows")

// joinTLS are the settings of a connection before there is an identity: the hub is known by the root in the token.
func joinTLS(token identity.Token, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{identity.EnrolALPN, "h2"},
		Time:       now,

		InsecureSkipVerify: true, //nolint:gosec // verification by host name is replaced by the one below
		VerifyConnection: func(cs tls.ConnectionState) error {
			return checkHub(cs.PeerCertificates, token, now())
		},
	}
}

// checkHub checks a hub's chain against the root that a token names, before the token is sent to it.
func checkHub(chain []*x509.Certificate, token identity.Token, now time.Time) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it shows no certificate", errWrongHub)
	}
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	found := false
	for _, c := range chain {
		if token.Fits(c) {
			opts.Roots.AddCert(c)
			found = true
		} else {
			opts.Intermediates.AddCert(c)
		}
	}
	if !found {
		return fmt.Errorf("%w: it does not show the CA that the token names: is the address right? If the hub's CA was exchanged since, ask for a new token", errWrongHub)
	}
	_, err := chain[0].Verify(opts)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: its certificate is not valid now: check this machine's clock, then the hub's: %w", errWrongHub, err)
	case err != nil:
		return fmt.Errorf("%w: its certificate is not signed by the CA that the token names: %w", errWrongHub, err)
	}
	if err := identity.CheckHub(chain[0]); err != nil {
		return fmt.Errorf("%w: %w", errWrongHub, err)
	}
	return nil
}

// siteTLS are the settings of a connection with an identity.
func siteTLS(id *keys.Identity, now func() time.Time) *tls.Config {
	c := id.TLS(now)
	c.NextProtos = []string{identity.EnrolALPN, "h2"}
	return c
}

// strangerTLS are the settings of a connection on which the site shows no certificate, its own having run out. The hub is
// known by its CA all the same.
func strangerTLS(id *keys.Identity, now func() time.Time) *tls.Config {
	c := siteTLS(id, now)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	return c
}

// hub is where calls go.
type hub struct {
	addresses []string
	dial      Dialer
}

func plainDialer() Dialer {
	d := &net.Dialer{}
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// do makes calls on one connection, to the first address that can be reached.
func (h hub) do(ctx context.Context, cfg *tls.Config, calls func(context.Context, enrolv1.EnrolServiceClient) error) error {
	var last error
	for _, address := range h.addresses {
		err := h.at(ctx, address, cfg, calls)
		var e *Error
		if err == nil || !errors.As(err, &e) || !e.Down || ctx.Err() != nil {
			return err
		}
		last = err
	}
	if last == nil {
		return &Error{Text: "no address of the hub is known", Next: "set hub.address, or enrol again with --hub HOST:PORT"}
	}
	return last
}

func (h hub) at(ctx context.Context, address string, cfg *tls.Config, calls func(context.Context, enrolv1.EnrolServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	below := &tunnel.Trace{}
	conn, err := grpc.NewClient("passthrough:///"+address, append(below.Options(cfg, h.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))...)
	if err != nil {
		return &Error{Text: fmt.Sprintf("hub address %q cannot be used", address), Err: err, Down: true}
	}
	defer func() { _ = conn.Close() }()
	return explain(calls(ctx, enrolv1.NewEnrolServiceClient(conn)), address, below.First())
}

// explain turns the error of a call into one that says what to do.
func explain(err error, address string, below error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err // of this program
	}
	e := &Error{Err: err}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == identity.ErrorDomain {
				e.Reason = d.GetReason()
			}
		case *errdetails.RetryInfo:
			e.Retry = min(max(0, d.GetRetryDelay().AsDuration()), maxAsked)
		}
	}
	e.Next = identity.WhatNext(e.Reason)
	switch {
	case e.Reason != "":
		e.Text = fmt.Sprintf("the hub at %s says no (%s): %s", address, e.Reason, clip(st.Message()))
	case errors.Is(below, errWrongHub), errors.Is(below, identity.ErrHubWrongCA), errors.Is(below, identity.ErrHubName), errors.Is(below, identity.ErrHubExpired):
		e.Text = fmt.Sprintf("the server at %s is not trusted and was told nothing: %v", address, below)
	case st.Code() == codes.Unimplemented:
		e.Absent = true
		e.Text = fmt.Sprintf("the server at %s does not enrol sites", address)
		e.Next = "check the address (the hub's gRPC one, GRPC_ADDR); a hub older than this agent registers sites by hand ('keys init')"
	case st.Code() == codes.Unavailable, st.Code() == codes.DeadlineExceeded, st.Code() == codes.Canceled:
		e.Down = true
		e.Text = fmt.Sprintf("the hub at %s was not reached or could not answer", address)
		if below != nil {
			e.Err = below
		}
		e.Next = "check address, network and firewall"
	default:
		e.Text = fmt.Sprintf("the hub at %s refused: %s", address, clip(st.Message()))
	}
	return e
}

// clip bounds a text of the hub's for people.
func clip(s string) string { return s[:min(len(s), 400)] }
