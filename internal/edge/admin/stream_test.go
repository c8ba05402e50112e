package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
)

const patience = 30 * time.Second // for what comes at once on an idle machine

// rig is a socket with handlers of the test's own, and a client.
type rig struct {
	*Client
	log *bytes.Buffer
}

func newRig(t *testing.T, handlers map[string]handler) rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "al-") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", Socket(dir))
	if err != nil {
		t.Fatal(err)
	}
	r := rig{Client: Dial(dir), log: &bytes.Buffer{}}
	mux := http.NewServeMux()
	for name, do := range handlers {
		mux.Handle("POST /"+name, serve(slog.New(slog.NewTextHandler(r.log, nil)), name, do))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return r
}

type question struct {
	Text string `json:"text"`
}

func TestRowsProgressAndAResultArrive(t *testing.T) {
	r := newRig(t, map[string]handler{"do": handle(func(_ context.Context, in question, out *Stream) (any, error) {
		return map[string]string{"answer": in.Text + "!"}, errors.Join(
			out.Row(1), out.Progress(Progress{Words: "reading", Detail: "2 of 3"}), out.Row("two"),
			func() error { _, err := out.Write([]byte{0, 255}); return err }(),
		)
	})})
	var rows []string
	var progress []Progress
	var file bytes.Buffer
	var result map[string]string
	err := r.Call(t.Context(), "do", question{"why"}, &result, Answer{
		Row:      func(row json.RawMessage) error { rows = append(rows, string(row)); return nil },
		Progress: func(p Progress) { progress = append(progress, p) },
		File:     &file,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{rows, progress, file.Bytes(), result}
	want := []any{[]string{"1", `"two"`}, []Progress{{Words: "reading", Detail: "2 of 3"}}, []byte{0, 255}, map[string]string{"answer": "why!"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := r.Call(t.Context(), "do", question{"why"}, nil, Answer{Row: func(json.RawMessage) error { return io.ErrShortWrite }}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("an error of whoever takes the rows: %v", err)
	}
}

func TestErrorsComeBack(t *testing.T) {
	r := newRig(t, map[string]handler{
		"refuse": handle(func(context.Context, question, *Stream) (any, error) {
			return nil, fault.New(fault.NotFound, "there is no %q", "x").At("name")
		}),
		"break": handle(func(context.Context, question, *Stream) (any, error) { return nil, errors.New("secret inside") }),
		"panic": handle(func(context.Context, question, *Stream) (any, error) { panic("secret inside") }),
		"odd":   handle(func(context.Context, question, *Stream) (any, error) { return func() {}, nil }),
		"late": handle(func(_ context.Context, _ question, out *Stream) (any, error) {
			return nil, errors.Join(out.Row(1), fault.New(fault.Conflict, "meanwhile"))
		}),
	})
	for name, want := range map[string]fault.Error{
		"refuse": {Code: fault.NotFound, Message: `there is no "x"`, Field: "name"},
		"break":  {Code: fault.Internal, Message: "something went wrong inside; the server's log says what"},
		"panic":  {Code: fault.Internal, Message: "something went wrong inside; the server's log says what"},
		"odd":    {Code: fault.Internal, Message: "something went wrong inside; the server's log says what"},
		"late":   {Code: fault.Conflict, Message: "meanwhile"},
	} {
		err := r.Call(t.Context(), name, question{}, nil, Answer{})
		known, ok := errors.AsType[*fault.Error](err)
		if !ok || known.Code != want.Code || known.Message != want.Message || known.Field != want.Field {
			t.Errorf("%s: %v", name, err)
		}
		if logged := strings.Contains(r.log.String(), "command="+name); logged != (want.Code == fault.Internal) {
			t.Errorf("%s: logged: %s", name, r.log)
		}
	}
	if !strings.Contains(r.log.String(), "stream_test.go") {
		t.Error("the log doesn't say where the panic was")
	}
	if err := r.Call(t.Context(), "nothing", question{}, nil, Answer{}); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Error(err)
	}
}

func TestWhatCantBeReadIsRefused(t *testing.T) {
	asked := false
	r := newRig(t, map[string]handler{
		"do": handle(func(context.Context, question, *Stream) (any, error) { asked = true; return nil, nil }),
		"take": upload(func(context.Context, question, io.Reader, *Stream) (any, error) {
			asked = true
			return nil, nil
		}),
	})
	large := strings.Repeat("x", maxRequest)
	for _, test := range []struct {
		request any
		code    fault.Code
	}{
		{map[string]string{"text": "a", "later": "b"}, fault.Invalid},
		{[]int{1}, fault.Invalid},
		{"x", fault.Invalid},
		{json.RawMessage(`{"text":1}`), fault.Invalid},
		{question{large}, fault.TooLarge},
	} {
		if err := r.Call(t.Context(), "do", test.request, nil, Answer{}); !fault.Is(err, test.code) || asked {
			t.Errorf("%.100v: %v", test.request, err)
		}
	}
	for _, body := range []string{"", "{", `{} {}`, `{"text":"a"}x`} {
		if err := r.send(t.Context(), "/do", strings.NewReader(body), http.Header{}, nil, Answer{}); !fault.Is(err, fault.Invalid) || asked {
			t.Errorf("%q: %v", body, err)
		}
	}
	if err := r.Upload(t.Context(), "take", map[string]string{"later": "b"}, strings.NewReader("x"), nil, Answer{}); !fault.Is(err, fault.Invalid) || asked {
		t.Error(err)
	}
}

// A client that hangs up ends what the server does for it.
func TestHangingUpEndsTheWork(t *testing.T) {
	ended := make(chan error, 2)
	r := newRig(t, map[string]handler{
		"do": handle(func(ctx context.Context, _ question, out *Stream) (any, error) {
			err := out.Progress(Progress{Words: "begun"})
			<-ctx.Done()
			ended <- errors.Join(err, context.Cause(ctx))
			return nil, ctx.Err()
		}),
		"take": upload(func(ctx context.Context, _ question, file io.Reader, out *Stream) (any, error) {
			_, err := io.Copy(io.Discard, file)
			if err == nil {
				err = out.Progress(Progress{Words: "begun"})
			}
			<-ctx.Done()
			ended <- errors.Join(err, context.Cause(ctx))
			return nil, ctx.Err()
		}),
	})
	for name, call := range map[string]func(ctx context.Context, answer Answer) error{
		"do": func(ctx context.Context, answer Answer) error { return r.Call(ctx, "do", question{}, nil, answer) },
		"take": func(ctx context.Context, answer Answer) error {
			return r.Upload(ctx, "take", question{}, strings.NewReader(strings.Repeat("x", 1<<20)), nil, answer)
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := call(ctx, Answer{Progress: func(Progress) { cancel() }})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the server saw %v", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the server works on", name)
		}
	}
}

// An error reaches whoever sends a file, whether the server has begun to read it
// or not; and if not, the file isn't sent at all.
func TestAnUploadIsRefusedInWords(t *testing.T) {
	refused := fault.New(fault.TooLarge, "that is too much")
	r := newRig(t, map[string]handler{
		"before": upload(func(context.Context, question, io.Reader, *Stream) (any, error) { return nil, refused }),
		"within": upload(func(_ context.Context, _ question, file io.Reader, _ *Stream) (any, error) {
			_, err := io.ReadFull(file, make([]byte, 1000))
			return nil, errors.Join(err, refused)
		}),
	})
	for name, least := range map[string]int64{"before": 0, "within": 1000} {
		file := &counted{left: 64 << 20}
		err := r.Upload(t.Context(), name, question{}, file, nil, Answer{})
		sent := file.count()
		if !fault.Is(err, fault.TooLarge) || sent < least || name == "before" && sent > 0 {
			t.Errorf("%s: %v, after %d bytes", name, err, sent)
		}
	}
}

// A file that can't be read to its end is told as that, not as the server's doing.
func TestAFileThatBreaksIsSaid(t *testing.T) {
	r := newRig(t, map[string]handler{"take": upload(func(_ context.Context, _ question, file io.Reader, _ *Stream) (any, error) {
		_, err := io.Copy(io.Discard, file)
		return nil, err
	})})
	broken := errors.New("the disk is broken")
	err := r.Upload(t.Context(), "take", question{}, io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(broken)), nil, Answer{})
	if !errors.Is(err, broken) || errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestAServerThatDiesIsSaid(t *testing.T) {
	dies := func(w http.ResponseWriter, _ *http.Request, out *Stream) (any, error) {
		err := out.Progress(Progress{Words: "begun"})
		connection, _, hijacked := http.NewResponseController(w).Hijack()
		return nil, errors.Join(err, hijacked, connection.Close())
	}
	r := newRig(t, map[string]handler{"do": dies})
	if err := r.Call(t.Context(), "do", question{}, nil, Answer{}); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestLocalHosts(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8443": true, "127.0.0.1:1": true, "127.3.4.5": true, "[::1]:8443": true, "[::1]": true, "0.0.0.0:1": true, "a.localhost": true,
		"airlock.example.com": false, "airlock.example.com:8443": false, "10.0.0.1": false, "[fe80::1]:1": false, "": false,
	} {
		if got := Local(host); got != want {
			t.Errorf("%s: %t", host, got)
		}
	}
}

// counted is a long file.
type counted struct {
	mu   sync.Mutex
	left int
	read int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), c.left)
	c.left -= n
	c.read += int64(n)
	return n, nil
}

