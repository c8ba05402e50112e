package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"airlock/airflow/airflowtest"
)

// aim is the most that a sync may take, where a bare client and the SDK alone
// together take 1.
const aim = 1.2

// spare is how much more memory the connector's process may take than one that
// only replays: it is the same for any number of users.
const spare = 40 << 20

// judge is the error that says which aim was missed.
func (m measured) judge() error {
	var missed []error
	for _, c := range m.comparisons {
		if lists := c.requests["GET /auth/fab/v1/users"] + c.requests["GET /auth/fab/v1/roles"] + c.requests["GET /api/v2/dags"]; lists != c.pages {
			missed = append(missed, fmt.Errorf("the sync of %d users (permissions: %t) asked for %d pages, there are %d", c.scale.Users, c.permissions, lists, c.pages))
		}
		if c.ratio() > aim {
			missed = append(missed, fmt.Errorf("the sync of %d users (permissions: %t) took %.2f times as long as a bare client and the SDK alone, the aim is %.1f",
				c.scale.Users, c.permissions, c.ratio(), aim))
		}
		if c.sync.Child > c.sdk.Child+spare {
			missed = append(missed, fmt.Errorf("with %d users (permissions: %t) the connector's process took %s more memory than one that replays, the aim is %s",
				c.scale.Users, c.permissions, mb(c.sync.Child-c.sdk.Child), mb(spare)))
		}
	}
	return errors.Join(missed...)
}

// machine says what was measured on and with.
func machine() string {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			versions[d.Path] = d.Version
		}
	}
	model := ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, found := strings.Cut(string(text), "model name\t: "); found {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	return fmt.Sprintf("%s; %s, %s/%s, %d cores (%s); baton-sdk %s; in-memory %s",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), strings.TrimSpace(model),
		versions["github.com/conductorone/baton-sdk"], airflowtest.Newest())
}

// load is how many processes want a core, on the average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

func (m measured) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	first := m.comparisons[0].scale
	p("Measured on %s. All of it took %s; the load of the machine was %s before and %s after.", m.machine, m.took.Round(time.Second), m.before, m.after)
	p("")
	p("### A full sync")
	p("")
	p("%d roles and %d DAGs beside the built-in ones; each user has two roles.", first.Roles, first.DAGs)
	p("")
	p("| users | permissions | resources | grants | bare client | SDK alone | sync | ratio | peak memory, SDK alone | peak memory, sync |")
	p("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, c := range m.comparisons {
		with := "no"
		if c.permissions {
			with = "yes, not expanded"
		}
		p("| %s | %s | %s | %s | %s | %s | %s | **%.2f** | %s | %s |", thousands(int64(c.scale.Users)), with,
			thousands(c.found.GetResources()), thousands(c.found.GetGrants()), seconds(c.client.Wall), seconds(c.sdk.Wall), seconds(c.sync.Wall), c.ratio(),
			memory(c.sdk), memory(c.sync))
	}
	p("")
	p("Requests of one such sync:")
	p("")
	p("| endpoint | %s |", strings.Join(each(m.comparisons, func(c comparison) string {
		return fmt.Sprintf("%s users%s", thousands(int64(c.scale.Users)), map[bool]string{true: ", permissions"}[c.permissions])
	}), " | "))
	p("|---|%s", strings.Repeat("--:|", len(m.comparisons)))
	endpoints := map[string]bool{}
	for _, c := range m.comparisons {
		for e := range c.requests {
			endpoints[e] = true
		}
	}
	for _, e := range slices.Sorted(maps.Keys(endpoints)) {
		p("| `%s` | %s |", e, strings.Join(each(m.comparisons, func(c comparison) string { return fmt.Sprint(c.requests[e]) }), " | "))
	}
	p("")
	if len(m.expansions) == 0 {
		return strings.TrimSpace(b.String())
	}
	p("### What expanding permissions costs")
	p("")
	p("| users | DAGs | grants | sync | peak memory | grants, expanded | sync | peak memory | file |")
	p("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, e := range m.expansions {
		p("| %s | %d | %s | %s | %s | %s | %s | %s | %s |", thousands(int64(e.scale.Users)), e.scale.DAGs,
			thousands(e.direct), seconds(e.plain.Wall), memory(e.plain), thousands(e.all), seconds(e.expanded.Wall), memory(e.expanded), mb(e.bytes))
	}
	p("")
	p("### Workers")
	p("")
	p("| `--workers` | sync of 10,000 users, without permissions |")
	p("|--:|--:|")
	for _, w := range m.workers {
		p("| %s | %s |", w.n, seconds(w.sync.Wall))
	}
	p("")
	p("### Grants and revokes")
	p("")
	p("| of a connector that runs | in a second | requests each |")
	p("|---|--:|--:|")
	for _, c := range m.changes {
		p("| %s | %.0f | %.1f |", c.what, float64(c.n)/c.took.Seconds(), float64(c.requests)/float64(c.n))
	}
	return strings.TrimSpace(b.String())
}

func each[T, R any](list []T, f func(T) R) []R {
	out := make([]R, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mb(n int64) string { return fmt.Sprintf("%d MB", n>>20) }

// memory is a process's, and its child's.
func memory(u usage) string { return fmt.Sprintf("%d + %d MB", u.Parent>>20, u.Child>>20) }

// thousands writes a number with commas.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// part is a part of the document that this program writes: between two lines.
type part struct{ begin, end string }

var (
	connectorPart = part{"<!-- measured: written by `make bench`, up to the next mark -->\n", "<!-- end of what was measured -->\n"}
	serverPart    = part{"<!-- measured of the server: written by `make bench`, up to the next mark -->\n", "<!-- end of what was measured of the server -->\n"}
)

// writeInto puts the text between the lines in a document.
func (p part) writeInto(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), p.begin)
	_, after, closed := strings.Cut(rest, p.end)
	if !found || !closed {
		return fmt.Errorf("%s has no place for what was measured, between the lines\n%s%s", path, p.begin, p.end)
	}
	return os.WriteFile(path, []byte(before+p.begin+"\n"+text+"\n\n"+p.end+after), 0o644)
}
