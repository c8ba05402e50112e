package airflow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Server is what answers at the base URL.
type Server struct {
	// Airflow is its version: "3.3.2".
	Airflow string
	// FAB is the version of the FAB auth manager's provider: "3.10.2". Where the
	// account may not read it, it is what the endpoints show: "3.3 or later".
	FAB string
	// api is the version of the core's REST API: 2 on Airflow 3, 1 on Airflow 2.
	api int
	// bearer are the endpoints that take a token, as /auth/openapi.json lists
	// them. All others take username and password.
	bearer map[endpoint]bool
}

// Credentials says how the account is shown to the users and roles endpoints:
// "bearer", "basic", or "bearer and basic".
func (s Server) Credentials() string {
	n := 0
	for _, e := range []endpoint{users, roles} {
		if s.bearer[e] {
			n++
		}
	}
	return [...]string{"basic", "bearer and basic", "bearer"}[n]
}

func (s Server) String() string {
	return fmt.Sprintf("Airflow %s, FAB %s, %s", s.Airflow, cmp.Or(s.FAB, s.fabShown()), s.Credentials())
}

func (s Server) takesBearer(e endpoint) bool {
	if e == api {
		return s.api == 2
	}
	return s.bearer[e]
}

// apiPath is a path of the core's REST API.
func (s Server) apiPath(segments ...string) []string {
	return append([]string{"api", "v" + strconv.Itoa(s.api)}, segments...)
}

// Server finds out what answers at the base URL, once: Airflow's version, the
// FAB provider's, and which endpoint takes which credential. Another auth
// manager than FAB is an error of the kind Precondition.
func (c *Client) Server(ctx context.Context) (Server, error) {
	s, err := c.routes(ctx)
	if err != nil {
		return Server{}, err
	}
	if s.FAB != "" {
		return s, nil
	}
	if s.FAB, err = c.fabVersion(ctx, s); err != nil {
		return Server{}, err
	}
	c.server.Store(&s)
	return s, nil
}

// Rediscover forgets what was found out, so that the next call looks again: an
// Airflow may have been upgraded since.
func (c *Client) Rediscover() { c.server.Store(nil) }

// routes is what [Client.Server] finds, except that FAB's version may be
// missing: it is what every call needs to know before it is sent.
func (c *Client) routes(ctx context.Context) (Server, error) {
	if s := c.server.Load(); s != nil {
		return *s, nil
	}
	unlock, err := c.discover.lock(ctx)
	if err != nil {
		return Server{}, err
	}
	defer unlock()
	if s := c.server.Load(); s != nil {
		return *s, nil
	}
	s, err := c.coreVersion(ctx)
	if err != nil {
		return Server{}, err
	}
	manager := ""
	if s.api == 2 {
		if s.bearer, manager, err = c.oracle(ctx); err != nil {
			return Server{}, err
		}
	}
	if !s.bearer[users] {
		if err := c.probeFAB(ctx, s, manager); err != nil {
			return Server{}, err
		}
	}
	c.server.Store(&s)
	return s, nil
}

// coreVersion asks Airflow 3's version endpoint, then Airflow 2's.
func (c *Client) coreVersion(ctx context.Context) (Server, error) {
	const op = "read the version of airflow"
	var first error
	for _, api := range []int{2, 1} {
		var answer struct {
			Version string `json:"version"`
		}
		err := c.do(ctx, call{op: op, method: http.MethodGet, path: Server{api: api}.apiPath("version")}, &answer)
		if err == nil && answer.Version != "" {
			return Server{Airflow: answer.Version, api: api}, nil
		}
		if err == nil {
			err = &Error{Kind: Precondition, Op: op, Hint: "what answers at " + c.BaseURL() + " tells no version, it isn't airflow: check the base URL"}
		}
		first = cmp.Or(first, err)
		// Only where there is no such endpoint is the older one worth a try.
		if !Is(err, Precondition) {
			return Server{}, err
		}
	}
	return Server{}, first
}

