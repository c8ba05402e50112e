package airflowtest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Request is what was asked.
type Request struct {
	Number     int // counted from 1
	Method     string
	Path       string // without Options.Path, decoded
	Query      url.Values
	Credential string // "none", "basic", "bearer" or "other"
	User       string // who it was, once that is known
	Body       []byte
	Status     int    // 0 while it runs, and when the connection was reset before an answer
	Endpoint   string // such as "PATCH /auth/fab/v1/users/{name}"; the path itself where there is none
}

// Before calls f before each request is answered, without holding any lock: f
// may change the server, or ask it something. That is how the list moves under
// a client's pages, and how others write between its reading and its writing.
func (s *Server) Before(f func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = append(s.before, f)
}

// After calls f after each request was answered; otherwise like Before.
func (s *Server) After(f func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = append(s.after, f)
}

// Requests are all requests so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.log))
	for i, req := range s.log {
		out[i] = *req
	}
	return out
}

// Count tells how often an endpoint was asked, such as
// "GET /auth/fab/v1/users" or "PATCH /auth/fab/v1/users/{name}". Without an
// argument it counts all requests.
func (s *Server) Count(endpoint ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(endpoint) == 0 {
		return len(s.log)
	}
	n := 0
	for _, e := range endpoint {
		n += s.counts[e]
	}
	return n
}

// ResetLog forgets the requests so far.
func (s *Server) ResetLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.counts = nil, map[string]int{}
}

// record logs a request and calls the hooks.
func (s *Server) record(r *http.Request, path string, body []byte) *Request {
	req := &Request{Method: r.Method, Path: path, Query: r.URL.Query(), Body: body, Credential: credential(r), Endpoint: r.Method + " " + path}
	if rt, _, found := s.find(r.Method, path); found {
		req.Endpoint = rt.method + " " + rt.path
	}
	s.mu.Lock()
	s.log = append(s.log, req)
	s.counts[req.Endpoint]++
	req.Number = len(s.log)
	hooks, seen := slices.Clone(s.before), *req
	s.mu.Unlock()
	for _, f := range hooks {
		f(seen)
	}
	return req
}

// finish writes down how the request ended, and calls the hooks.
func (s *Server) finish(req *Request, status int) {
	s.mu.Lock()
	req.Status = status
	hooks, seen := slices.Clone(s.after), *req
	s.mu.Unlock()
	for _, f := range hooks {
		f(seen)
	}
}

func credential(r *http.Request) string {
	scheme, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Authorization")), " ")
	switch scheme {
	case "":
		return "none"
	case "basic", "bearer":
		return scheme
	}
	return "other"
}

// statusWriter remembers the status that was written.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
