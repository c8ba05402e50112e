// Command demo shows Airlock on a real Airflow with a small company in it: the
// server takes Airflow in, hosted and self-hosted, says who can do what, grants
// a role, takes it away again, and proves both; then the same on PostgreSQL with
// two servers, of which one is killed. It stays up for you to go on, until it is
// interrupted; DEMO=once ends it after its checks.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"airlock/airflow"
	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
	"airlock/internal/base/db/pgserver"
)

func main() {
	picture := flag.String("screenshot", "", "also write what is printed to this file, as a picture (SVG), and end")
	flag.Parse()
	// Nobody undoes this: the process ends with main.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var printed strings.Builder
	stay := os.Getenv("DEMO") != "once" && *picture == ""
	err := run(ctx, io.MultiWriter(os.Stdout, &printed), stay)
	if err == nil && *picture != "" {
		err = screenshot(*picture, "$ make demo\n"+printed.String())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const (
	app    = "Airflow"
	role   = "payroll-editor"
	member = "eve"
)

func run(ctx context.Context, out io.Writer, stay bool) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "airlock-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL may run as another user
		return err
	}

	release := airflowtest.Releases("test")[0]
	fmt.Fprintf(out, "Starting a real Airflow %s with FAB %s (the first time it is fetched, which takes a minute or two) …\n", release.Airflow, release.FAB)
	real, err := airflowtest.StartReal(ctx, filepath.Join(dir, "airflow"), release.Airflow)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, real.Stop()) }()
	fmt.Fprintf(out, "  it answers at %s\nBuilding airlock and baton-airflow …\n", real.URL)
	programs, err := build(ctx, dir)
	if err != nil {
		return err
	}

	server, err := serve(ctx, programs, dir, "one", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := hosted(ctx, out, server, real.URL); err != nil {
		return err
	}
	if err := change(ctx, out, server, real.URL); err != nil {
		return err
	}
	if err := selfHosted(ctx, out, server, programs, real.URL); err != nil {
		return err
	}
	if err := replicas(ctx, out, programs, dir, real.URL); err != nil {
		return err
	}
	if _, err := server.show(ctx, out, "audit", "verify"); err != nil {
		return err
	}
	password := rand.Text()
	if err := server.administrator(ctx, "admin@example.com", password); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAll of it was checked, in %s.\n", time.Since(began).Round(time.Second))
	if !stay {
		return nil
	}
	fmt.Fprintf(out, `
Airlock stays up. Sign in at

  https://%s   (its certificate is its own: go on in spite of the warning)
  admin@example.com   %s

Airflow is at %s (admin, %s): add it once more, by Integrations, Connectors, Add connector. Or go on with

  export PATH=%s:$PATH AIRLOCK_DATA_DIR=%s
  airlock connector show %s
  airlock export grants --app %s
  airlock grant role:Op:assigned %s --app %s --wait
  airlock audit tail -f

Ctrl-C ends it and removes all of it.
`, server.address, password, real.URL, airflowtest.Company().User("admin").Password, filepath.Dir(programs.airlock), server.dataDir, app, app, member, app)
	<-ctx.Done()
	return nil
}

// programs are what was built.
type programs struct{ airlock, baton string }

func build(ctx context.Context, dir string) (programs, error) {
	p := programs{airlock: filepath.Join(dir, "airlock")}
	if said, err := exec.CommandContext(ctx, "go", "build", "-o", p.airlock, "airlock/cmd/airlock").CombinedOutput(); err != nil {
		return p, fmt.Errorf("build airlock: %w: %s", err, said)
	}
	connectors := filepath.Join(dir, "connectors")
	if err := os.Mkdir(connectors, 0o755); err != nil {
		return p, err
	}
	baton, err := connectortest.Build(ctx, connectors)
	p.baton = baton
	return p, err
}

// hosted lets the server run baton-airflow itself, and says what it found.
func hosted(ctx context.Context, out io.Writer, s *server, url string) error {
	fmt.Fprintln(out, "\nA SERVER, AND AIRFLOW IN IT")
	fmt.Fprintln(out, "$ airlock serve &")
	account := airflowtest.Company().User("airlock")
	password := filepath.Join(s.dataDir, "demo-password")
	if err := os.WriteFile(password, []byte(account.Password), 0o600); err != nil {
		return err
	}
	if _, err := s.show(ctx, out, "connector", "add", "airflow", "--app", app, "--hosted", "--set", "airflow-base-url="+url,
		"--set", "airflow-username="+account.Username, "--set-file", "airflow-password="+password); err != nil {
		return err
	}
	for _, command := range [][]string{{"connector", "sync", app, "--wait"}, {"connector", "list"}} {
		if _, err := s.show(ctx, out, command...); err != nil {
			return err
		}
	}
	found, err := s.grants(ctx, app)
	if err != nil {
		return err
	}
	return tell(ctx, out, s, found)
}

