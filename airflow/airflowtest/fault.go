package airflowtest

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"time"
)

// Fault is something that goes wrong, at chosen requests.
type Fault struct {
	Method string // any when empty
	// Path is a pattern of [path.Match] on the path without Options.Path, such as
	// "/auth/fab/v1/users/*"; any when empty.
	Path  string
	Skip  int // so many matching requests pass first
	Times int // how often it happens: once when 0, always when negative
	Act   Act

	seen, done int
}

// Act is what happens instead of the answer, or around it: api is the server
// itself. Write your own where the ones here don't fit.
type Act func(w http.ResponseWriter, r *http.Request, api http.Handler)

// Inject adds a fault. Of several that match the first added acts.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults takes all faults away.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault finds what goes wrong with a request.
func (s *Server) fault(method, where string) Act {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Method != "" && f.Method != method {
			continue
		}
		if matched, err := path.Match(f.Path, where); f.Path != "" && (err != nil || !matched) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times >= 0 && f.done >= max(f.Times, 1) {
			continue
		}
		f.done++
		return f.Act
	}
	return nil
}

// Answer answers with anything.
func Answer(status int, contentType, body string) Act {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// Status answers with a status and the words for it, as a proxy or a crashed
// Airflow does.
func Status(status int) Act {
	return Answer(status, "text/plain; charset=utf-8", http.StatusText(status))
}

// TooManyRequests answers 429, to be asked again after some seconds.
func TooManyRequests(after time.Duration) Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
		Status(http.StatusTooManyRequests)(w, r, api)
	}
}

// SignInPage answers with an HTML page and 200, as a proxy does that wants one
// to sign in.
func SignInPage() Act { return Answer(http.StatusOK, "text/html; charset=utf-8", signInPage) }

// Redirect sends the client elsewhere.
func Redirect(to string) Act {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}
}

// ExpiredToken answers as if the token had expired.
func ExpiredToken() Act {
	return Answer(http.StatusUnauthorized, "application/json", `{"detail":"Token Expired"}`)
}

// InvalidToken answers as if the token had been revoked.
func InvalidToken() Act {
	return Answer(http.StatusForbidden, "application/json", `{"detail":"Invalid JWT token"}`)
}

// Reset resets the connection instead of answering. Nothing is done.
func Reset() Act {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }
}

// LoseAnswer does what was asked and resets the connection before the answer.
func LoseAnswer() Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		api.ServeHTTP(httptest.NewRecorder(), r)
		reset(w)
	}
}

// ResetMidBody does what was asked and resets the connection within the answer.
func ResetMidBody() Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		half(w, r, api, true)
		_ = http.NewResponseController(w).Flush()
		reset(w)
	}
}

// Truncate does what was asked and answers with half of the body, as if that
// were all.
func Truncate() Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) { half(w, r, api, false) }
}

// half writes the head and the first half of the body.
func half(w http.ResponseWriter, r *http.Request, api http.Handler, announceAll bool) {
	whole := httptest.NewRecorder()
	api.ServeHTTP(whole, r)
	maps.Copy(w.Header(), whole.Header())
	body := whole.Body.Bytes()
	announced := body[:len(body)/2]
	if announceAll {
		announced = body
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(announced)))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(body[:len(body)/2])
}

// reset ends the connection at once, with a reset where that is possible.
func reset(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Hold keeps requests waiting until they are let go, or until their client
// gives up: slow, without a clock.
type Hold struct {
	entered chan struct{}
	release chan struct{}
	once    sync.Once
}

// NewHold returns a hold; its Act is the fault's.
func NewHold() *Hold {
	return &Hold{entered: make(chan struct{}, 1024), release: make(chan struct{})}
}

// Entered receives once for each request that has begun to wait.
func (h *Hold) Entered() <-chan struct{} { return h.entered }

// Release lets all waiting and coming requests go.
func (h *Hold) Release() { h.once.Do(func() { close(h.release) }) }

// Act is for Fault.Act.
func (h *Hold) Act(w http.ResponseWriter, r *http.Request, api http.Handler) {
	h.entered <- struct{}{}
	select {
	case <-h.release:
		api.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}
