package airflow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// credential is what one request is signed with: a bearer token, or username
// and password by HTTP basic.
type credential struct {
	token              string
	given              bool // the token is the operator's own
	username, password string
}

func (cred credential) none() bool { return cred == credential{} }

func (cred credential) apply(req *http.Request) {
	switch {
	case cred.token != "":
		req.Header.Set("Authorization", "Bearer "+cred.token)
	case cred.username != "":
		req.SetBasicAuth(cred.username, cred.password)
	}
}

// refused says in words that Airflow didn't take the credential.
func (cred credential) refused() string {
	switch {
	case cred.given:
		return "airflow doesn't take the token that was given: it is broken, revoked or expired, or its account is gone or switched off: give another one, it can't be renewed from here"
	case cred.token != "":
		return "airflow doesn't take the token it gave itself: the account is gone or switched off, or airflow's servers don't share one secret"
	default:
		return "airflow doesn't take username and password here: they are wrong, the account is switched off, or basic authentication is off (" + basicSetting + ")"
	}
}

const wrongPassword = "username or password is wrong, or the account is switched off"

// basicSetting is what switches HTTP basic on, which Airflow's default doesn't.
const basicSetting = "AIRFLOW__FAB__AUTH_BACKENDS, on Airflow 2 AIRFLOW__API__AUTH_BACKENDS, must list " +
	"airflow.providers.fab.auth_manager.api.auth.backend.basic_auth"

// session keeps the bearer token.
type session struct {
	// given is a ready-made token of the operator's, which can't be renewed.
	given string

	mutex   // of what follows
	token   string
	expires time.Time
}

// credential is what the endpoint takes, other than the token that it refused.
func (c *Client) credential(ctx context.Context, call call, refused string) (credential, error) {
	if call.endpoint == open {
		return credential{}, nil
	}
	server, err := c.routes(ctx)
	if err != nil {
		return credential{}, err
	}
	if server.takesBearer(call.endpoint) {
		return c.bearer(ctx, refused)
	}
	if c.username == "" || c.password == "" {
		return credential{}, &Error{
			Kind: Precondition, Op: call.op,
			Hint: server.String() + " takes no token here, only username and password: give these",
		}
	}
	return credential{username: c.username, password: c.password}, nil
}

// bearer returns the token, signing in if there is none, if it is about to
// expire or if it is the one that was refused. Those who come meanwhile wait for
// the same sign-in: each one counts in Airflow as a login of the account.
func (c *Client) bearer(ctx context.Context, refused string) (credential, error) {
	s := &c.session
	if s.given != "" {
		return credential{token: s.given, given: true}, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return credential{}, err
	}
	defer unlock()
	if s.token == "" || s.token == refused || !c.now().Before(s.expires) {
		started := c.now()
		token, err := c.signIn(ctx)
		if err != nil {
			return credential{}, err
		}
		s.token, s.expires = token, started.Add(lifetime(token))
	}
	return credential{token: s.token}, nil
}

// signIn asks for a token.
func (c *Client) signIn(ctx context.Context) (string, error) {
	call := call{
		op: "sign in as " + c.username, method: http.MethodPost, path: []string{"auth", "token"}, repeat: true,
		body: map[string]string{"username": c.username, "password": c.password},
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err := c.do(ctx, call, &answer)
	if e := new(Error); errors.As(err, &e) && e.Status == http.StatusUnauthorized {
		e.Kind, e.Hint = Unauthenticated, wrongPassword
	}
	if err == nil && answer.AccessToken == "" {
		err = &Error{Kind: Precondition, Op: call.op, Hint: "the answer holds no access_token: this is no token endpoint of airflow"}
	}
	return answer.AccessToken, err
}

// lifetime is how long a token can be used from when it was asked for. It is
// counted from the token's own time of issue, so that the two clocks need not
// agree, and less a tenth, a minute at most. A token that tells nothing is used
// for a quarter of an hour.
func lifetime(token string) time.Duration {
	var claims struct {
		Issued  float64 `json:"iat"`
		Expires float64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(payload, &claims) // what can't be read stays zero
		}
	}
	if claims.Expires <= claims.Issued || claims.Issued <= 0 || claims.Expires-claims.Issued > 1e9 {
		return 15 * time.Minute
	}
	life := time.Duration((claims.Expires - claims.Issued) * float64(time.Second))
	return life - min(life/10, time.Minute)
}
