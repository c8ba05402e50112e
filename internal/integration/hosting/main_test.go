package hosting

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/live"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
)

// TestMain makes of the test's own program two others: a connector, where it is
// called baton-…, and a server to be killed.
func TestMain(m *testing.M) {
	switch {
	case strings.HasPrefix(filepath.Base(os.Args[0]), "baton-"):
		actAsConnector()
	case os.Getenv("HOSTING_SERVER") != "":
		actAsServer(os.Getenv("HOSTING_SERVER"))
	default:
		os.Exit(m.Run())
	}
}

const fakeForm = `{"displayName":"Fake","fields":[
  {"name":"act","stringField":{}},{"name":"report","stringField":{}},{"name":"secret","isSecret":true,"stringField":{}},
  {"name":"key-file","isSecret":true,"stringField":{"type":"STRING_FIELD_TYPE_FILE_UPLOAD","allowedExtensions":[".pem"]}},
  {"name":"list","stringSliceField":{}}]}`

// report is what a fake connector tells of itself.
type report struct {
	Environment, Args []string
	Dir               string
	Files             []string
	Mode              os.FileMode // of Dir
	KeyFile           string      // its content
	PIDs              []int       // its own, and its child's
}

// actAsConnector does what the setting act says.
func actAsConnector() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "config":
			fmt.Fprintln(os.Stdout, fakeForm)
		case "_connector-service": // ends when its parent has, as the SDK's does
			_, _ = io.Copy(io.Discard, os.Stdin)
		case "eat":
			eat()
		}
		os.Exit(0)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	act, _, _ := strings.Cut(os.Getenv("BATON_ACT"), " ")
	if act == "exit" {
		fmt.Fprintln(os.Stderr, "error: the door is closed to "+os.Getenv("BATON_SECRET"))
		os.Exit(3)
	}
	tell := report{Environment: os.Environ(), Args: os.Args, PIDs: []int{os.Getpid()}}
	tell.Dir, _ = os.Getwd()
	if info, err := os.Stat(tell.Dir); err == nil {
		tell.Mode = info.Mode()
	}
	entries, _ := os.ReadDir(tell.Dir)
	for _, entry := range entries {
		tell.Files = append(tell.Files, entry.Name())
	}
	if key, err := os.ReadFile(os.Getenv("BATON_KEY_FILE")); err == nil {
		tell.KeyFile = string(key)
	}
	switch act {
	case "litter":
		_ = os.WriteFile("rubbish", nil, 0o600)
	case "parent", "eat-below":
		child := exec.Command(os.Args[0], "_connector-service")
		if act == "eat-below" {
			child = exec.Command(os.Args[0], "eat")
		}
		stdin, _ := child.StdinPipe()
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		defer runtime.KeepAlive(stdin) // open as long as we run
		tell.PIDs = append(tell.PIDs, child.Process.Pid)
	case "eat":
		go eat()
	case "stubborn":
		signal.Ignore(os.Interrupt)
	}
	if path := os.Getenv("BATON_REPORT"); path != "" {
		text, _ := json.Marshal(tell)
		if os.WriteFile(path+".new", text, 0o600) != nil || os.Rename(path+".new", path) != nil {
			panic("the report can't be written")
		}
	}
	secret := os.Getenv("BATON_SECRET")
	switch act {
	case "flood":
		out := bufio.NewWriter(os.Stdout)
		for n := range 50_000 {
			fmt.Fprintln(out, n, strings.Repeat("x", 100))
		}
		out.Flush()
		fmt.Fprintln(os.Stdout, strings.Repeat("long ", 1<<20))
	case "leak":
		inJSON, _ := json.Marshal(secret)
		fmt.Fprintln(os.Stdout, "plain", secret)
		fmt.Fprintln(os.Stdout, strings.Repeat("x", maxMessage-3)+secret)
		fmt.Fprintf(os.Stdout, `{"level":"info","ts":1.5,"msg":"in a message %s","deep":{"list":[%s,{%s:1}]},"n":12345}`+"\n", inJSON[1:len(inJSON)-1], inJSON, inJSON)
		fmt.Fprintln(os.Stderr, os.Getenv("BATON_CLIENT_SECRET"))
		key, _ := os.ReadFile(os.Getenv("BATON_KEY_FILE"))
		fmt.Fprint(os.Stdout, string(key))
	case "stuck":
		fmt.Fprintln(os.Stdout, `{"level":"info","msg":"Handling full sync task."}`)
		fmt.Fprintln(os.Stdout, `{"level":"warn","msg":"retrying operation","grpc.method":"Validate","error":"rpc error: code = Unavailable desc = refused as `+secret+`"}`)
	case "sync":
		for _, line := range []string{
			`{"level":"info","msg":"Syncing resource types..."}`,
			`{"level":"info","msg":"Synced resource types","count":2}`,
			`{"level":"info","msg":"Synced resources","resource_type_id":"user","count":10}`,
			`{"level":"info","msg":"Synced resources","resource_type_id":"user","count":17}`,
			`{"level":"info","msg":"Syncing grants","resource_type_id":"role","synced":4,"total":9,"percent_complete":44}`,
			`{"level":"info","msg":"Synced resources","count":"many","resource_type_id":7}`,
			`{"level":"info","msg":"[core]Channel created","grpc_log":true}`,
			`{"level":"warn","msg":"[core]the connection broke","grpc_log":true}`,
		} {
			fmt.Fprintln(os.Stdout, line)
		}
	}
	fmt.Fprintln(os.Stdout, `{"level":"info","msg":"ready"}`)
	<-interrupted // never, where it is ignored
	fmt.Fprintln(os.Stdout, `{"level":"warn","msg":"interrupted"}`)
}

