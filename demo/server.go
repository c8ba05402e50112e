package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// server is a running airlock.
type server struct {
	program string
	dataDir string
	address string
	cmd     *exec.Cmd
	ended   chan error
	over    bool
}

// serve starts a server and returns when it is ready.
func serve(ctx context.Context, p programs, dir, name, database string, env ...string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	s := &server{program: p.airlock, dataDir: filepath.Join(dir, name), address: address, ended: make(chan error, 1)}
	s.cmd = exec.Command(p.airlock, "serve", "--data-dir", s.dataDir, "--listen", address)
	s.cmd.Env = append(os.Environ(), append(env, "AIRLOCK_DATABASE_URL="+database)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which stops it in order
	said, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	var log bytes.Buffer // read once the process has ended
	go func() {
		serves := false
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if !serves {
				log.WriteString(lines.Text() + "\n")
				if serves = strings.Contains(lines.Text(), "airlock serves"); serves {
					close(ready)
				}
			}
		}
		s.ended <- s.cmd.Wait()
	}()
	select {
	case <-ready:
		return s, nil
	case err := <-s.ended:
		return nil, fmt.Errorf("the server ended: %w:\n%s", err, log.String())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.kill())
	}
}

func (s *server) stop() error {
	if s.over {
		return nil
	}
	s.over = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return <-s.ended
}

func (s *server) kill() error {
	s.over = true
	err := s.cmd.Process.Kill()
	if ended := <-s.ended; ended == nil {
		err = errors.Join(err, errors.New("the server had ended by itself"))
	}
	return err
}

// run runs a command and returns what it printed.
func (s *server) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.program, append([]string{"--data-dir", s.dataDir}, args...)...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	said, err := cmd.Output()
	if err != nil {
		return string(said), fmt.Errorf("airlock %s: %w: %s%s", strings.Join(args, " "), err, said, problems.String())
	}
	return string(said), nil
}

// administrator makes somebody who can sign in to the pages.
func (s *server) administrator(ctx context.Context, email, password string) error {
	cmd := exec.CommandContext(ctx, s.program, "--data-dir", s.dataDir, "admin", "create", "--email", email, "--password-stdin")
	cmd.Stdin = strings.NewReader(password + "\n")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("airlock admin create: %w: %s", err, said)
	}
	return nil
}

func (s *server) quietly(ctx context.Context, args ...string) error {
	_, err := s.run(ctx, args...)
	return err
}

// show runs a command as somebody would type it. Secrets are not printed.
func (s *server) show(ctx context.Context, out io.Writer, args ...string) (string, error) {
	words := slices.Clone(args)
	for n, word := range words {
		if key, _, ok := strings.Cut(word, "=/"); ok {
			word = key + "=password.txt"
		}
		if strings.Contains(word, " ") {
			word = "'" + word + "'"
		}
		words[n] = word
	}
	typed := "$ airlock " + strings.Join(words, " ")
	if len(typed) > 118 {
		typed = strings.ReplaceAll(typed, " --set", " \\\n    --set")
	}
	fmt.Fprintln(out, typed)
	said, err := s.run(ctx, args...)
	for line := range strings.SplitSeq(strings.TrimRight(said, "\n"), "\n") {
		if name, _, ok := strings.Cut(line, "="); ok && strings.HasSuffix(name, "_SECRET") {
			line = name + "=secret-token:…"
		}
		line = strings.ReplaceAll(line, filepath.Dir(s.dataDir), "…")
		if letters := []rune(line); len(letters) > 118 {
			line = string(letters[:117]) + "…"
		}
		fmt.Fprintln(out, "  "+line)
	}
	return said, err
}

// json runs a command with --json and decodes what it prints.
func (s *server) json(ctx context.Context, into any, args ...string) error {
	said, err := s.run(ctx, append([]string{"--json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(said), into)
}

// grant is a line of `airlock export grants`.
type grant struct {
	Entitlement   string   `json:"entitlement"`
	PrincipalType string   `json:"principal_type"`
	Principal     string   `json:"principal"`
	Inherited     bool     `json:"inherited"`
	Path          []string `json:"path"`
}

func (g grant) key() string {
	return fmt.Sprint(g.Entitlement, "|", g.PrincipalType, ":", g.Principal, "|", g.Inherited)
}

func (s *server) grants(ctx context.Context, app string) ([]grant, error) {
	var list []grant
	err := s.json(ctx, &list, "export", "grants", "--app", app)
	return list, err
}

// entitlements are the names of an app's entitlements, each with its resource's
// name where that isn't in it.
func (s *server) entitlements(ctx context.Context, app string) (map[string]string, error) {
	var list []struct {
		ID       string `json:"external_id"`
		Name     string `json:"name"`
		Resource string `json:"resource"`
	}
	err := s.json(ctx, &list, "export", "entitlements", "--app", app)
	names := map[string]string{}
	for _, e := range list {
		if !strings.Contains(e.Name, e.Resource) {
			e.Name += " " + e.Resource
		}
		names[e.ID] = e.Name
	}
	return names, err
}

// minus are the grants of one list that another hasn't.
func minus(list, other []grant) []grant {
	there := map[string]bool{}
	for _, g := range other {
		there[g.key()] = true
	}
	var left []grant
	for _, g := range list {
		if !there[g.key()] {
			left = append(left, g)
		}
	}
	return left
}
