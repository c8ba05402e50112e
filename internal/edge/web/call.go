package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
)

// The cookies. Their prefix binds them to this host and to https.
const (
	SessionCookie = "__Host-airlock"
	toastCookie   = "__Host-airlock-toast"
	backCookie    = "__Host-airlock-back" // the page that was asked for before signing in
	choiceCookie  = "__Host-airlock-table-"
)

// The most that a form may be, without and with files.
const (
	maxForm = 1 << 20
	maxFile = 4 << 20
)

// Call is a request: who asks, for what, when.
type Call struct {
	Session Session // the zero session where nobody is signed in
	Now     time.Time

	server *Server
	w      http.ResponseWriter
	r      *http.Request
	access Access
	parsed bool
}

// Context ends when the browser goes away.
func (c *Call) Context() context.Context { return c.r.Context() }

// Actor is who asks.
func (c *Call) Actor() identity.Actor { return c.Session.Actor }

// Path is a part of the address, by its name in the route's pattern.
func (c *Call) Path(name string) string { return c.r.PathValue(name) }

// URL is the page's own address.
func (c *Call) URL() *url.URL { return c.r.URL }

// Request is the request itself, for what a Call has no word for.
func (c *Call) Request() *http.Request { return c.r }

// Writer is where a raw route writes to.
func (c *Call) Writer() http.ResponseWriter { return c.w }

// View is what the page's table is asked for.
func (c *Call) View() view.View { return view.ParseView(c.r.URL.Query()) }

// Query reads the address's parameters into a struct; see decode.
func (c *Call) Query(into any) error { return decode(c.r.URL.Query(), into) }

// Form reads what was posted into a struct; see decode.
func (c *Call) Form(into any) error {
	values, err := c.Values()
	if err != nil {
		return err
	}
	return decode(values, into)
}

// Values are what was posted.
func (c *Call) Values() (url.Values, error) {
	if c.parsed {
		return c.r.PostForm, nil
	}
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	var err error
	if kind == "multipart/form-data" {
		c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxFile)
		err = c.r.ParseMultipartForm(maxFile)
	} else {
		c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxForm)
		err = c.r.ParseForm()
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, fault.New(fault.TooLarge, "what was sent is too large; nothing was changed")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "what was sent can't be read as a form; nothing was changed: %w", err)
	}
	c.parsed = true
	return c.r.PostForm, nil
}

// File is the content of a small file that was posted; nil if there is none.
// Large ones are read by Upload.
func (c *Call) File(name string) ([]byte, error) {
	if _, err := c.Values(); err != nil {
		return nil, err
	}
	file, _, err := c.r.FormFile(name)
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the file can't be read; nothing was changed: %w", err).At(name)
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Upload reads a form whose last field is a file of any size: the fields before
// it into a struct, then the file as it comes.
func (c *Call) Upload(name string, into any) (file io.Reader, filename string, err error) {
	parts, err := c.r.MultipartReader()
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "what was sent has no file; nothing was changed").At(name)
	}
	values, left := url.Values{}, int64(maxForm)
	for {
		part, err := parts.NextPart()
		if err != nil {
			return nil, "", fault.New(fault.Invalid, "choose a file; nothing was changed").At(name)
		}
		if part.FormName() == name {
			if part.FileName() == "" {
				return nil, "", fault.New(fault.Invalid, "choose a file; nothing was changed").At(name)
			}
			filename := part.FileName()
			return part, filename, decode(values, into)
		}
		value, err := io.ReadAll(io.LimitReader(part, left+1))
		if left -= int64(len(value)); err != nil || left < 0 {
			return nil, "", fault.New(fault.TooLarge, "what was sent before the file is too large; nothing was changed")
		}
		values.Add(part.FormName(), string(value))
	}
}

// Again shows a form anew with what is wrong with it, if whoever sent it can mend
// that; other errors stay what they are.
func (c *Call) Again(err error, show func(view.Errors) (Page, error)) (Outcome, error) {
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.Conflict, fault.NotReady, fault.Exhausted, fault.TooLarge:
	default:
		return Outcome{}, err
	}
	page, failed := show(view.ErrorsOf(err))
	if failed != nil {
		return Outcome{}, failed
	}
	return Outcome{Page: &page, err: err}, nil
}

