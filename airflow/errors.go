package airflow

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what an [Error] means to the caller.
type Kind int

// The kinds of error.
const (
	// Unavailable: no answer, or one that says "later" (429, 5xx). The same call may succeed.
	Unavailable Kind = iota + 1
	// Unauthenticated: Airflow doesn't take the credential.
	Unauthenticated
	// Forbidden: the account lacks a permission; Error.Needs names it.
	Forbidden
	// NotFound: the one thing asked for isn't there. Never the answer of a list.
	NotFound
	// Conflict: a thing of that name is there already.
	Conflict
	// Invalid: Airflow, or this client before any call, refuses what was asked.
	Invalid
	// Precondition: this isn't an Airflow that can be governed this way: wrong
	// address, a certificate that isn't trusted, another auth manager, a proxy's
	// page, a backend that is off.
	Precondition
	// Moved: a list or a user's roles kept changing under the client, or what
	// Airflow said was done isn't so.
	Moved
)

// Error is what every call of this package fails with, apart from a cancelled context.
type Error struct {
	Kind Kind
	// Op is what was being done, in words: "list users", "read user eve".
	Op string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Detail is what Airflow said about it, in its own words.
	Detail string
	// Hint says what it means and what to do.
	Hint string
	// Needs is the permission the account lacks (Forbidden).
	Needs Permission
	// RetryAfter is how long Airflow asked to wait; 0 if it didn't.
	RetryAfter time.Duration
	// Err is the cause, if there is one below HTTP.
	Err error

	basic bool // it was HTTP basic that wasn't taken
	final bool // it was tried as often as is sensible
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("airflow: " + e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether err is an [Error] of that kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
