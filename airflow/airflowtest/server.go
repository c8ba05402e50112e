package airflowtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options describe an Airflow. The zero value is the newest release, without a
// path, with the basic backend where that release has one.
type Options struct {
	Profile   Profile        // which release; the newest unless set
	Auth      AuthManager    // who manages the users; FAB unless set
	Path      string         // path in front of everything, such as "/airflow"
	TLS       bool           // https with a certificate of its own, see Certificate
	BasicOff  bool           // [fab] auth_backends is left at its default: basic opens nothing
	TokenLife time.Duration  // [api_auth] jwt_expiration_time; a day unless set
	CacheTTL  time.Duration  // [fab] cache_ttl, where the release has it; negative switches it off
	PageLimit int            // [api] maximum_page_limit: more is cut without a word; 100 unless set
	Zone      *time.Location // local time of the server, in which it tells users' times; UTC unless set
	Now       func() time.Time
}

// Server is an Airflow in memory. It is an [http.Handler]; [Start] also puts it
// on a port. All methods are safe for concurrent use.
type Server struct {
	URL     string // base URL with the path, without a slash at the end; set by Start and Listen
	Profile Profile

	opts  Options
	table []route
	http  *httptest.Server
	addr  string

	mu     sync.Mutex // guards what follows
	store  store
	tokens tokens
	log    []*Request
	counts map[string]int
	before []func(Request)
	after  []func(Request)
	faults []*Fault
}

// New returns an Airflow with the built-in roles and the user admin, password
// admin.
func New(opts Options) *Server {
	if opts.Profile.Airflow == "" {
		opts.Profile = Newest()
	}
	if opts.CacheTTL == 0 || opts.Profile.CacheTTL == 0 {
		opts.CacheTTL = opts.Profile.CacheTTL
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.PageLimit = cmp.Or(opts.PageLimit, 100)
	opts.TokenLife = cmp.Or(opts.TokenLife, 24*time.Hour)
	opts.Zone = cmp.Or(opts.Zone, time.UTC)
	opts.Path = strings.TrimRight(opts.Path, "/")
	s := &Server{Profile: opts.Profile, opts: opts, counts: map[string]int{}, tokens: tokens{cache: map[int]cached{}}}
	s.table = s.routes()
	s.store.init(opts.Profile)
	s.PutUser(User{
		Username: "admin", Email: "admin@example.com", FirstName: "Ada", LastName: "Min",
		Roles: []string{"Admin"}, Active: true, Password: "admin",
	})
	return s
}

// Start returns a running Airflow that ends with the test.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s := New(opts)
	s.Listen()
	tb.Cleanup(s.Close)
	return s
}

// Listen puts the server on a free port of loopback and sets URL; after Close,
// on the same port again. It panics when there is none.
func (s *Server) Listen() {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cmp.Or(s.addr, "127.0.0.1:0"))
	if err != nil {
		panic("airflowtest: " + err.Error())
	}
	s.addr = listener.Addr().String()
	s.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}}
	if s.opts.TLS {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	s.URL = s.http.URL + s.opts.Path
}

// Close ends all connections and frees the port. What the server knows stays.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Certificate is what to trust when Options.TLS is set, in PEM.
func (s *Server) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

func (s *Server) now() time.Time { return s.opts.Now() }

// route is an endpoint: where it is, who may call it, what it does.
type route struct {
	method, path     string
	flask            bool     // basic and problems, else bearer and details
	open             bool     // needs no credential
	action, resource string   // the right that is needed
	params           []string // the query parameters that Flask knows; FastAPI ignores unknown ones
	schema           *schema  // of the body
	handle           func(*call) answer
}

// routes of this release and auth manager.
func (s *Server) routes() []route {
	if s.Profile.V2() {
		all := []route{
			{method: "GET", path: "/api/v1/version", flask: true, open: true, handle: s.version},
			{method: "GET", path: "/api/v1/providers", flask: true, action: "can_read", resource: "Providers", handle: s.providers},
			{method: "GET", path: "/api/v1/dags", flask: true, params: dagParams, handle: s.dags},
			{method: "GET", path: "/api/v1/eventLogs", flask: true, action: "can_read", resource: "Audit Logs", params: eventParams, handle: s.events},
			{method: "GET", path: "/login/", open: true, flask: true, handle: s.signInForm},
			{method: "POST", path: "/login/", open: true, flask: true, handle: s.signIn},
		}
		for _, prefix := range []string{"/auth/fab/v1", "/api/v1"} { // the latter is deprecated and forwards
			all = append(append(all, s.userRoutes(prefix)...), s.roleRoutes(prefix)...)
		}
		return all
	}
	all := []route{
		{method: "POST", path: "/auth/token", open: true, handle: s.token},
		{method: "POST", path: "/auth/token/cli", open: true, handle: s.token},
		{method: "GET", path: "/auth/openapi.json", open: true, handle: s.openapi},
		{method: "GET", path: "/api/v2/version", open: true, handle: s.version},
		{method: "GET", path: "/api/v2/providers", action: "can_read", resource: "Providers", handle: s.providers},
		{method: "GET", path: "/api/v2/dags", handle: s.dags},
		{method: "GET", path: "/api/v2/eventLogs", action: "can_read", resource: "Audit Logs", handle: s.events},
	}
	if s.Profile.Me {
		all = append(all, route{method: "GET", path: "/ui/auth/me", handle: s.me})
	}
	if s.opts.Auth == FAB {
		all = append(append(all, s.userRoutes("/auth/fab/v1")...), s.roleRoutes("/auth/fab/v1")...)
	}
	return all
}

