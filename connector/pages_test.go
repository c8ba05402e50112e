package connector

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"airlock/airflow/airflowtest"
)

// Whatever a list answers but the list, at whichever request of a sync, is an
// error with the right code: never NotFound, which the SDK skips, and never a
// shorter list.
func TestListsThatFail(t *testing.T) {
	t.Parallel()
	lists := map[string]string{"/auth/fab/v1/users": "users", "/auth/fab/v1/roles": "roles", "/api/v2/dags": "dags"}
	for path, name := range lists {
		for what, fault := range map[string]struct {
			act  airflowtest.Act
			want codes.Code
		}{
			"404":             {airflowtest.Answer(http.StatusNotFound, "application/json", `{"detail":"Not Found"}`), codes.FailedPrecondition},
			"a proxy's 404":   {airflowtest.Answer(http.StatusNotFound, "text/html", "<html><title>nginx</title></html>"), codes.FailedPrecondition},
			"a sign-in page":  {airflowtest.SignInPage(), codes.FailedPrecondition},
			"other JSON":      {airflowtest.Answer(http.StatusOK, "application/json", `{}`), codes.FailedPrecondition},
			"403":             {airflowtest.Answer(http.StatusForbidden, "application/json", `{"detail":"Forbidden"}`), codes.PermissionDenied},
			"401":             {airflowtest.ExpiredToken(), codes.Unauthenticated},
			"500":             {airflowtest.Status(http.StatusInternalServerError), codes.Unavailable},
			"429":             {airflowtest.TooManyRequests(time.Minute), codes.Unavailable},
			"half an answer":  {airflowtest.Truncate(), codes.Unavailable},
			"an empty list":   {airflowtest.Answer(http.StatusOK, "application/json", fmt.Sprintf(`{%q:[],"total_entries":110}`, name)), codes.Aborted},
			"what isn't said": {airflowtest.Answer(http.StatusOK, "application/json", fmt.Sprintf(`{%q:null,"total_entries":0}`, name)), codes.FailedPrecondition},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					srv := airflowtest.New(airflowtest.Options{})
					srv.Generate(airflowtest.Scale{Users: 109, Roles: 96, DAGs: 101})
					for request := 1; ; request++ {
						if request > 2 && what != "404" {
							return // the pages of the list itself are enough
						}
						b := newBare(t, srv)
						b.session.lose = func(string) bool { return true } // so that each phase asks
						srv.ClearFaults()
						srv.ResetLog()
						srv.Inject(airflowtest.Fault{Method: http.MethodGet, Path: path, Skip: request - 1, Times: -1, Act: fault.act})
						_, err := b.listAll(t.Context())
						if srv.Count("GET "+path) < request {
							if request < 3 {
								t.Errorf("a sync asks only %d times", request-1)
							}
							return
						}
						if status.Code(err) != fault.want {
							t.Errorf("request %d: %v, want %v", request, err, fault.want)
						}
					}
				})
			})
		}
	}
}

// A page that the session forgot is read again; where the list has moved
// meanwhile, those that are kept don't follow it any more.
func TestForgottenPagesOfAListThatMoved(t *testing.T) {
	t.Parallel()
	for _, moved := range []int{1, 30, 150} {
		for list, kinds := range map[string][2]string{"users": {"user", "role"}, "roles": {"role", "resource"}, "dags": {"dag", "dag"}} {
			t.Run(fmt.Sprintf("%s, %d less", list, moved), func(t *testing.T) {
				t.Parallel()
				for forgotten := 0; ; forgotten++ {
					srv := airflowtest.New(airflowtest.Options{})
					srv.Generate(airflowtest.Scale{Users: 350, Roles: 350, DAGs: 350})
					b := newBare(t, srv)
					b.users.atOnce = 0
					if _, err := b.list(t.Context(), "resources", kinds[0]); err != nil {
						t.Fatal(err)
					}
					var pages []string
					for key := range b.session.kept {
						if strings.HasPrefix(key, "sync/"+list+"/") {
							pages = append(pages, key)
						}
					}
					slices.Sort(pages)
					if forgotten == len(pages) {
						if forgotten < 4 {
							t.Errorf("there are only %d pages", forgotten)
						}
						return
					}
					delete(b.session.kept, pages[forgotten])
					b.users.first, b.roles.first, b.dags.first = nil, nil, nil // as after a restart
					for i := range moved {
						srv.DeleteUser(fmt.Sprintf("user-%06d", i))
						srv.DeleteRole(fmt.Sprintf("team-%04d", i))
						srv.DeleteDAG(fmt.Sprintf("dag-%05d", i))
					}
					found, err := b.list(t.Context(), "grants", kinds[1])
					if err != nil {
						t.Fatal(err)
					}
					var missing []string
					want := func(id string) {
						if _, ok := slices.BinarySearch(found, id); !ok {
							missing = append(missing, id)
						}
					}
					switch list {
					case "users":
						for _, u := range srv.Users() {
							want("role:" + u.Roles[0] + ":assigned:user:" + u.Username)
						}
					case "roles":
						for i := moved; i < 350; i++ {
							want(fmt.Sprintf("resource:Website:can_read:role:team-%04d", i))
						}
					case "dags":
						for i := moved; i < 350; i++ {
							want(fmt.Sprintf("dag:dag-%05d:can_edit:resource:DAGs", i))
						}
					}
					if missing != nil {
						t.Errorf("with page %q forgotten, %d grants are missing: %.3q", pages[forgotten], len(missing), missing)
					}
				}
			})
		}
	}
}

