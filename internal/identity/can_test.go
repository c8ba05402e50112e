package identity

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestWhoMayDoWhat compares the whole table of role × action × kind with the one
// that was agreed on.
func TestWhoMayDoWhat(t *testing.T) {
	var out strings.Builder
	fmt.Fprintf(&out, "%-12s %-14s", "kind", "action")
	for role := range AllRoles().Each() {
		fmt.Fprintf(&out, " %-18s", role)
	}
	out.WriteString("\n")
	for _, r := range rules {
		fmt.Fprintf(&out, "%-12s %-14s", r.kind, r.action)
		for role := range AllRoles().Each() {
			actor := PersonActor("me", "Me", role)
			var may []string
			for _, on := range []struct {
				name   string
				object Object
			}{
				{"any", Object{Kind: r.kind, ID: "x", AppID: "a", OwnerIDs: []string{"them"}, SubjectID: "them"}},
				{"owned", Object{Kind: r.kind, ID: "x", AppID: "a", OwnerIDs: []string{"them", "me"}, SubjectID: "them"}},
				{"own", Object{Kind: r.kind, ID: "x", AppID: "a", OwnerIDs: []string{"me"}, SubjectID: "me"}},
			} {
				if Can(actor, r.action, on.object) == nil {
					may = append(may, on.name)
				}
			}
			if len(may) == 0 {
				may = []string{"-"}
			}
			fmt.Fprintf(&out, " %-18s", strings.Join(may, "+"))
		}
		out.WriteString("\n")
	}
	got := strings.ReplaceAll(out.String(), " \n", "\n")
	for strings.Contains(got, " \n") {
		got = strings.ReplaceAll(got, " \n", "\n")
	}
	const golden = "testdata/roles.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("who may do what has changed; if that is meant, run the test with -update (-agreed +now):\n%s", diff)
	}
}

func TestNobodyDecidesOnTheirOwnAccess(t *testing.T) {
	everything := PersonActor("me", "Me", AllRoles())
	for _, r := range rules {
		mine := Object{Kind: r.kind, ID: "x", AppID: "a", OwnerIDs: []string{"me"}, SubjectID: "me"}
		err := Can(everything, r.action, mine)
		if r.action == Change && (err == nil || !strings.Contains(err.Error(), "own access")) {
			t.Errorf("%s %s of oneself: %v", r.action, r.kind, err)
		}
	}
	for _, object := range []Object{{Kind: kindRole, SubjectID: "me"}, {Kind: "account", AppID: "a", SubjectID: "me"}} {
		if err := Can(everything, Manage, object); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%+v: %v", object, err)
		}
	}
}

func TestAnAuditorChangesNothing(t *testing.T) {
	auditor := PersonActor("me", "Me", Auditor)
	for _, r := range rules {
		err := Can(auditor, r.action, Object{Kind: r.kind, AppID: "a", OwnerIDs: []string{"me"}, SubjectID: "them"})
		if want := r.action == Read && r.kind != "backup"; (err == nil) != want {
			t.Errorf("%s %s: %v", r.action, r.kind, err)
		}
	}
}

func TestOnlyPeopleHaveRoles(t *testing.T) {
	for _, actor := range []Actor{
		{Kind: KindVisitor, ID: "1.2.3.4", Roles: uint16(AllRoles())},
		{Kind: KindConnector, ID: "c", Roles: uint16(AllRoles())},
		{Kind: "client", ID: "c", Roles: uint16(AllRoles())},
		{Kind: KindPerson, Roles: uint16(AllRoles())},
		{},
	} {
		for _, r := range rules {
			if err := Can(actor, r.action, Object{Kind: r.kind, ID: "c", OwnerIDs: []string{actor.ID}, SubjectID: actor.ID}); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%+v %s %s: %v", actor, r.action, r.kind, err)
			}
		}
	}
	if Can(Operator(), Manage, Object{Kind: "unheard of"}) != nil || Can(PersonActor("p", "", AllRoles()), Read, Object{Kind: "unheard of"}) == nil {
		t.Error("what has no row")
	}
}

