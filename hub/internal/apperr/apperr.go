// Package apperr is the one coded error type that crosses the hub's API boundary, the list of codes, and their mapping to
// HTTP and gRPC status. Subjects make these errors at their edge; handlers map them with Of. An error without a code is an
// internal one: its text reaches only the log.
package apperr

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind says what sort of failure an error is, whatever its subject.
type Kind uint8

// Kinds of errors.
const (
	Internal        Kind = iota // a fault of this program or of its database
	Invalid                     // the request is malformed
	Unprocessable               // the request is well formed and cannot be fulfilled as it is
	Unauthenticated             // nobody has shown who asks
	Forbidden                   // who asks may not
	NotFound                    // it does not exist, or not for who asks
	Conflict                    // it does not fit the present state
	TooMany                     // asked too often
	Unavailable                 // cannot be done now, later perhaps
)

// Error is an error with a code that a client may branch on. Its text is for whoever sent the request.
type Error struct {
	Kind Kind
	Code Code
	Text string
	err  error
}

// E makes a coded error. %w keeps a cause for the log and for errors.Is; its text becomes part of the text.
func E(kind Kind, code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Code: code, Text: err.Error(), err: err}
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return errors.Unwrap(e.err) }

// Public is what a client may see of an error.
type Public struct {
	HTTP int        // status
	GRPC codes.Code // status
	Code Code       // empty for an internal error without a code
	Text string     // what happened
	Help string     // what to do next, for customers: names no setting and no service
	// Operator is what to do next for who runs the hub; "" where Help says it all.
	Operator string
}

// Of maps any error to what a client may see. A foreign error's text is withheld.
func Of(err error) Public {
	var e *Error
	if !errors.As(err, &e) {
		e = classify(err)
	}
	info := listed[e.Code]
	p := Public{HTTP: e.Kind.http(), GRPC: e.Kind.grpc(), Code: e.Code, Text: e.Text, Help: info.Help, Operator: info.Operator}
	if info.HTTP != 0 && e.Kind != Unprocessable {
		p.HTTP = info.HTTP
	}
	return p
}

// GRPC maps an error to a gRPC status error. Nil stays nil, and what is a status already stays as it is.
func GRPC(err error) error {
	if err == nil {
		return nil
	}
	var coded *Error
	if _, ok := status.FromError(err); ok && !errors.As(err, &coded) {
		return err
	}
	p := Of(err)
	if p.Code == "" {
		return status.Error(p.GRPC, p.Text)
	}
	return status.Errorf(p.GRPC, "%s: %s", p.Code, p.Text)
}

// classify gives the codes that come from below: the database and deadlines.
func classify(err error) *Error {
	var pgErr *pgconn.PgError
	var connErr *pgconn.ConnectError
	var netErr *net.OpError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "57014", errors.Is(err, context.DeadlineExceeded):
		return E(Internal, "DB_002", "the query took too long")
	case errors.As(err, &pgErr) && (pgErr.Code == "22021" || pgErr.Code == "22P05"): // the caller's text, which nothing else refuses: no fault of the hub
		return E(Invalid, "VALID_001", "a text holds a character that cannot be stored, such as U+0000")
	case errors.As(err, &pgErr) && (pgErr.Code[:2] == "08" || pgErr.Code[:2] == "53" || pgErr.Code[:3] == "57P"),
		errors.As(err, &connErr), errors.As(err, &netErr):
		return E(Internal, "DB_001", "the database cannot be reached")
	default:
		return &Error{Kind: Internal, Text: "an internal error; the log has it under this request's id"}
	}
}

func (k Kind) http() int {
	switch k {
	case Invalid:
		return 400
	case Unprocessable:
		return 422
	case Unauthenticated:
		return 401
	case Forbidden:
		return 403
	case NotFound:
		return 404
	case Conflict:
		return 409
	case TooMany:
		return 429
	case Unavailable:
		return 503
	default:
		return 500
	}
}

func (k Kind) grpc() codes.Code {
	switch k {
	case Invalid, Unprocessable:
		return codes.InvalidArgument
	case Unauthenticated:
		return codes.Unauthenticated
	case Forbidden:
		return codes.PermissionDenied
	case NotFound:
		return codes.NotFound
	case Conflict:
		return codes.FailedPrecondition
	case TooMany:
		return codes.ResourceExhausted
	case Unavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
