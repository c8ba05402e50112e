package connector

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
)

var (
	programDir string
	built      = sync.OnceValues(func() (string, error) { return connectortest.Build(context.Background(), programDir) })
)

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "airlock-connector-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(programDir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// What the program says of itself, without any settings, is what is committed.
func TestGeneratedFiles(t *testing.T) {
	t.Parallel()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	for command, file := range map[string]string{"capabilities": "baton_capabilities.json", "config": "config_schema.json"} {
		cmd := exec.CommandContext(t.Context(), path, command)
		cmd.Dir = t.TempDir()
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "BATON_") })
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		want, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date, run `make generate` (-committed +generated):\n%s", file, diff)
		}
	}
}

// Not at any level does a log hold a password, a token, or what they are sent in.
func TestNoSecretInAnyLog(t *testing.T) {
	t.Parallel()
	const password = "pa55word-that-nobody-may-see"
	for _, release := range []string{"3.3.2", "3.1.6", "2.11.2"} { // bearer, bearer and basic, basic
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: airflowtest.For(release)})
			srv.SetPassword("airlock", password)
			secrets := map[string]string{
				"the password": password, "basic": base64.StdEncoding.EncodeToString([]byte("airlock:" + password)),
				"a word before a token": "Bearer ", "a token's beginning": "eyJ",
			}
			path, err := built()
			if err != nil {
				t.Fatal(err)
			}
			c := connectortest.New(path, t.TempDir(), srv.URL, "airlock", password)
			var said strings.Builder
			run := func(fails bool, args ...string) {
				t.Helper()
				log, err := c.Run(t.Context(), append(args, "--log-level", "debug")...)
				if fails != (err != nil) {
					t.Errorf("%v: %v", args, err)
				}
				said.WriteString(log)
				fmt.Fprint(&said, err)
			}
			run(false)
			run(false, "--grant-entitlement", "role:Op:assigned", "--grant-principal", "eve", "--grant-principal-type", "user")
			run(false, "--create-account-login", "greta", "--create-account-profile", `{"email":"greta@example.com"}`)
			greta, _ := srv.User("greta")
			secrets["the password made for an account"] = greta.Password
			run(false, "--rotate-credentials", "eve", "--rotate-credentials-type", "user")
			eve, _ := srv.User("eve")
			secrets["the password made for a rotation"] = eve.Password
			srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Times: -1, Act: airflowtest.Answer(http.StatusUnprocessableEntity, "application/json", `{"detail":[{"loc":["body","password"],"msg":"too weak","input":"`+password+`"}]}`)})
			run(true)
			srv.ClearFaults()
			srv.SetPassword("airlock", "another")
			run(true) // and can't sign in

			if !strings.Contains(said.String(), "HTTP request complete") {
				t.Error("the log doesn't tell of requests: it isn't at the level of debug")
			}
			texts := map[string]string{"what was logged": said.String()}
			files, err := filepath.Glob(filepath.Join(c.Dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && filepath.Ext(file) != ".c1z" {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					texts[filepath.Base(file)] = string(text)
				}
			}
			for where, text := range texts {
				for what, secret := range secrets {
					if secret == "" {
						t.Errorf("%s isn't there to be looked for", what)
					}
					if i := strings.Index(text, secret); i >= 0 {
						t.Errorf("%s holds %s: …%s…", where, what, text[max(0, i-200):min(len(text), i+100)])
					}
				}
			}
		})
	}
}
