// Command demo shows baton-airflow on a real Airflow with a small company in it:
// it reads who can do what, says it in words, grants a role, takes it away
// again, and proves both by a fresh look. Then it ends.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"

	"airlock/airflow/airflowtest"
	"airlock/connector/connectortest"
)

func main() {
	picture := flag.String("screenshot", "", "also write what is printed to this file, as a picture (SVG)")
	flag.Parse()
	// Nobody undoes this: the process ends with main.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var printed strings.Builder
	err := run(ctx, io.MultiWriter(os.Stdout, &printed))
	if err == nil && *picture != "" {
		err = screenshot(*picture, "$ make demo\n"+printed.String())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "airlock-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	release := airflowtest.Releases("test")[0]
	fmt.Fprintf(out, "Starting a real Airflow %s with FAB %s (the first time it is fetched, which takes a minute or two) …\n", release.Airflow, release.FAB)
	real, err := airflowtest.StartReal(ctx, filepath.Join(dir, "airflow"), release.Airflow)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, real.Stop()) }()
	fmt.Fprintf(out, "  it answers at %s\nBuilding baton-airflow …\n", real.URL)
	program, err := connectortest.Build(ctx, dir)
	if err != nil {
		return err
	}
	account := airflowtest.Company().User("airlock")
	connector := connectortest.New(program, dir, real.URL, account.Username, account.Password)

	fmt.Fprintf(out, "Syncing as %s, an account with no more rights than that needs …\n\n", account.Username)
	before, err := connector.Sync(ctx)
	if err != nil {
		return err
	}
	tell(out, before)

	const role, username = "payroll-editor", "eve"
	entitlement := "role:" + role + ":assigned"
	grantID := entitlement + ":user:" + username
	who := name(before, username)

	fmt.Fprintf(out, "\nGranting %s to %s …\n", role, who)
	if _, err := connector.Run(ctx, "--grant-entitlement", entitlement, "--grant-principal", username, "--grant-principal-type", "user"); err != nil {
		return err
	}
	granted, err := connector.Sync(ctx)
	if err != nil {
		return err
	}
	if err := prove(out, before, granted, username, grantID, true); err != nil {
		return err
	}
	fmt.Fprintf(out, "Revoking it …\n")
	if _, err := connector.Run(ctx, "--revoke-grant", grantID); err != nil {
		return err
	}
	revoked, err := connector.Sync(ctx)
	if err != nil {
		return err
	}
	if err := prove(out, granted, revoked, username, grantID, false); err != nil {
		return err
	}
	if left := gained(before, revoked); len(left) > 0 {
		return fmt.Errorf("after the revoke there is more than before: %v", left)
	}
	fmt.Fprintf(out, "  %s can do in Airflow exactly what she could before.\n\n", who)
	if err := real.Stop(); err != nil {
		return err
	}
	fmt.Fprintf(out, "Done in %s. Airflow is stopped; what was fetched stays in the cache for the next time.\n", time.Since(began).Round(time.Second))
	return nil
}

// tell says in words what a sync found.
func tell(out io.Writer, f connectortest.Found) {
	about := f.Resources["instance:airflow"]
	total := about.GetProfile().AsMap()
	fmt.Fprintf(out, "%s\n  %v users, %v roles, %v DAGs, by its own count; found %d, %d and %d.\n\n", about.GetDescription(),
		total["users_total"], total["roles_total"], total["dags_total"], len(f.Of("user")), len(f.Of("role")), len(f.Of("dag")))

	fmt.Fprintln(out, "WHO HAS WHICH ROLE")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, role := range byMembers(f) {
		fmt.Fprintf(table, "  %s\t%s\n", role, people(f, f.Holders("role:"+role+":assigned", "user")))
	}
	flush(table)

	fmt.Fprintln(out, "\nWHO CAN DO WHAT")
	table = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, can := range []struct{ what, entitlement string }{
		{"change who may do what", "resource:Users:can_edit"},
		{"read stored passwords and keys (connections)", "resource:Connections:can_read"},
		{"run any DAG", "resource:DAG Runs:can_create"},
		{"edit the DAG payroll_close", "dag:payroll_close:can_edit"},
		{"run the DAG payroll_close", "dag:payroll_close:run.can_create"},
		{"see the DAG invoices_daily", "dag:invoices_daily:can_read"},
	} {
		fmt.Fprintf(table, "  %s\t%s\n", can.what, people(f, f.Holders(can.entitlement, "user")))
	}
	flush(table)

	fmt.Fprintln(out, "\nWORTH A LOOK")
	for _, username := range f.Of("user") {
		u := f.Resources["user:"+username]
		roles := rolesOf(f, username)
		switch active := rs.GetStatus(u).GetStatus() == v2.Status_RESOURCE_STATUS_ENABLED; {
		case !active && len(roles) > 0:
			fmt.Fprintf(out, "  %s is switched off in Airflow and still has %s\n", name(f, username), strings.Join(roles, ", "))
		case active && len(roles) == 0:
			fmt.Fprintf(out, "  %s may sign in and has no role\n", name(f, username))
		}
	}
}