// eat uses 200 MB and waits.
func eat() {
	food := make([]byte, 200<<20)
	for n := range food {
		food[n] = byte(n)
	}
	<-make(chan struct{})
	_ = food
}

// serverOrder is what a server to be killed is told.
type serverOrder struct {
	Database, Programs, Dir string
	Hosted                  []integration.HostedConnector
}

// actAsServer hosts what it is told and writes the log to its stdout.
func actAsServer(order string) {
	var o serverOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		panic(err)
	}
	ctx := context.Background()
	d, err := db.Open(ctx, o.Database)
	if err != nil {
		panic(err)
	}
	c := config(d, o.Programs, o.Dir)
	c.Hosted = func(context.Context) ([]integration.HostedConnector, error) { return o.Hosted, nil }
	c.AppendLog = func(_ context.Context, _ string, list []integration.LogLine) error {
		for _, line := range list {
			fmt.Fprintln(os.Stdout, line.Message)
		}
		return nil
	}
	c.ReportProblem = func(_ context.Context, _ string, p integration.Problem) error {
		fmt.Fprintln(os.Stdout, "problem:", p.Words)
		return nil
	}
	if err := New(c).Start(ctx); err != nil {
		panic(err)
	}
	<-make(chan struct{})
}

// config is a Host's, with stubs for the rest of the server.
func config(d *db.DB, programs, dir string) Config {
	return Config{
		DB: d, Live: live.New(d, slog.New(slog.DiscardHandler)), Catalog: catalog.Open(programs, catalog.Options{}), Log: slog.New(slog.DiscardHandler),
		Hosted:        func(context.Context) ([]integration.HostedConnector, error) { return nil, nil },
		ReportProblem: func(context.Context, string, integration.Problem) error { return nil },
		AppendLog:     func(context.Context, string, []integration.LogLine) error { return nil },
		ReadingCounts: func(context.Context, string, map[string]int64) error { return nil },
		Retrying:      func(context.Context, string, integration.Retry) error { return nil },
		AddClient: func(_ context.Context, _ *db.Tx, kind, subjectID, host string) (string, string, error) {
			return "some-fake-1@" + host + "/ccc", clientSecret, nil
		},
		RevokeClients: func(context.Context, *db.Tx, string, string, string) error { return nil },
		Dir:           dir, Door: "127.0.0.1:1", CADir: "/ca",
	}
}

// clientSecret is a key of the form that the SDK reads; it opens nothing.
var clientSecret = func() string {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	text := base64.RawURLEncoding.EncodeToString
	return "secret-token:conductorone.com:v1:" + text(fmt.Appendf(nil, `{"kty":"OKP","crv":"Ed25519","x":%q,"d":%q}`, text(key[ed25519.SeedSize:]), text(key.Seed())))
}()

// kill kills a process without its consent.
func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
