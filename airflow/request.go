package airflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// endpoint is a group of calls that takes the same kind of credential.
type endpoint string

// The endpoints, by their paths in /auth/openapi.json where that lists them.
const (
	open        endpoint = ""
	users       endpoint = "/fab/v1/users"
	roles       endpoint = "/fab/v1/roles"
	permissions endpoint = "/fab/v1/permissions"
	api         endpoint = "/api"
)

// call is one request and what is known about it.
type call struct {
	op       string
	method   string
	endpoint endpoint
	// path has its segments unescaped.
	path  []string
	query url.Values
	body  any
	// needs is the permission that Airflow asks for.
	needs Permission
	// one is true where a 404 means "that one thing isn't there": it is the last
	// segment of the path.
	one bool
	// repeat is true where asking again does no harm, though it isn't a GET.
	repeat bool
}

func (c call) lacks() string {
	return "the account lacks the permission " + c.needs.String() + ": give it a role that has it"
}

const (
	// attempts is how often an idempotent call is tried.
	attempts = 4
	// patience is the longest Retry-After that is waited for here.
	patience = 10 * time.Second
)

// do sends the call and decodes the JSON answer into out, unless that is nil.
// What does no harm twice is sent again when there was no answer, or one that
// says "later".
func (c *Client) do(ctx context.Context, call call, out any) error {
	for try := 1; ; try++ {
		err := c.send(ctx, call, out)
		var e *Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("airflow: %s: %w", call.op, stopped(ctx))
		case !errors.As(err, &e):
			return err
		case e.Kind == NotFound && call.method == http.MethodDelete && try > 1:
			return nil // an earlier try did it, only its answer was lost
		case e.Kind != Unavailable || e.final || !call.repeatable(e.Status) || try == attempts || e.RetryAfter > patience:
			e.final = true // for whoever needed this call for another
			return err
		}
		if err := c.wait(ctx, backoff(try, e.RetryAfter)); err != nil {
			return fmt.Errorf("airflow: %s: %w", call.op, err)
		}
	}
}

// repeatable reports whether the call may be sent again after such a failure.
func (c call) repeatable(status int) bool {
	// A delete that ends in 500 did so for a reason that stays.
	return c.repeat || c.method == http.MethodGet || c.method == http.MethodDelete && status != http.StatusInternalServerError
}

// backoff is how long to wait after try number try failed: 0.25 s, 1 s, 4 s,
// somewhat scattered, or what the server asked for.
func backoff(try int, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	d := 250 * time.Millisecond << (2 * (try - 1))
	return d/2 + rand.N(d)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return stopped(ctx)
	}
}

// stopped is the error of a context that has ended, with the cause if there is one.
func stopped(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}

// send sends the call once, or twice where the token had gone stale.
func (c *Client) send(ctx context.Context, call call, out any) error {
	cred, err := c.credential(ctx, call, "")
	if err != nil {
		return err
	}
	err = c.exchange(ctx, call, cred, out)
	if !Is(err, Unauthenticated) {
		return err
	}
	switch {
	case cred.token != "" && !cred.given:
		if cred, err = c.credential(ctx, call, cred.token); err != nil {
			return err
		}
		return c.exchange(ctx, call, cred, out)
	case cred.token == "" && call.endpoint == api:
		return c.sharpen(ctx, call, cred, err)
	}
	return err
}

// sharpen finds out what 403 means at Airflow 2's core, which in 2.11 says no
// more to whom it doesn't know than to whom it knows and refuses. FAB's endpoint
// does.
func (c *Client) sharpen(ctx context.Context, call call, cred credential, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusForbidden {
		return err
	}
	probe := listUsers
	probe.query = url.Values{"limit": {"1"}}
	if known := c.exchange(ctx, probe, cred, nil); known == nil || Is(known, Forbidden) {
		e.Kind, e.Hint, e.Needs = Forbidden, call.lacks(), call.needs
	}
	return err
}

// exchange is one request and its answer.
func (c *Client) exchange(ctx context.Context, call call, cred credential, out any) error {
	var body io.Reader
	if call.body != nil {
		b, err := json.Marshal(call.body)
		if err != nil {
			return &Error{Kind: Invalid, Op: call.op, Err: err}
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, call.method, c.url(call).String(), body)
	if err != nil {
		return &Error{Kind: Invalid, Op: call.op, Err: err}
	}
	req.Header.Set("Accept", "application/json")
	if call.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	cred.apply(req)

	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(call.op, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return &Error{
			Kind: Unavailable, Op: call.op, Status: resp.StatusCode, Err: err,
			Hint: "the answer broke off: nothing of it was used",
		}
	}
	return c.decode(call, cred, resp, answer, out)
}

// url puts the call's path below the base URL, each segment escaped by itself.
func (c *Client) url(call call) *url.URL {
	u := *c.base
	raw := c.base.EscapedPath()
	for _, segment := range call.path {
		u.Path += "/" + segment
		raw += "/" + url.PathEscape(segment)
	}
	u.RawPath = raw
	u.RawQuery = call.query.Encode()
	return &u
}