// prove compares two syncs: the grant came (or went), and what followed from it.
func prove(out io.Writer, before, after connectortest.Found, username, grantID string, come bool) error {
	change, verb := gained(before, after), "can now"
	if !come {
		change, verb = gained(after, before), "can no longer"
	}
	if !slices.ContainsFunc(change, func(g *v2.Grant) bool { return g.GetId() == grantID }) {
		return fmt.Errorf("a fresh sync doesn't show that %s changed", grantID)
	}
	fmt.Fprintf(out, "  a fresh sync shows it. Since then %s %s:\n", name(after, username), verb)
	for _, g := range change {
		if g.GetPrincipal().GetId().GetResource() != username {
			return fmt.Errorf("something else changed too: %s", g.GetId())
		}
		if g.GetId() != grantID {
			fmt.Fprintf(out, "    · %s\n", inWords(after, g))
		}
	}
	return nil
}

// gained are the grants that the later sync has and the earlier hasn't, in order.
func gained(earlier, later connectortest.Found) []*v2.Grant {
	var grants []*v2.Grant
	for id, g := range later.Grants {
		if _, there := earlier.Grants[id]; !there {
			grants = append(grants, g)
		}
	}
	slices.SortFunc(grants, func(a, b *v2.Grant) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return grants
}

// inWords says what a grant of a permission lets one do.
func inWords(f connectortest.Found, g *v2.Grant) string {
	e := f.Entitlements[g.GetEntitlement().GetId()]
	words := strings.ToLower(e.GetDisplayName()[:1]) + e.GetDisplayName()[1:]
	if e.GetResource().GetId().GetResourceType() == "dag" {
		words += " " + e.GetResource().GetId().GetResource()
	}
	return words
}

// byMembers are the roles that somebody has, those with the fewest members first.
func byMembers(f connectortest.Found) []string {
	roles := slices.DeleteFunc(f.Of("role"), func(r string) bool { return len(f.Holders("role:"+r+":assigned", "user")) == 0 })
	slices.SortStableFunc(roles, func(a, b string) int {
		return len(f.Holders("role:"+a+":assigned", "user")) - len(f.Holders("role:"+b+":assigned", "user"))
	})
	return roles
}

func rolesOf(f connectortest.Found, username string) []string {
	var roles []string
	for _, role := range f.Of("role") {
		if _, has := f.Grants["role:"+role+":assigned:user:"+username]; has {
			roles = append(roles, role)
		}
	}
	return roles
}

func name(f connectortest.Found, username string) string {
	return f.Resources["user:"+username].GetDisplayName()
}

// people lists names, or says how many there are besides.
func people(f connectortest.Found, usernames []string) string {
	const most = 6
	var names []string
	for i, u := range usernames {
		if i == most {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(usernames)-most)
		}
		shown := name(f, u)
		if rs.GetStatus(f.Resources["user:"+u]).GetStatus() != v2.Status_RESOURCE_STATUS_ENABLED {
			shown += " (switched off)"
		}
		names = append(names, shown)
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

func flush(table *tabwriter.Writer) {
	if err := table.Flush(); err != nil {
		panic(err) // it writes to memory or to the screen
	}
}
