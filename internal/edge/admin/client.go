package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"airlock/internal/base/fault"
)

// DataDir is the data directory where nothing but the environment names one:
// /var/lib/airlock for root, otherwise in the user's own data.
func DataDir(getenv func(string) string) string {
	if dir := getenv("AIRLOCK_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Getuid() == 0 {
		return "/var/lib/airlock"
	}
	if data := getenv("XDG_DATA_HOME"); data != "" {
		return filepath.Join(data, "airlock")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "airlock")
	}
	return "airlock-data"
}

// Socket is where the server of a data directory listens for commands.
func Socket(dataDir string) string { return filepath.Join(dataDir, "airlock.sock") }

// longestPath is how long the path of a socket may be on every system.
const longestPath = 103

// ErrNoServer says that no server listens at the socket.
var ErrNoServer = errors.New("no airlock serves this data directory")

// ErrEnded says that the server ended before it had answered.
var ErrEnded = errors.New("the server ended before it had answered")

var errCut = fmt.Errorf("%w: whether it did what was asked isn't known", ErrEnded)

// Client calls the server at a socket.
type Client struct {
	http   *http.Client
	socket string
}

// Dial makes a client of the server of a data directory.
func Dial(dataDir string) *Client {
	socket := Socket(dataDir)
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		ExpectContinueTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Answer takes what an answer brings before its end. Fields that are nil ignore it.
type Answer struct {
	Row      func(row json.RawMessage) error
	Progress func(Progress)
	File     io.Writer
}

// Call sends a request and reads the answer; the result is decoded into result,
// unless that is nil. An error of the server comes back as a *fault.Error.
func (c *Client) Call(ctx context.Context, name string, request, result any, answer Answer) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.send(ctx, "/"+name, bytes.NewReader(body), http.Header{}, result, answer)
}

// Upload sends a request with a file, once the server wants to read that.
func (c *Client) Upload(ctx context.Context, name string, request any, file io.Reader, result any, answer Answer) error {
	query, err := json.Marshal(request)
	if err != nil {
		return err
	}
	from := &source{from: file}
	err = c.send(ctx, "/"+name+"?q="+url.QueryEscape(string(query)), from, http.Header{"Expect": {"100-continue"}}, result, answer)
	if unread := from.err.Load(); unread != nil {
		return fmt.Errorf("the file can't be read to its end: %w", *unread)
	}
	return err
}

// Doctor asks the running server how it does: what is wrong with connectors, and
// what waits for too long.
func (c *Client) Doctor(ctx context.Context) (list []Finding, err error) {
	err = c.Call(ctx, "doctor", nothing{}, &list, Answer{})
	return list, err
}

// source is a file that is sent, and remembers why it couldn't be read.
type source struct {
	from io.Reader
	err  atomic.Pointer[error]
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(&err)
	}
	return n, err
}

func (c *Client) send(ctx context.Context, path string, body io.Reader, header http.Header, result any, answer Answer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://airlock"+path, body)
	if err != nil {
		return err
	}
	request.Header = header
	response, err := c.http.Do(request)
	if err != nil {
		return c.unsent(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server doesn't know this command (%s): is it of another version?", response.Status)
	}
	decoder := json.NewDecoder(response.Body)
	for {
		var line Line
		if err := decoder.Decode(&line); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errCut
		}
		switch {
		case line.Error != nil:
			return &fault.Error{Code: line.Error.Code, Message: line.Error.Message, Field: line.Error.Field}
		case line.Result != nil:
			if result == nil {
				return nil
			}
			return json.Unmarshal(line.Result, result)
		case line.Row != nil && answer.Row != nil:
			if err := answer.Row(line.Row); err != nil {
				return err
			}
		case line.Progress != nil && answer.Progress != nil:
			answer.Progress(*line.Progress)
		case line.Bytes != nil && answer.File != nil:
			if _, err := answer.File.Write(line.Bytes); err != nil {
				return err
			}
		}
	}
}

// unsent says why there is no answer to a request.
func (c *Client) unsent(ctx context.Context, err error) error {
	dialing, ok := errors.AsType[*net.OpError](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok || dialing.Op != "dial": // the connection was cut
		return errCut
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens at %s; start it with `airlock serve`, or name the directory with --data-dir", ErrNoServer, c.socket)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("you may not use %s: run the command as the user that runs the server", c.socket)
	case len(c.socket) > longestPath && errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: the path %s is longer than a socket's may be", ErrNoServer, c.socket)
	}
	return err
}
