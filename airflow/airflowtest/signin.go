package airflowtest

import (
	"net/http"
	"net/url"
)

// signInForm is the page on which people sign in at Airflow 2. Its token counts
// together with the cookie that came with it.
func (s *Server) signInForm(*call) answer {
	page := "<!DOCTYPE html>\n<html><head><title>Sign In - Airflow</title></head><body><form method=\"post\">\n" +
		"<input id=\"csrf_token\" name=\"csrf_token\" type=\"hidden\" value=\"" + csrfToken() + "\">\n" +
		"<input name=\"username\"><input name=\"password\" type=\"password\"></form></body></html>\n"
	return answer{status: http.StatusOK, html: page, cookie: formSession + "; HttpOnly; Path=/; SameSite=Lax"}
}

// signIn takes the form. It redirects either way: to where one wanted to go, or
// back to the form.
func (s *Server) signIn(c *call) answer {
	form, err := url.ParseQuery(string(c.raw))
	if cookie, missing := c.r.Cookie("session"); err != nil || missing != nil || cookie.String() != formSession || form.Get("csrf_token") != csrfToken() {
		return answer{status: http.StatusBadRequest, html: "<!doctype html>\n<html lang=en>\n<title>400 Bad Request</title>\n<h1>Bad Request</h1>\n<p>The CSRF token is missing.</p>\n"}
	}
	to := s.opts.Path + "/home"
	if u, right := s.store.login(form.Get("username"), form.Get("password"), s.now()); right {
		c.req.User = u.username
	} else {
		to = s.opts.Path + "/login/?next=" + url.QueryEscape(to)
	}
	return answer{
		status: http.StatusFound, header: http.Header{"Location": {to}},
		html: "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n",
	}
}

const formSession = "session=of-the-form"

func csrfToken() string { return sign("the sign-in form")[:43] }