// SetCookie sets a cookie as all of ours are; a lifetime of 0 lasts until the
// browser ends, a negative one takes it away.
func (c *Call) SetCookie(name, value string, lifetime time.Duration) {
	age := int(lifetime.Seconds())
	if lifetime < 0 {
		age = -1
	}
	http.SetCookie(c.w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// Token is what the session's cookie holds, or ”.
func (c *Call) Token() string { return c.cookie(SessionCookie) }

func (c *Call) cookie(name string) string {
	cookie, err := c.r.Cookie(name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// enter finds out who asks.
func (c *Call) enter() error {
	token := c.Token()
	if token == "" {
		return c.outside(fault.New(fault.Unauthenticated, "sign in first"))
	}
	session, err := c.server.Session(c.Context(), token)
	if err == nil {
		c.Session = session
		return nil
	}
	if fault.Is(err, fault.Unauthenticated) {
		return c.outside(err)
	}
	return err
}

// outside lets those in who aren't signed in, where everybody may.
func (c *Call) outside(err error) error {
	if c.access.Public {
		return nil
	}
	return err
}

// byScript reports whether htmx or a script of ours asks, and puts the answer
// into the page that is there.
func (c *Call) byScript() bool { return c.r.Header.Get("HX-Request") == "true" }

func (c *Call) wantsCSV() bool {
	return c.r.URL.Query().Get("format") == "csv" || strings.HasPrefix(c.r.Header.Get("Accept"), "text/csv")
}

// redirect leads to a path on this server.
func (c *Call) redirect(to string) {
	if !local(to) {
		to = "/"
	}
	http.Redirect(c.w, c.r, to, http.StatusSeeOther)
}

// toast keeps what was done for the page that comes.
func (c *Call) toast(out Outcome) {
	text, err := json.Marshal(view.Toast{Words: out.Toast, Undo: out.Undo})
	if err != nil {
		return
	}
	c.SetCookie(toastCookie, base64.RawURLEncoding.EncodeToString(text), time.Minute)
}

// takeToast is what was done before this page, once.
func (c *Call) takeToast() []view.Toast {
	value := c.cookie(toastCookie)
	if value == "" {
		return nil
	}
	c.SetCookie(toastCookie, "", -1)
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil
	}
	var t view.Toast
	if json.Unmarshal(text, &t) != nil || t.Words == "" || (t.Undo != "" && !local(t.Undo)) {
		return nil
	}
	return []view.Toast{t}
}

// choice is what the reader chose for a table.
func (c *Call) choice(table string) view.Choice {
	density, columns, _ := strings.Cut(c.cookie(choiceCookie+table), ".")
	choice := view.Choice{Density: density}
	if columns != "" {
		choice.Columns = strings.Split(columns, ".")
	}
	return choice
}

// choose keeps what the reader chose for a table, and goes back to it.
func (s *Server) choose(c *Call) (Outcome, error) {
	var in struct {
		Density string   `form:"density"`
		Set     string   `form:"set"`
		Columns []string `form:"columns"`
		Back    string   `form:"back"`
	}
	if err := c.Form(&in); err != nil {
		return Outcome{}, err
	}
	table := c.Path("table")
	for _, word := range append(in.Columns, table, in.Density) {
		if strings.ContainsFunc(word, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }) {
			return Outcome{}, fault.New(fault.Invalid, "%q is no column, table or height of rows; nothing was changed", word)
		}
	}
	choice := c.choice(table)
	if in.Density != "" {
		choice.Density = in.Density
	}
	switch in.Set {
	case "columns":
		choice.Columns = in.Columns
	case "reset":
		choice.Columns = nil
	}
	c.SetCookie(choiceCookie+table, choice.Density+"."+strings.Join(choice.Columns, "."), 365*24*time.Hour)
	return Go(in.Back, ""), nil
}
