package airflow

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// Me is the name of the account that a token belongs to; "" where Airflow has no
// way to tell (before 3.2, as measured).
func (c *Client) Me(ctx context.Context) (string, error) {
	s, err := c.routes(ctx)
	if err != nil || s.api == 1 {
		return "", err
	}
	var answer struct {
		Username string `json:"username"`
	}
	err = c.do(ctx, call{
		op: "ask whose token it is", method: http.MethodGet, endpoint: api, path: []string{"ui", "auth", "me"},
	}, &answer)
	if Is(err, Precondition) {
		return "", nil
	}
	return answer.Username, err
}

// Diagnose says more of an error that means that HTTP basic didn't let the
// account in, for which it signs in once: if the password is right, the basic
// backend is off, which is an error of the kind Precondition. Other errors it
// returns as they are.
func (c *Client) Diagnose(ctx context.Context, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Kind != Unauthenticated || !e.basic {
		return err
	}
	s, found := c.routes(ctx)
	if found != nil {
		return err
	}
	works, tried := c.passwordWorks(ctx, s)
	if tried != nil {
		return err
	}
	told := *e
	if works {
		told.Kind = Precondition
		told.Hint = "username and password are right, but Airflow " + s.Airflow + " doesn't take them at its API: basic authentication is off, and " + basicSetting
	} else {
		told.Hint = wrongPassword
	}
	return &told
}

// passwordWorks signs in by the token endpoint, or on Airflow 2 by the form that
// people use.
func (c *Client) passwordWorks(ctx context.Context, s Server) (bool, error) {
	if s.api == 2 {
		_, err := c.signIn(ctx)
		if Is(err, Unauthenticated) {
			return false, nil
		}
		return err == nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return false, err
	}
	form := *c.http
	form.Jar = jar
	page, err := c.formRequest(ctx, &form, http.MethodGet, nil)
	if err != nil {
		return false, err
	}
	token := csrfToken.FindStringSubmatch(page.body)
	if token == nil {
		return false, errors.New("the sign-in page holds no form")
	}
	answer, err := c.formRequest(ctx, &form, http.MethodPost, url.Values{"username": {c.username}, "password": {c.password}, "csrf_token": {token[1]}})
	if err != nil {
		return false, err
	}
	// Either way it redirects: to where one wanted to go, or back to the form.
	to, err := url.Parse(answer.location)
	if err != nil || answer.status != http.StatusFound {
		return false, errors.New("the sign-in form says neither yes nor no")
	}
	return !strings.HasSuffix(strings.TrimRight(to.Path, "/"), "/login"), nil
}

// csrfToken finds the token in the sign-in form of Airflow 2.
var csrfToken = regexp.MustCompile(`name="csrf_token"[^>]*\bvalue="([^"]+)"`)

type formAnswer struct {
	status         int
	location, body string
}

// formRequest gets the sign-in page of Airflow 2, or sends its form.
func (c *Client) formRequest(ctx context.Context, client *http.Client, method string, form url.Values) (formAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url(call{path: []string{"login", ""}}).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return formAnswer{}, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		return formAnswer{}, unreachable("open the sign-in page", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return formAnswer{resp.StatusCode, resp.Header.Get("Location"), string(body)}, err
}
