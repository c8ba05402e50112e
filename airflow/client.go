package airflow

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Config is what a [Client] needs.
type Config struct {
	// BaseURL is where Airflow is; see [ParseBaseURL].
	BaseURL string
	// Username and Password of the account to work as.
	Username, Password string
	// Token is a ready-made API token, used where Airflow takes one instead of
	// signing in. Username then names the account it belongs to, if that is known.
	// Endpoints of older versions take no token: for these a password is needed
	// beside it.
	Token string
	// HTTP sends the requests; its transport decides on proxies and certificates.
	// nil is http.DefaultClient.
	HTTP *http.Client
	// Zone is the time zone of Airflow's server, whose times carry none; nil is UTC.
	Zone *time.Location
}

// Client talks to one Airflow as one account. It is safe for concurrent use.
type Client struct {
	base               *url.URL
	username, password string
	http               *http.Client
	zone               *time.Location
	// now tells the time and wait lets some pass; tests replace both.
	now  func() time.Time
	wait func(context.Context, time.Duration) error

	session  session
	users    keyedMutex // one change of a user at a time
	discover mutex
	server   atomic.Pointer[Server] // what was discovered
}

// New makes a client. It sends nothing.
func New(cfg Config) (*Client, error) {
	base, err := ParseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(cfg.Token) // files end in a newline
	if token == "" && (cfg.Username == "" || cfg.Password == "") {
		return nil, errors.New("airflow credentials are missing: give username and password, or a token")
	}
	c := &Client{
		base: base, username: cfg.Username, password: cfg.Password, zone: cmp.Or(cfg.Zone, time.UTC),
		now: time.Now, wait: wait,
		session: session{given: token, mutex: make(mutex, 1)}, discover: make(mutex, 1),
	}
	client := http.Client{}
	if cfg.HTTP != nil {
		client = *cfg.HTTP
	}
	client.CheckRedirect = checkRedirect
	c.http = &client
	return c, nil
}

// BaseURL is the address in use, without a trailing slash.
func (c *Client) BaseURL() string { return c.base.String() }

// TokenGiven reports whether the client works with a ready-made token, whose
// owner the username may name wrongly: [Client.Me] tells.
func (c *Client) TokenGiven() bool { return c.session.given != "" }

// Insecure reports whether passwords and tokens travel unencrypted.
func (c *Client) Insecure() bool { return c.base.Scheme == "http" }

// checkRedirect follows only what can't take the credentials elsewhere: a GET,
// to the same address, or from http up to https on the same host's usual ports.
func checkRedirect(next *http.Request, via []*http.Request) error {
	from, to := via[0].URL, next.URL
	same := to.Scheme == from.Scheme && to.Host == from.Host
	upgrade := from.Scheme == "http" && to.Scheme == "https" && to.Hostname() == from.Hostname() &&
		(from.Port() == "" || from.Port() == "80") && (to.Port() == "" || to.Port() == "443")
	if via[0].Method != http.MethodGet || !same && !upgrade || len(via) > 5 {
		return http.ErrUseLastResponse
	}
	return nil
}