func TestOwnersAreAskedForWhereItDependsOnThem(t *testing.T) {
	asked := 0
	owners := func(_ context.Context, appID string) ([]string, error) {
		asked++
		if appID == "broken" {
			return nil, errors.New("no database")
		}
		return []string{"me"}, nil
	}
	mine := Object{Kind: "account", ID: "x", AppID: "a"}
	for _, test := range []struct {
		roles      Roles
		object     Object
		may, asked bool
	}{
		{SuperAdmin | ApplicationAdmin, mine, true, false},
		{Auditor, mine, false, false},
		{ApplicationAdmin, mine, true, true},
		{ApplicationAdmin, Object{Kind: "account"}, false, false},
		{ApplicationAdmin, Object{Kind: "account", AppID: "broken"}, false, true},
	} {
		asked = 0
		err := CanOwned(t.Context(), PersonActor("me", "Me", test.roles), Manage, test.object, owners)
		if (err == nil) != test.may || (asked > 0) != test.asked {
			t.Errorf("%s on %+v: %v, asked %d times", test.roles, test.object, err, asked)
		}
	}
	if !OnlyOwned(PersonActor("me", "", ApplicationAdmin), "app") || OnlyOwned(PersonActor("me", "", ApplicationAdmin|Auditor), "app") ||
		OnlyOwned(PersonActor("me", "", User), "app") || OnlyOwned(PersonActor("me", "", ApplicationAdmin), "audit") {
		t.Error("lists of what one owns")
	}
}

// TestEveryQuestionHasARow reads the sources for the kinds and actions that
// services ask about: one without a row would be the operator's alone, unnoticed.
func TestEveryQuestionHasARow(t *testing.T) {
	known := map[string]bool{"administrator " + string(Manage): true} // the operator's alone
	for _, r := range rules {
		known[r.kind+" "+string(r.action)] = true
	}
	asked := map[string][]string{}
	err := filepath.WalkDir("..", func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return readQuestions(t, dir, asked)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) < 10 {
		t.Errorf("only %d kinds of question were found", len(asked))
	}
	for question, places := range asked {
		if !known[question] {
			t.Errorf("%q is asked at %s and has no row in rules (actor.go)", question, strings.Join(places, ", "))
		}
	}
}

// source is a package of ours while its questions are read.
type source struct {
	inside bool // of package identity
	files  *token.FileSet
	consts map[string]string
	bodies map[string]*ast.FuncDecl
}

func readQuestions(t *testing.T, dir string, asked map[string][]string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	p := source{files: token.NewFileSet(), consts: map[string]string{}, bodies: map[string]*ast.FuncDecl{}}
	var functions []*ast.FuncDecl
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(p.files, path, nil, 0)
		if err != nil {
			return nil //nolint:nilerr // the compiler says so better
		}
		p.inside = file.Name.Name == "identity"
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if !strings.HasSuffix(path, "identity/actor.go") { // which answers
					functions = append(functions, d)
				}
				p.bodies[d.Name.Name] = d
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					values, ok := spec.(*ast.ValueSpec)
					if !ok {
						continue
					}
					for n, name := range values.Names {
						if n < len(values.Values) {
							if text, ok := text(values.Values[n]); ok {
								p.consts[name.Name] = text
							}
						}
					}
				}
			}
		}
	}
	for _, function := range functions {
		ast.Inspect(function, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			for n, arg := range call.Args {
				action, ok := p.action(arg)
				if !ok || action == Serve {
					continue
				}
				var kinds []string
				if n+1 < len(call.Args) {
					if kind, ok := text(call.Args[n+1]); ok {
						kinds = []string{kind}
					} else {
						kinds = p.kinds(call.Args[n+1], function)
					}
				}
				if len(kinds) == 0 {
					kinds = p.kinds(call.Fun, nil)
				}
				if len(kinds) == 0 {
					kinds = p.given(function, functions)
				}
				place := p.files.Position(call.Pos())
				where := fmt.Sprintf("%s:%d", filepath.ToSlash(place.Filename), place.Line)
				if len(kinds) == 0 {
					t.Errorf("%s asks to %s something whose kind can't be read from the source", where, action)
				}
				for _, kind := range kinds {
					question := kind + " " + string(action)
					asked[question] = append(asked[question], where)
				}
			}
			return true
		})
	}
	return nil
}

