// Package admin is the door of the command line: HTTP over a Unix socket that
// only its owner can open. Whoever comes in is the actor operator, and each
// request calls one method of a service.
//
// A request is POST /NAME with a JSON object. The answer is a stream of lines,
// each a Line: rows and progress as they come, and at the end either the result
// or the error. So a list of any length and an answer that takes minutes look
// alike, and a client that goes away ends what it waits for.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"

	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/trace"
)

// Line is one line of an answer; one of its fields is set.
type Line struct {
	Row      json.RawMessage `json:"row,omitempty"`
	Progress *Progress       `json:"progress,omitempty"`
	Bytes    []byte          `json:"bytes,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// Progress is how far something has come: the phase it is in, and more of that.
type Progress struct {
	ID      string `json:"id,omitempty"` // of the sync or change
	Words   string `json:"words"`
	Detail  string `json:"detail,omitempty"`
	Problem string `json:"problem,omitempty"` // why it doesn't go on, and what to do
}

// Error is an error on its way to the command.
type Error struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
	Field   string     `json:"field,omitempty"`
}

// Stream is the answer to a request.
type Stream struct {
	out   *json.Encoder
	flush func()
}

// Row sends a row of a list.
func (s *Stream) Row(row any) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return s.out.Encode(Line{Row: text})
}

// Progress sends how far it is.
func (s *Stream) Progress(p Progress) error {
	if err := s.out.Encode(Line{Progress: &p}); err != nil {
		return err
	}
	s.flush()
	return nil
}

// Write sends a part of a file.
func (s *Stream) Write(data []byte) (int, error) {
	if err := s.out.Encode(Line{Bytes: data}); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Flush sends what was held back to send more at once.
func (s *Stream) Flush() { s.flush() }

// maxRequest is the size of a request's JSON, in bytes. Files come after it, on
// a body of their own.
const maxRequest = 4 << 20

// handle makes a handler of a function that reads its request from the JSON of
// the body. What it returns is the result.
func handle[In any](do func(ctx context.Context, in In, out *Stream) (any, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, out *Stream) (any, error) {
		// All of it is read: only then the server notices that the client hangs up.
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				return nil, fault.New(fault.TooLarge, "the request has more than the %d bytes that are taken", maxRequest)
			}
			return nil, fault.New(fault.Invalid, "the request can't be read: %w", err)
		}
		var in In
		if err := decode(text, &in); err != nil {
			return nil, err
		}
		return do(r.Context(), in, out)
	}
}

// upload makes a handler of a function that reads a file: its request is in the
// query, by the name q, and the file is the body.
func upload[In any](do func(ctx context.Context, in In, file io.Reader, out *Stream) (any, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request, out *Stream) (any, error) {
		var in In
		if err := decode([]byte(r.URL.Query().Get("q")), &in); err != nil {
			return nil, err
		}
		file := &body{from: r.Body}
		result, err := do(r.Context(), in, file, out)
		if err != nil && file.begun {
			// Whoever sends a file reads the answer after it.
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return result, err
	}
}

// body knows whether it was read at all: until then the client waits with it.
type body struct {
	from  io.Reader
	begun bool
}

func (b *body) Read(p []byte) (int, error) {
	b.begun = true
	return b.from.Read(p)
}

// decode reads one JSON object that has no field we don't know: a newer command
// must not believe that an older server did all that it asked for.
func decode(text []byte, in any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		return fault.New(fault.Invalid, "the request can't be read: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "the request can't be read: something follows its object")
	}
	return nil
}

type handler func(w http.ResponseWriter, r *http.Request, out *Stream) (any, error)

// guarded makes an error of a panic: one command must not end the server.
func (do handler) guarded(w http.ResponseWriter, r *http.Request, out *Stream) (result any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return do(w, r, out)
}

// serve runs a handler and sends its end.
func serve(log *slog.Logger, name string, do handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(trace.With(r.Context(), "request", id.New()))
		w.Header().Set("Content-Type", "application/x-ndjson")
		controller := http.NewResponseController(w)
		out := &Stream{out: json.NewEncoder(w), flush: func() {
			_ = controller.Flush() // a client that went away ends by its context
		}}
		result, err := do.guarded(w, r, out)
		var last Line
		if err == nil {
			last.Result, err = json.Marshal(result)
		}
		if err != nil {
			failure := &Error{Code: fault.CodeOf(err), Message: fault.Words(err)}
			if known, ok := errors.AsType[*fault.Error](err); ok {
				failure.Field = known.Field
			}
			if failure.Code == fault.Internal {
				log.ErrorContext(r.Context(), "a command failed", "command", name, "error", err)
			}
			last = Line{Error: failure}
		}
		_ = out.out.Encode(last) // the same
	}
}
