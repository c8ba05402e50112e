package airflow

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// pasted matches the tail of a URL that was copied from a browser's address bar
// or from API documentation: what Airflow itself serves below its base URL.
var pasted = regexp.MustCompile(`(?:/api/v[12](?:/.*)?|/auth(?:/(?:login|logout|token|docs|openapi\.json|fab(?:/.*)?)?)?|/home|/login|/dags(?:/.*)?)$`)

// ParseBaseURL makes a base URL of what a person gives: with or without a path
// or trailing slash, or with a page's address pasted in (`/auth`, `/api/v2`,
// `/home`). Only https and http are taken; a user, query or fragment is not.
func ParseBaseURL(s string) (*url.URL, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, errors.New("airflow base URL is empty: give it as https://airflow.example.com")
	}
	if !strings.Contains(s, "://") {
		// It isn't repeated: it may hold a password.
		return nil, errors.New("airflow base URL has no scheme: begin it with https://")
	}
	u, err := url.Parse(s)
	if err != nil {
		// url.Error repeats the whole text, which may hold a password.
		return nil, errors.New("airflow base URL can't be read as a URL: give it as https://airflow.example.com")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("airflow base URL has the scheme %q: only https (and http) are taken", u.Scheme)
	}
	if u.User != nil {
		return nil, errors.New("airflow base URL holds a user: give username and password by their own settings")
	}
	if u.Hostname() == "" {
		return nil, errors.New("airflow base URL has no host: give it as https://airflow.example.com")
	}
	path := u.EscapedPath()
	for {
		shorter := pasted.ReplaceAllString(strings.TrimRight(path, "/"), "")
		if shorter == path {
			break
		}
		path = shorter
	}
	out := &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	if out.Path, err = url.PathUnescape(path); err != nil {
		return nil, fmt.Errorf("airflow base URL has a path that can't be read: %w", err)
	}
	out.RawPath = path
	if _, err := url.Parse(out.String()); err != nil {
		return nil, errors.New("airflow base URL has a host that can't be read: give it as https://airflow.example.com")
	}
	return out, nil
}
