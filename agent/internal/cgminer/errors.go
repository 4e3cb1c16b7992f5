package cgminer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Error is a request that brought no reply that can be used. Outcome says which way it failed.
type Error struct {
	Command string
	Outcome telemetry.Outcome // never OK or Partial
	Err     error
}

// Error names the command, what happened and, where there is one, what to do about it.
func (e *Error) Error() string {
	switch e.Outcome {
	case telemetry.OutcomeRefused:
		return e.Command + ": connection refused: no mining program runs, or it has no pool"
	case telemetry.OutcomeDenied:
		return e.Command + ": closed without an answer: this address is not in the miner's api-allow list"
	}
	return fmt.Sprintf("%s: %s: %v", e.Command, e.Outcome, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// APIError is a well-formed refusal: status E or F.
type APIError struct {
	Command string
	Code    int64  // 14 invalid command, 23 invalid JSON, 45 access denied, …
	Msg     string // the miner's own words: data, never markup
}

// Error gives the miner's code and words.
func (e *APIError) Error() string {
	return fmt.Sprintf("%s: miner answers code %d: %.120s", e.Command, e.Code, e.Msg)
}

// Codes of refusals that do not pass by themselves.
const (
	CodeInvalidCommand = 14
	CodeInvalidJSON    = 23
	CodeMissingCommand = 24
	CodeAccessDenied   = 45
)

// OutcomeOf returns the outcome of a poll that ended with err; nil is OutcomeOK.
func OutcomeOf(err error) telemetry.Outcome {
	if err == nil {
		return telemetry.OutcomeOK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	if _, ok := errors.AsType[*APIError](err); ok {
		return telemetry.OutcomeAPIError
	}
	return telemetry.OutcomeGarbage
}

// Error numbers of Windows sockets: package syscall gives its own numbers to the POSIX names there.
const (
	errWSAConnAborted = syscall.Errno(10053)
	errWSAConnReset   = syscall.Errno(10054)
	errWSATimedOut    = syscall.Errno(10060)
	errWSAConnRefused = syscall.Errno(10061)
)

// outcomeOfIO tells apart the ways in which a connection fails.
func outcomeOfIO(err error) telemetry.Outcome {
	is := func(posix, windows syscall.Errno) bool {
		return errors.Is(err, posix) || runtime.GOOS == "windows" && errors.Is(err, windows)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return telemetry.OutcomeTimeout
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, context.Canceled), is(syscall.ETIMEDOUT, errWSATimedOut):
		return telemetry.OutcomeTimeout
	case is(syscall.ECONNREFUSED, errWSAConnRefused):
		return telemetry.OutcomeRefused
	case is(syscall.ECONNRESET, errWSAConnReset), is(syscall.ECONNABORTED, errWSAConnAborted),
		errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe), errors.Is(err, io.ErrUnexpectedEOF):
		return telemetry.OutcomeReset
	}
	return telemetry.OutcomeUnreachable
}