// oracle reads from /auth/openapi.json which endpoints take the bearer token:
// it lists just those (measured on FAB 2.4 to 3.10). It also returns the title,
// which names the auth manager.
func (c *Client) oracle(ctx context.Context) (bearer map[endpoint]bool, title string, err error) {
	var doc struct {
		Info struct {
			Title string `json:"title"`
		} `json:"info"`
		Paths map[string]any `json:"paths"`
	}
	err = c.do(ctx, call{
		op: "read which credentials airflow takes", method: http.MethodGet,
		path: []string{"auth", "openapi.json"},
	}, &doc)
	if e := new(Error); errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Kind == Precondition && e.Status < 300) {
		return nil, "", nil // no such document, or the UI's page: no endpoint takes a token
	}
	if err != nil {
		return nil, "", err
	}
	bearer = map[endpoint]bool{}
	for _, e := range []endpoint{users, roles, permissions} {
		_, bearer[e] = doc.Paths[string(e)]
	}
	return bearer, doc.Info.Title, nil
}

// probeFAB asks for users without a credential where the oracle doesn't list
// them. FAB refuses to answer; another auth manager has no such endpoint.
func (c *Client) probeFAB(ctx context.Context, s Server, manager string) error {
	const op = "look for the FAB auth manager"
	// Airflow 3 answers what it doesn't know with its UI's page, and 200.
	var ignored json.RawMessage
	err := c.do(ctx, call{op: op, method: http.MethodGet, path: listUsers.path}, &ignored)
	var e *Error
	switch {
	case err == nil, errors.As(err, &e) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		return nil
	case !Is(err, Precondition):
		return err
	}
	if manager == "" {
		manager = "another auth manager"
	} else {
		manager = strconv.Quote(manager)
	}
	return &Error{Kind: Precondition, Op: op, Hint: fmt.Sprintf(
		"Airflow %s runs with %s, which keeps its users and roles elsewhere: only the FAB auth manager can be governed here "+
			"([core] auth_manager = airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager)", s.Airflow, manager)}
}

// fabVersion reads the FAB provider's version from the list of providers. Where
// that can't be read, it says what the endpoints show.
func (c *Client) fabVersion(ctx context.Context, s Server) (string, error) {
	const fab = "apache-airflow-providers-fab"
	for offset := 0; ; {
		var answer struct {
			Providers []struct {
				Name    string `json:"package_name"`
				Version string `json:"version"`
			} `json:"providers"`
			Total int `json:"total_entries"`
		}
		err := c.do(ctx, call{
			op: "read the versions of providers", method: http.MethodGet, endpoint: api, path: s.apiPath("providers"),
			query: url.Values{"limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(offset)}},
			needs: Permission{Action: "can_read", Resource: "Providers"},
		}, &answer)
		switch {
		case Is(err, Unauthenticated) || ctx.Err() != nil:
			return "", err
		case err != nil:
			return s.fabShown(), nil //nolint:nilerr // the version is told where it may be read; nothing depends on it
		}
		for _, p := range answer.Providers {
			if p.Name == fab && p.Version != "" {
				return p.Version, nil
			}
		}
		// Airflow 2 ignores limit and offset here and gives the whole list.
		offset += len(answer.Providers)
		if len(answer.Providers) == 0 || offset >= answer.Total {
			return s.fabShown(), nil
		}
	}
}

// fabShown is the range of FAB's versions that shows these endpoints.
func (s Server) fabShown() string {
	switch {
	case s.api == 1:
		return "1.x"
	case s.bearer[permissions]:
		return "3.3 or later"
	case s.bearer[users]:
		return "3.2"
	case s.bearer[roles]:
		return "3.0.2 to 3.1"
	default:
		return "2.0 to 3.0.1"
	}
}

// CheckName refuses a user's or role's name that can't be put into a path:
// Airflow decodes %2F before it looks for the route, so it would never be found.
// what is "user" or "role".
func CheckName(what, name string) error {
	var why string
	switch {
	case name == "":
		why = "is empty"
	case strings.Contains(name, "/"):
		why = "holds a slash, and airflow's API can't address it: rename or remove it in airflow itself"
	case name == "." || name == "..":
		why = "is a part of a path, and airflow's API can't address it"
	default:
		return nil
	}
	return &Error{Kind: Invalid, Op: "address a " + what, Hint: fmt.Sprintf("the %s name %q %s (nothing was changed)", what, name, why)}
}
