// Package fault has the one error type by which the domain says what kind of
// thing went wrong. Edges turn its code into a status of HTTP, gRPC or a
// process, in one place each.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
)

// Code is a kind of error. An error that carries none is Internal: what it says
// is for the log, not for whoever asked.
type Code string

// The codes. Conflict is for what clashes with something that exists or changed
// meanwhile; NotReady for a request that is right but can't be met in the
// present state (a connector that is paused, a sync that isn't held).
const (
	Invalid         Code = "invalid"
	Unauthenticated Code = "unauthenticated"
	Forbidden       Code = "forbidden"
	NotFound        Code = "not_found"
	Conflict        Code = "conflict"
	NotReady        Code = "not_ready"
	TooLarge        Code = "too_large"
	Exhausted       Code = "exhausted"
	Unavailable     Code = "unavailable"
	Timeout         Code = "timeout"
	Cancelled       Code = "cancelled"
	Internal        Code = "internal"
)

// Error is an error with a code and words for whoever asked: what happened, to
// what, and what to do.
type Error struct {
	Code    Code
	Message string
	Field   string // the setting or field that is wrong, if one is
	Err     error  // the cause, for the log
}

// New makes an error of a kind. Its words are shown to whoever asked; %w works
// as in fmt.Errorf.
func New(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: err.Error()}
	switch err.(type) { //nolint:errorlint // does it wrap something, not: is it something
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		e.Err = err
	}
	return e
}

// At says which field is wrong.
func (e *Error) At(field string) *Error {
	e.Field = field
	return e
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// CodeOf finds the code of an error; nil has none, and what has none is Internal.
func CodeOf(err error) Code {
	known, ours := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return ""
	case ours:
		return known.Code
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Internal
}

// Is reports whether an error is of a kind.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }

// Words are what whoever asked may read: all of the error if it is one of ours,
// and nothing of its inside if it isn't.
func Words(err error) string {
	if _, ours := errors.AsType[*Error](err); ours {
		return err.Error()
	}
	switch CodeOf(err) {
	case "":
		return ""
	case Cancelled:
		return "it was cancelled"
	case Timeout:
		return "it took too long"
	default:
		return "something went wrong inside; the server's log says what"
	}
}

// status is how the edges call a code.
type status struct {
	http int
	grpc codes.Code
}

var statuses = map[Code]status{
	Invalid:         {http.StatusBadRequest, codes.InvalidArgument},
	Unauthenticated: {http.StatusUnauthorized, codes.Unauthenticated},
	Forbidden:       {http.StatusForbidden, codes.PermissionDenied},
	NotFound:        {http.StatusNotFound, codes.NotFound},
	Conflict:        {http.StatusConflict, codes.AlreadyExists},
	NotReady:        {http.StatusConflict, codes.FailedPrecondition},
	TooLarge:        {http.StatusRequestEntityTooLarge, codes.ResourceExhausted},
	Exhausted:       {http.StatusTooManyRequests, codes.ResourceExhausted},
	Unavailable:     {http.StatusServiceUnavailable, codes.Unavailable},
	Timeout:         {http.StatusGatewayTimeout, codes.DeadlineExceeded},
	Cancelled:       {499, codes.Canceled}, // nginx's number for a client that went away
	Internal:        {http.StatusInternalServerError, codes.Internal},
}

// HTTP is the status of an error in an HTTP answer.
func HTTP(err error) int { return statuses[CodeOf(err)].http }

// GRPC is the status of an error in a gRPC answer.
func GRPC(err error) codes.Code { return statuses[CodeOf(err)].grpc }
