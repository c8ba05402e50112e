package web

import (
	"context"

	"airlock/internal/base/fault"
	"airlock/internal/base/trace"
)

// errorTitle says in a few words what happened.
func errorTitle(err error) string {
	switch fault.CodeOf(err) {
	case fault.Forbidden:
		return "You may not do this"
	case fault.NotFound:
		return "There is nothing here"
	case fault.Unauthenticated:
		return "Sign in first"
	case fault.Conflict, fault.NotReady:
		return "This can't be done now"
	case fault.Invalid:
		return "This was not understood"
	case fault.TooLarge:
		return "This is too large"
	case fault.Exhausted:
		return "Too much at once"
	case fault.Unavailable, fault.Timeout:
		return "This doesn't work at the moment"
	default:
		return "Something went wrong here"
	}
}

// errorAdvice says what to do.
func errorAdvice(err error) string {
	switch fault.CodeOf(err) {
	case fault.Forbidden:
		return "If you need it, ask an administrator of Airlock."
	case fault.NotFound:
		return "It may have been removed, or the address has a typing error. The search above finds what is there."
	case fault.Exhausted, fault.Unavailable, fault.Timeout:
		return "Try again in a minute."
	case fault.Internal:
		return "Try again. If it happens again, tell an administrator the number below: with it the server's log says more."
	default:
		return ""
	}
}

// reference is the number under which the server's log tells more.
func reference(ctx context.Context) string { return trace.ID(ctx, "request") }
