package web

import (
	"errors"
	"net"
	"net/http"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
)

// doorRoutes are signing in, by password or single sign-on, and the set-up of the first administrator.
func (s *Server) doorRoutes() []Route {
	return []Route{
		s.raw("GET /sign-in", anybody(), s.signInPage),
		s.form("POST /sign-in", anybody(), s.signIn),
		s.raw("GET /sign-in/oidc", anybody(), s.beginOIDC),
		s.raw("GET "+identity.OIDCCallback, anybody(), s.finishOIDC),
		s.raw("GET /setup/{token}", anybody(), s.setupPage),
		s.form("POST /setup/{token}", anybody(), s.setup),
	}
}

// visit is where a sign-in comes from.
func (c *Call) visit() identity.Visit {
	address := c.r.RemoteAddr
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return identity.Visit{Address: address, UserAgent: c.r.UserAgent(), Token: c.Token()}
}

// admit keeps the session of whoever signed in, and leads on.
func (c *Call) admit(entered identity.Entered, to string) Outcome {
	c.SetCookie(SessionCookie, entered.Token, 0)
	return Go(to, "")
}

func (s *Server) signInPage(c *Call) error {
	if c.Session.ID != "" {
		c.redirect("/")
		return nil
	}
	page, err := s.signInGate(c, "", nil, "")
	if err != nil {
		return err
	}
	return s.show(c, http.StatusOK, page)
}

// signInGate is the page to sign in at; refused says why single sign-on let
// nobody in.
func (s *Server) signInGate(c *Call, email string, wrong view.Errors, refused string) (Page, error) {
	options, err := s.SignIns.Options(c.Context())
	if err != nil {
		return Page{}, err
	}
	return Page{Title: "Sign in to Airlock", Under: s.Organisation, Gate: true, Body: signInBody(options, email, wrong, refused)}, nil
}

func (s *Server) signIn(c *Call) (Outcome, error) {
	var in struct {
		Email    string `form:"email"`
		Password string `form:"password,raw"`
	}
	if err := c.Form(&in); err != nil {
		return Outcome{}, err
	}
	entered, err := s.SignIns.SignIn(c.Context(), in.Email, in.Password, c.visit())
	if err == nil {
		return c.admit(entered, c.Back()), nil
	}
	if !fault.Is(err, fault.Unauthenticated) && !fault.Is(err, fault.Exhausted) {
		return Outcome{}, err
	}
	page, failed := s.signInGate(c, in.Email, view.ErrorsOf(err), "")
	return Outcome{Page: &page, err: err}, failed
}

// beginOIDC leads to the provider.
func (s *Server) beginOIDC(c *Call) error {
	redirect, cookie, err := s.SignIns.BeginOIDC(c.Context(), c.Back())
	if err != nil {
		return s.refuse(c, err)
	}
	c.SetCookie(identity.OIDCCookie, cookie, identity.StateLife)
	http.Redirect(c.w, c.r, redirect, http.StatusSeeOther)
	return nil
}

// finishOIDC is where the provider leads back to.
func (s *Server) finishOIDC(c *Call) error {
	entered, err := s.SignIns.FinishOIDC(c.Context(), identity.CallbackOf(c.r), c.visit())
	c.SetCookie(identity.OIDCCookie, "", -time.Second)
	if err != nil {
		return s.refuse(c, err)
	}
	c.redirect(c.admit(entered, entered.ReturnTo).To)
	return nil
}

// refuse says at the door why single sign-on let nobody in.
func (s *Server) refuse(c *Call, err error) error {
	if fault.Is(err, fault.Internal) {
		return err
	}
	s.Log.WarnContext(c.Context(), "single sign-on let nobody in", "error", err, "cause", errors.Unwrap(err))
	page, failed := s.signInGate(c, "", nil, view.Sentence(fault.Words(err)))
	if failed != nil {
		return failed
	}
	return s.show(c, fault.HTTP(err), page)
}

// first is who sets Airlock up.
type first struct {
	Name     string `form:"name"`
	Email    string `form:"email"`
	Password string `form:"password,raw"`
}

func setupGate(token string, in first, wrong view.Errors) Page {
	return Page{Title: "Set up Airlock", Under: "Only once: make the first administrator", Gate: true, Body: setupBody(token, in, wrong)}
}

// overGate is the page of a set-up link that is over.
func overGate() Page {
	return Page{Title: "This link is over", Under: "Airlock, first administrator", Gate: true, Body: setupOver()}
}

func (s *Server) setupPage(c *Call) error {
	err := s.SignIns.CheckSetup(c.Context(), c.Path("token"))
	switch {
	case fault.Is(err, fault.Forbidden):
		return s.show(c, fault.HTTP(err), overGate())
	case err != nil:
		return err
	}
	return s.show(c, http.StatusOK, setupGate(c.Path("token"), first{}, nil))
}

func (s *Server) setup(c *Call) (Outcome, error) {
	var in first
	if err := c.Form(&in); err != nil {
		return Outcome{}, err
	}
	entered, err := s.SignIns.CreateFirstAdmin(c.Context(), c.Path("token"), in.Email, in.Name, in.Password, c.visit())
	switch {
	case fault.Is(err, fault.Forbidden):
		page := overGate()
		return Outcome{Page: &page, err: err}, nil
	case err != nil:
		return c.Again(err, func(wrong view.Errors) (Page, error) { return setupGate(c.Path("token"), in, wrong), nil })
	}
	return c.admit(entered, "/"), nil
}