// change gives a role and takes it again, by the command line, and holds both
// against Airflow itself.
func change(ctx context.Context, out io.Writer, s *server, url string) error {
	fmt.Fprintln(out, "\nGIVEN, SEEN, TAKEN AWAY")
	user := airflowtest.Company().User("admin")
	client, err := airflow.New(airflow.Config{BaseURL: url, Username: user.Username, Password: user.Password})
	if err != nil {
		return err
	}
	check := func(want bool) error {
		u, err := client.User(ctx, member)
		if err != nil {
			return err
		}
		if slices.Contains(u.Roles, role) != want {
			return fmt.Errorf("airflow says that %s has the roles %v", member, u.Roles)
		}
		fmt.Fprintf(out, "  Airflow itself says that %s has the roles %s.\n", member, strings.Join(u.Roles, ", "))
		return nil
	}
	before, err := s.grants(ctx, app)
	if err != nil {
		return err
	}
	entitlement := "role:" + role + ":assigned"
	if _, err := s.show(ctx, out, "grant", entitlement, member, "--app", app, "--wait"); err != nil {
		return err
	}
	if err := check(true); err != nil {
		return err
	}
	during, err := s.grants(ctx, app)
	if err != nil {
		return err
	}
	names, err := s.entitlements(ctx, app)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  Since then %s can:\n", member)
	for _, g := range minus(during, before) {
		if g.Principal != member {
			return fmt.Errorf("something else changed too: %s for %s", g.Entitlement, g.Principal)
		}
		if g.Inherited {
			fmt.Fprintf(out, "    · %s, through %s\n", names[g.Entitlement], strings.Join(g.Path, " → "))
		}
	}
	if _, err := s.show(ctx, out, "revoke", entitlement, member, "--app", app, "--wait"); err != nil {
		return err
	}
	if err := check(false); err != nil {
		return err
	}
	after, err := s.grants(ctx, app)
	if err != nil {
		return err
	}
	if left := minus(after, before); len(left) > 0 {
		return fmt.Errorf("after the revoke there is more than before: %v", left)
	}
	fmt.Fprintf(out, "  %s can do exactly what was possible before.\n", member)
	return nil
}

// selfHosted adds a connector that runs elsewhere: started with the variables
// that the command prints, and nothing else of the server's.
func selfHosted(ctx context.Context, out io.Writer, s *server, p programs, url string) (err error) {
	fmt.Fprintln(out, "\nTHE SAME WITH A CONNECTOR THAT RUNS ELSEWHERE")
	variables, err := s.show(ctx, out, "connector", "add", "airflow", "--app", "Elsewhere")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "$ BATON_CLIENT_ID=… BATON_CLIENT_SECRET=… SSL_CERT_DIR=… BATON_AIRFLOW_BASE_URL=… baton-airflow &")
	account := airflowtest.Company().User("airlock")
	home, err := os.MkdirTemp(filepath.Dir(p.airlock), "elsewhere-")
	if err != nil {
		return err
	}
	connector := exec.CommandContext(ctx, p.baton)
	connector.Dir = home
	connector.Env = append(strings.Fields(variables), "HOME="+home, "TMPDIR="+home, "BATON_PROVISIONING=true",
		"BATON_AIRFLOW_BASE_URL="+url, "BATON_AIRFLOW_USERNAME="+account.Username, "BATON_AIRFLOW_PASSWORD="+account.Password)
	connector.Cancel = func() error { return connector.Process.Signal(os.Interrupt) }
	if err := connector.Start(); err != nil {
		return err
	}
	defer func() {
		_ = connector.Process.Signal(os.Interrupt) // what ended needs no signal
		_ = connector.Wait()                       // nor is it asked how
	}()
	if _, err := s.show(ctx, out, "connector", "sync", "Elsewhere", "--wait"); err != nil {
		return err
	}
	return same(ctx, out, s, app, s, "Elsewhere")
}