// find finds the endpoint of a path; any method does when it is empty. The path
// is decoded: a name with a slash in it, however escaped, is two elements and
// found nowhere, as in the real thing.
func (s *Server) find(method, path string) (rt *route, name string, found bool) {
	for i := range s.table {
		rt = &s.table[i]
		prefix, _, named := strings.Cut(rt.path, "{")
		name, found = strings.CutPrefix(path, prefix)
		if named {
			found = found && name != "" && !strings.Contains(name, "/")
		} else {
			found = path == rt.path
		}
		if found && (method == "" || method == rt.method) {
			return rt, name, true
		}
	}
	return nil, "", false
}

// call is one request on its way through an endpoint.
type call struct {
	*route
	r      *http.Request
	req    *Request
	name   string // the {username} or {name} of the path
	raw    []byte // the body
	body   map[string]any
	userID int
	rights rights
}

// answer is what an endpoint says.
type answer struct {
	status int
	body   any    // JSON; nil for none
	html   string // instead of body
	text   string // instead of body
	header http.Header
	cookie string
}

func ok(body any) answer { return answer{status: 200, body: body} }

// ServeHTTP answers a request: log, hooks and faults first, then the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	path, inside := strings.CutPrefix(r.URL.Path, s.opts.Path)
	inside = inside && strings.HasPrefix(path, "/")
	req := s.record(r, path, body)
	status := &statusWriter{ResponseWriter: w}
	defer func() { s.finish(req, status.status) }()
	act := s.fault(r.Method, path)
	if act == nil {
		act = func(w http.ResponseWriter, r *http.Request, api http.Handler) { api.ServeHTTP(w, r) }
	}
	act(status, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !inside {
			http.NotFound(w, r)
			return
		}
		s.write(w, s.answer(&call{r: r, req: req, raw: body}, path))
	}))
}

// answer takes a call to its endpoint, through the checks of the framework that
// serves it.
func (s *Server) answer(c *call, path string) (a answer) {
	var found bool
	if c.route, c.name, found = s.find(c.r.Method, path); !found {
		return s.unknown(c.r.Method, path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fab := strings.HasPrefix(path, "/auth/fab/")
	if c.flask {
		a = s.flask(c)
	} else {
		a = s.fastAPI(c)
	}
	if fab && s.Profile.SyncsRoles {
		s.store.syncRoles()
	}
	if a.status == 0 {
		a = c.handle(c)
	}
	if fab && c.flask && (c.userID != 0 || s.Profile.SessionForAll) {
		a.cookie = "session=of-nobody; HttpOnly; Path=/; SameSite=Lax"
	}
	return a
}

// unknown answers where no endpoint is.
func (s *Server) unknown(method, path string) answer {
	flask := strings.HasPrefix(path, "/auth/fab/") && s.Profile.FlaskLeft && s.opts.Auth == FAB ||
		strings.HasPrefix(path, "/api/v1/") && s.Profile.V2()
	_, _, otherMethod := s.find("", path)
	switch {
	case flask && otherMethod:
		return s.problem(405, "", "Method Not Allowed", "The method is not allowed for the requested URL.")
	case flask:
		return s.problem(404, "", "Not Found", "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.")
	case s.Profile.V2():
		return answer{status: 404, html: notFoundPage}
	case strings.HasPrefix(path, "/api/v1/"):
		return answer{status: 404, body: map[string]string{"error": "/api/v1 has been removed in Airflow 3, please use its upgraded version /api/v2 instead."}}
	case strings.HasPrefix(path, "/api/"):
		return answer{status: 404, body: map[string]string{"error": "API route not found"}}
	case s.opts.Auth != FAB && method != http.MethodGet:
		return answer{status: 405, body: detail("Method Not Allowed")}
	case s.opts.Auth == FAB && strings.HasPrefix(path, "/auth/"):
		return answer{status: 404, html: notFoundPage}
	}
	return answer{status: 200, html: appPage} // the page of the UI answers everything else
}

// write sends the answer.
func (s *Server) write(w http.ResponseWriter, a answer) {
	kind, body := "application/json", []byte(nil)
	switch {
	case a.html != "":
		kind, body = "text/html; charset=utf-8", []byte(a.html)
	case a.text != "":
		kind, body = "text/plain; charset=utf-8", []byte(a.text)
	case a.body != nil:
		body = encode(a.body)
	}
	w.Header().Set("Content-Type", kind)
	if s.Profile.V2() {
		w.Header().Set("Connection", "close") // as its web server does
	}
	maps.Copy(w.Header(), a.header)
	if a.cookie != "" {
		w.Header().Set("Set-Cookie", a.cookie)
	}
	if a.status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
	if a.text != "" { // unhandled: the connection ends, without a word about it
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func encode(body any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("airflowtest: " + err.Error())
	}
	return bytes.TrimSpace(b.Bytes())
}

const (
	notFoundPage = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Airflow 404</title></head>\n<body><h1>Airflow 404</h1><p>Page cannot be found.</p></body></html>\n"
	errorPage    = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Airflow</title></head>\n<body><h1>Ooops!</h1><p>Something bad has happened.</p></body></html>\n"
	appPage      = "<!doctype html>\n<html style=\"height: 100%\"><head><title>Airflow</title></head>\n<body><div id=\"root\"></div></body></html>\n"
	signInPage   = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form action=\"/login\"><input name=\"username\"></form></body></html>\n"
)
