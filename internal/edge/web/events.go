package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/fault"
)

// most is how many topics a page may follow.
const most = 64

// events is the stream of a tab: it tells which of the page's topics should be
// looked at again. It ends with the session.
func (s *Server) events(c *Call) error {
	topics := slices.DeleteFunc(strings.Split(c.r.URL.Query().Get("topics"), ","), func(t string) bool { return t == "" })
	if len(topics) == 0 || len(topics) > most {
		return fault.New(fault.Invalid, "topics names 1 to %d topics, with commas between", most).At("topics")
	}
	for _, topic := range topics {
		if err := s.MayHear(c.Context(), c.Actor(), topic); err != nil {
			return err
		}
	}
	session := "session/" + c.Session.ID
	heard := s.Live.Subscribe(append(topics, session)...)
	defer heard.Close()

	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	control := http.NewResponseController(c.w)
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		s.Log.DebugContext(c.Context(), "a stream keeps the server's write limit", "error", err)
	}
	n := 0
	send := func(event, data string) error {
		n++
		if _, err := fmt.Fprintf(c.w, "id: %s-%d\nevent: %s\ndata: %s\n\n", s.boot, n, event, data); err != nil {
			return err
		}
		return control.Flush()
	}
	if _, err := fmt.Fprint(c.w, "retry: 2000\n\n"); err != nil {
		return nil // the browser went away, which is no error
	}
	if send("hello", "") != nil {
		return nil
	}
	ping := time.NewTicker(s.Ping)
	defer ping.Stop()
	for {
		var failed error
		select {
		case <-c.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		case topic := <-heard.C():
			if topic == session {
				if s.ended(c) {
					_ = send("ended", "")
					return nil
				}
				continue
			}
			failed = send("topic", topic)
		case <-ping.C:
			if s.ended(c) {
				_ = send("ended", "")
				return nil
			}
			if _, failed = fmt.Fprint(c.w, ": still here\n\n"); failed == nil {
				failed = control.Flush()
			}
		}
		if failed != nil {
			return nil
		}
	}
}

// ended reports whether the session of a stream is over.
func (s *Server) ended(c *Call) bool {
	_, err := s.Session(c.Context(), c.Token())
	return fault.Is(err, fault.Unauthenticated)
}