// A role that permits more than goes into one answer, and changes while it is
// handed out from a page that the session forgets.
func TestGrantsThatNeedManyAnswers(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{})
	var permissions []airflowtest.Permission
	for i := range 5000 {
		permissions = append(permissions, airflowtest.Permission{Action: "can_read", Resource: fmt.Sprintf("DAG:d%04d", i)})
	}
	srv.PutRole("wide", permissions...)
	for name, meanwhile := range map[string]func(b *bare){
		"kept": func(*bare) {},
		"forgotten": func(b *bare) {
			clear(b.session.kept)
			b.roles.first = nil
		},
		"forgotten and changed": func(b *bare) {
			clear(b.session.kept)
			b.roles.first = nil
			srv.PutRole("wide", permissions[10:]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv.PutRole("wide", permissions...)
			b := newBare(t, srv)
			found, answers, token := map[string]bool{}, 0, ""
			for {
				ids, next, err := b.ask(t.Context(), "grants", "dag", token)
				if err != nil {
					t.Fatal(err)
				}
				if len(ids) > grantsAtOnce {
					t.Errorf("an answer holds %d grants", len(ids))
				}
				for _, id := range ids {
					found[id] = true
				}
				answers++
				if answers == 1 {
					meanwhile(b)
				}
				if token = next; token == "" {
					break
				}
			}
			if answers < 4 {
				t.Errorf("it took only %d answers", answers)
			}
			for i := 10; i < 5000; i++ {
				if id := fmt.Sprintf("dag:d%04d:can_read:role:wide", i); !found[id] {
					t.Fatalf("%s was there all the while, and wasn't found", id)
				}
			}
		})
	}
}

func TestPageTokenOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b := newBare(t, airflowtest.New(airflowtest.Options{}))
	for _, step := range [][2]string{
		{"resources", "user"},
		{"resources", "role"},
		{"resources", "dag"},
		{"resources", "resource"},
		{"entitlements", "dag"},
		{"entitlements", "resource"},
		{"grants", "role"},
		{"grants", "dag"},
		{"grants", "resource"},
	} {
		if _, _, err := b.ask(t.Context(), step[0], step[1], "what?"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", step, err)
		}
	}
}

// Engines that don't know how to ask for a whole type ask for one resource after the other.
func TestListsOfOneResource(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{})
	srv.Load(airflowtest.Company())
	srv.PutRole("auditor", airflowtest.Permissions("can_write DAG:payroll_close")...)
	b := newBare(t, srv)
	of := func(kind, name string) *v2.Resource {
		return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: name}.Build()}.Build()
	}
	entitlements := func(r *v2.Resource) (ids []string) {
		answer, err := b.ListEntitlements(t.Context(), v2.EntitlementsServiceListEntitlementsRequest_builder{Resource: r}.Build())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range answer.GetList() {
			ids = append(ids, e.GetId())
		}
		slices.Sort(ids)
		return ids
	}
	grants := func(r *v2.Resource) (ids []string) {
		for token := ""; ; {
			answer, err := b.ListGrants(t.Context(), v2.GrantsServiceListGrantsRequest_builder{Resource: r, PageToken: token}.Build())
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range answer.GetList() {
				ids = append(ids, g.GetId())
			}
			if token = answer.GetNextPageToken(); token == "" {
				slices.Sort(ids)
				return ids
			}
		}
	}
	for _, test := range []struct {
		name      string
		got, want []string
	}{
		{"entitlements of a role", entitlements(of("role", "Op")), nil}, // static
		{"entitlements of a user", entitlements(of("user", "eve")), nil},
		{"entitlements of a DAG", entitlements(of("dag", "payroll_close")), []string{"dag:payroll_close:can_write"}},
		{"entitlements of a resource", entitlements(of("resource", "Jobs")), []string{"resource:Jobs:can_read", "resource:Jobs:menu_access"}},
		{"grants of a user", grants(of("user", "eve")), nil},
		{"grants of a role", grants(of("role", "ml-engineer")), []string{
			"role:ml-engineer:assigned:user:amara.okafor", "role:ml-engineer:assigned:user:lukasz.wojcik", "role:ml-engineer:assigned:user:mai.nguyen",
		}},
		{"grants of a DAG", grants(of("dag", "payroll_close")), []string{
			"dag:payroll_close:can_delete:resource:DAGs", "dag:payroll_close:can_edit:resource:DAGs", "dag:payroll_close:can_edit:role:payroll-editor",
			"dag:payroll_close:can_read:resource:DAGs", "dag:payroll_close:can_read:role:payroll-editor", "dag:payroll_close:can_write:role:auditor",
			"dag:payroll_close:run.can_create:resource:DAG Runs", "dag:payroll_close:run.can_create:role:payroll-editor",
			"dag:payroll_close:run.can_delete:resource:DAG Runs", "dag:payroll_close:run.can_edit:resource:DAG Runs",
			"dag:payroll_close:run.can_read:resource:DAG Runs", "dag:payroll_close:run.menu_access:resource:DAG Runs",
		}},
		{"grants of a resource", grants(of("resource", "Audit Logs")), []string{
			"resource:Audit Logs:can_read:role:Admin", "resource:Audit Logs:can_read:role:airlock-connector", "resource:Audit Logs:menu_access:role:Admin",
		}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s:\n%q, want\n%q", test.name, test.got, test.want)
		}
	}
}