// replicas does it with two servers on one PostgreSQL, and kills the one that
// runs the connector.
func replicas(ctx context.Context, out io.Writer, p programs, dir, url string) (err error) {
	fmt.Fprintln(out, "\nTHE SAME ON POSTGRESQL, WITH TWO SERVERS")
	postgres, err := pgserver.Start(ctx, filepath.Join(dir, "pg"))
	if err != nil {
		return err
	}
	defer postgres.Stop()
	if err := postgres.Exec(ctx, "CREATE DATABASE airlock"); err != nil {
		return err
	}
	first, err := serve(ctx, p, dir, "two", postgres.URL("airlock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.stop()) }()
	// The second gets the same key, as by a mounted secret.
	second, err := serve(ctx, p, dir, "three", postgres.URL("airlock"), "AIRLOCK_KEY_FILE="+filepath.Join(first.dataDir, "airlock.key"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.stop()) }()
	fmt.Fprintln(out, "$ AIRLOCK_DATABASE_URL=postgres://… airlock serve &   (twice)")
	account := airflowtest.Company().User("airlock")
	if err := first.quietly(ctx, "connector", "add", "airflow", "--app", app, "--hosted", "--set", "airflow-base-url="+url,
		"--set", "airflow-username="+account.Username, "--set", "airflow-password="+account.Password); err != nil {
		return err
	}
	if err := first.quietly(ctx, "connector", "sync", app, "--wait", "--timeout", "3m"); err != nil {
		return err
	}
	if err := first.kill(); err != nil {
		return err
	}
	fmt.Fprintln(out, "  The first took Airflow in, and was killed. The second goes on:")
	if _, err := second.show(ctx, out, "connector", "sync", app, "--wait", "--timeout", "3m"); err != nil {
		return err
	}
	if err := second.quietly(ctx, "audit", "verify"); err != nil {
		return err
	}
	held, err := second.grants(ctx, app)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  It holds the same %d grants.\n", len(held))
	return nil
}

// same checks that two apps hold the same.
func same(ctx context.Context, out io.Writer, a *server, first string, b *server, second string) error {
	one, err := a.grants(ctx, first)
	if err != nil {
		return err
	}
	two, err := b.grants(ctx, second)
	if err != nil {
		return err
	}
	if more, less := minus(one, two), minus(two, one); len(more)+len(less) > 0 {
		return fmt.Errorf("%s and %s differ: %v, %v", first, second, more, less)
	}
	fmt.Fprintf(out, "  %s and %s hold the same %d grants.\n", first, second, len(one))
	return nil
}

// tell says in words what a sync found.
func tell(ctx context.Context, out io.Writer, s *server, found []grant) error {
	var accounts []struct {
		ID     string `json:"external_id"`
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	if err := s.json(ctx, &accounts, "export", "accounts", "--app", app); err != nil {
		return err
	}
	names, active := map[string]string{}, map[string]bool{}
	for _, a := range accounts {
		names[a.ID], active[a.ID] = a.Name, a.Status == "enabled"
	}
	holders := func(entitlement string) string {
		var list []string
		for _, g := range found {
			if g.Entitlement == entitlement && g.PrincipalType == "user" {
				name := names[g.Principal]
				if !active[g.Principal] {
					name += " (switched off)"
				}
				list = append(list, name)
			}
		}
		slices.Sort(list)
		list = slices.Compact(list)
		if len(list) > 6 {
			list = append(list[:6], fmt.Sprintf("and %d more", len(list)-6))
		}
		if len(list) == 0 {
			return "nobody"
		}
		return strings.Join(list, ", ")
	}
	fmt.Fprintln(out, "\nWHO CAN DO WHAT")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, can := range []struct{ what, entitlement string }{
		{"change who may do what", "resource:Users:can_edit"},
		{"read stored passwords and keys (connections)", "resource:Connections:can_read"},
		{"run any DAG", "resource:DAG Runs:can_create"},
		{"edit the DAG payroll_close", "dag:payroll_close:can_edit"},
		{"run the DAG payroll_close", "dag:payroll_close:run.can_create"},
	} {
		fmt.Fprintf(table, "  %s\t%s\n", can.what, holders(can.entitlement))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	roles := map[string][]string{}
	for _, g := range found {
		if name, ok := strings.CutPrefix(g.Entitlement, "role:"); ok && g.PrincipalType == "user" && !g.Inherited {
			roles[g.Principal] = append(roles[g.Principal], strings.TrimSuffix(name, ":assigned"))
		}
	}
	fmt.Fprintln(out, "\nWORTH A LOOK")
	for _, a := range accounts {
		switch has := roles[a.ID]; {
		case a.Status != "enabled" && len(has) > 0:
			slices.Sort(has)
			fmt.Fprintf(out, "  %s is switched off in Airflow and still has %s\n", a.Name, strings.Join(has, ", "))
		case a.Status == "enabled" && len(has) == 0:
			fmt.Fprintf(out, "  %s may sign in and has no role\n", a.Name)
		}
	}
	return nil
}