// given are the kinds that a function asks about by a variable: those that it
// names, or that its callers pass.
func (p source) given(function *ast.FuncDecl, all []*ast.FuncDecl) (kinds []string) {
	look := func(node ast.Node) bool {
		if e, ok := node.(ast.Expr); ok {
			if kind, ok := text(e); ok && slices.ContainsFunc(rules, func(r rule) bool { return r.kind == kind }) && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		return true
	}
	ast.Inspect(function, look)
	for _, caller := range all {
		ast.Inspect(caller, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.SelectorExpr); ok && name.Sel.Name == function.Name.Name {
				for _, arg := range call.Args {
					ast.Inspect(arg, look)
				}
			}
			return true
		})
	}
	return kinds
}

func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

// action reads identity.Read and the like.
func (p source) action(e ast.Expr) (Action, bool) {
	name := ""
	switch e := e.(type) {
	case *ast.SelectorExpr:
		if from, ok := e.X.(*ast.Ident); ok && from.Name == "identity" {
			name = e.Sel.Name
		}
	case *ast.Ident:
		if p.inside {
			name = e.Name
		}
	}
	action, ok := map[string]Action{"Read": Read, "Manage": Manage, "Change": Change, "Serve": Serve}[name]
	return action, ok
}

// kinds are those of the objects that an expression is, or is made of.
func (p source) kinds(e ast.Expr, within *ast.FuncDecl) []string {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return p.literals(e)
	case *ast.CallExpr:
		return p.kinds(e.Fun, nil)
	case *ast.SelectorExpr:
		if body := p.bodies[e.Sel.Name]; body != nil {
			return p.literals(body)
		}
		return p.kinds(e.X, within)
	case *ast.Ident:
		if body := p.bodies[e.Name]; body != nil {
			return p.literals(body)
		}
		if within != nil {
			return p.literals(within)
		}
	}
	return nil
}

// literals are the kinds of all Object{Kind: …} in a piece of source.
func (p source) literals(node ast.Node) (kinds []string) {
	ast.Inspect(node, func(node ast.Node) bool {
		literal, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch of := literal.Type.(type) {
		case *ast.SelectorExpr:
			if from, ok := of.X.(*ast.Ident); !ok || from.Name != "identity" || of.Sel.Name != "Object" {
				return true
			}
		case *ast.Ident:
			if !p.inside || of.Name != "Object" {
				return true
			}
		default:
			return true
		}
		for _, element := range literal.Elts {
			pair, ok := element.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			if key, ok := pair.Key.(*ast.Ident); !ok || key.Name != "Kind" {
				continue
			}
			kind, ok := text(pair.Value)
			if name, isName := pair.Value.(*ast.Ident); isName {
				kind, ok = p.consts[name.Name]
			}
			if ok && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		return true
	})
	return kinds
}

func TestRolesAreKeptByName(t *testing.T) {
	for _, test := range []struct {
		roles       Roles
		name, title string
	}{
		{0, "", ""}, {Auditor, "auditor", "Auditor"}, {SuperAdmin | User, "super_admin,user", "Super Admin, User"},
	} {
		if test.roles.String() != test.name || test.roles.Title() != test.title {
			t.Errorf("%q, %q", test.roles.String(), test.roles.Title())
		}
		var back Roles
		if err := back.UnmarshalText([]byte(test.name)); err != nil || back != test.roles {
			t.Errorf("%q: %v, %v", test.name, back, err)
		}
	}
	for _, text := range []string{"Super Admin", "super-admin", " SUPER_ADMIN "} {
		if role, err := ParseRole(text); err != nil || role != SuperAdmin {
			t.Errorf("%q: %v, %v", text, role, err)
		}
	}
	for _, text := range []string{"", "root", "auditor,user"} {
		if _, err := ParseRole(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
