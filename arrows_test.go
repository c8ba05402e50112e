// Package airlock holds the tests of the repository as a whole: who imports
// whom, and that the documents tell the truth.
package airlock

import (
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The floors of internal/, lowest first. A package imports those of its own
// floor and below; on the domain's floor only those before it in the list.
// Folders below one of these belong to it.
var floors = [][]string{
	base:   {"base/apt", "base/clock", "base/db", "base/fault", "base/id", "base/job", "base/live", "base/seal", "base/trace"},
	domain: {"audit", "identity", "inventory", "integration", "ingest", "policy", "provision", "task", "review", "insight", "notify", "report"},
	edge:   {"edge/token", "edge/baton", "edge/admin", "edge/api", "edge/web"},
	server: {"server"},
}

const (
	base = iota
	domain
	edge
	server
)

// imports is one package and what its code, tests apart, imports.
type imports struct {
	ImportPath string
	Imports    []string
}

func TestArrows(t *testing.T) {
	list := packages(t)
	if !slices.ContainsFunc(list, func(p imports) bool { return p.ImportPath == "airlock/airflow" }) {
		t.Error("the list of packages has no airlock/airflow: it isn't of this module")
	}
	for _, problem := range wrongArrows(list) {
		t.Error(problem)
	}
}

// packages reads what the packages of this module import. It reads the files
// itself, whatever they are built for, so that the test cache knows of them.
func packages(t *testing.T) []imports {
	t.Helper()
	names := files(t)
	byPath := map[string][]string{}
	for _, name := range names {
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || otherModule(names, name) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		from := path.Join("airlock", path.Dir(name))
		if _, seen := byPath[from]; !seen {
			byPath[from] = nil // a package that imports nothing is one too
		}
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			byPath[from] = append(byPath[from], to)
		}
	}
	var list []imports
	for _, from := range slices.Sorted(maps.Keys(byPath)) {
		slices.Sort(byPath[from])
		list = append(list, imports{from, slices.Compact(byPath[from])})
	}
	return list
}

// otherModule reports whether a folder above the file has a go.mod of its own.
func otherModule(names []string, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if slices.Contains(names, dir+"/go.mod") {
			return true
		}
	}
	return false
}

// wrongArrows says of each import that points the wrong way why it does, and
// which packages of internal/ have no place in the table.
func wrongArrows(list []imports) []string {
	var problems []string
	for _, p := range list {
		if _, _, ok := place(p.ImportPath); !ok && within(p.ImportPath, "airlock/internal") {
			problems = append(problems, p.ImportPath+" has no place in the table of floors")
		}
		for _, to := range p.Imports {
			if why := wrong(p.ImportPath, to); why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", p.ImportPath, to, why))
			}
		}
	}
	return problems
}

// wrong says why from must not import to, or nothing if it may.
func wrong(from, to string) string {
	const double = "airlock/airflow/airflowtest"
	switch {
	case within(from, double) && to == "github.com/google/go-cmp/cmp":
		return ""
	case within(from, "airlock/airflow"):
		if !standard(to) && !within(to, "airlock/airflow") {
			return "the client lives on the standard library alone"
		}
	case within(from, "airlock/connector"):
		if within(to, "airlock/internal") {
			return "the connector knows nothing of the server"
		}
	case within(from, "airlock/internal"):
		if within(to, "airlock/airflow") || within(to, "airlock/connector") {
			return "the server knows connectors by their protocol alone"
		}
	}
	if within(to, double) && !within(from, double) &&
		(within(from, "airlock/airflow") || within(from, "airlock/connector") || within(from, "airlock/cmd")) {
		return "the in-memory Airflow is for tests, demo and bench"
	}

	fromFloor, fromRank, ok := place(from)
	toFloor, toRank, known := place(to)
	switch {
	case !ok || !known:
		return ""
	case toFloor > fromFloor:
		return "it is on a floor above"
	case fromFloor == domain && toFloor == domain && toRank > fromRank:
		return "it comes later in the domain"
	}
	return ""
}

// place finds the floor of a package of internal/ and its rank there.
func place(path string) (floor, rank int, ok bool) {
	for floor, names := range floors {
		rank := slices.IndexFunc(names, func(name string) bool { return within(path, "airlock/internal/"+name) })
		if rank >= 0 {
			return floor, rank, true
		}
	}
	return 0, 0, false
}

// within reports whether path is root or below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// standard reports whether a package is of Go's standard library: the first
// element of all others is a host's name, or this module's.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first != "airlock" && !strings.Contains(first, ".")
}

func TestWrongArrowsAreFound(t *testing.T) {
	got := wrongArrows([]imports{
		{"airlock/airflow", []string{"net/http", "airlock/airflow/wire"}},
		{"airlock/airflow", []string{"airlock/connector"}},
		{"airlock/airflow", []string{"airlock/internal/base/fault"}},
		{"airlock/airflow", []string{"github.com/conductorone/baton-sdk/pkg/uhttp"}},
		{"airlock/airflow", []string{"airlock/airflow/airflowtest"}},
		{"airlock/airflow/airflowtest", []string{"airlock/airflow", "github.com/google/go-cmp/cmp"}},
		{"airlock/connector/config", []string{"github.com/conductorone/baton-sdk/pkg/field"}},
		{"airlock/connector", []string{"airlock/airflow", "airlock/internal/base/fault"}},
		{"airlock/connector", []string{"airlock/airflow/airflowtest"}},
		{"airlock/demo", []string{"airlock/airflow/airflowtest", "airlock/connector"}},
		{"airlock/internal/task", []string{"airlock/internal/base/db", "airlock/internal/policy", "airlock/internal/task/state"}},
		{"airlock/internal/task", []string{"airlock/internal/review"}},
		{"airlock/internal/task", []string{"airlock/internal/edge/web"}},
		{"airlock/internal/task/state", []string{"airlock/internal/report"}},
		{"airlock/internal/base/db/dbtest", []string{"airlock/internal/base/db", "airlock/internal/audit"}},
		{"airlock/internal/edge/api", []string{"airlock/internal/edge/token", "airlock/internal/task"}},
		{"airlock/internal/edge/web/view", []string{"airlock/internal/server"}},
		{"airlock/internal/server", []string{"airlock/internal/edge/web", "airlock/connector"}},
		{"airlock/internal/util", []string{"strings"}},
	})
	want := []string{
		"airlock/airflow imports airlock/connector: the client lives on the standard library alone",
		"airlock/airflow imports airlock/internal/base/fault: the client lives on the standard library alone",
		"airlock/airflow imports github.com/conductorone/baton-sdk/pkg/uhttp: the client lives on the standard library alone",
		"airlock/airflow imports airlock/airflow/airflowtest: the in-memory Airflow is for tests, demo and bench",
		"airlock/connector imports airlock/internal/base/fault: the connector knows nothing of the server",
		"airlock/connector imports airlock/airflow/airflowtest: the in-memory Airflow is for tests, demo and bench",
		"airlock/internal/task imports airlock/internal/review: it comes later in the domain",
		"airlock/internal/task imports airlock/internal/edge/web: it is on a floor above",
		"airlock/internal/task/state imports airlock/internal/report: it comes later in the domain",
		"airlock/internal/base/db/dbtest imports airlock/internal/audit: it is on a floor above",
		"airlock/internal/edge/web/view imports airlock/internal/server: it is on a floor above",
		"airlock/internal/server imports airlock/connector: the server knows connectors by their protocol alone",
		"airlock/internal/util has no place in the table of floors",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("wrong arrows (-want +got):\n" + diff)
	}
}