func (c *counted) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read
}

func TestNoServerIsSaid(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	stale := filepath.Join(dir, "stale")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(stale, 0o700)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: Socket(stale), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false) // as a server does that is killed
	listener.Close()
	for _, dir := range []string{dir, filepath.Join(dir, "missing"), file, stale, filepath.Join(dir, strings.Repeat("long", 50))} {
		if err := Dial(dir).Call(t.Context(), "app/list", struct{}{}, nil, Answer{}); !errors.Is(err, ErrNoServer) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestTheDataDirectory(t *testing.T) {
	env := map[string]string{"AIRLOCK_DATA_DIR": "/a", "XDG_DATA_HOME": "/b", "HOME": "/c"}
	getenv := func(name string) string { return env[name] }
	if got := DataDir(getenv); got != "/a" {
		t.Error(got)
	}
	delete(env, "AIRLOCK_DATA_DIR")
	if os.Getuid() == 0 {
		if got := DataDir(getenv); got != "/var/lib/airlock" {
			t.Error(got)
		}
		return
	}
	if got := DataDir(getenv); got != "/b/airlock" {
		t.Error(got)
	}
	delete(env, "XDG_DATA_HOME")
	if got := DataDir(getenv); got != "/c/.local/share/airlock" {
		t.Error(got)
	}
}

func TestColumnsOfExports(t *testing.T) {
	for what, first := range map[string]string{"accounts": "app", "entitlements": "app", "grants": "app", "people": "id"} {
		if columns := Columns(what); len(columns) < 5 || columns[0] != first {
			t.Errorf("%s: %q", what, columns)
		}
	}
	if Columns("nothing") != nil {
		t.Error("nothing has columns")
	}
}
