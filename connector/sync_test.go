package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	batonsync "github.com/conductorone/baton-sdk/pkg/sync"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	"airlock/airflow/airflowtest"
	"airlock/connector/config"
	"airlock/connector/connectortest"
)

// withoutPermissions is --sync-permissions=false.
func withoutPermissions(cfg *config.Airflow) { cfg.SyncPermissions = false }

// raw leaves out the grants that follow from others: quick, and what a control
// plane asks for that expands them itself.
var raw = batonsync.WithDontExpandGrants()

// strict fails a sync that has a grant or an entitlement of something that isn't there.
var strict = batonsync.WithFailFastInvariants()

// ids are the ids of what a sync found.
type ids struct{ Resources, Entitlements, Grants []string }

func idsOf(found connectortest.Found) ids {
	return ids{keys(found.Resources), keys(found.Entitlements), keys(found.Grants)}
}

// expected are the ids that a sync without expansion must find, made from what
// the Airflow in memory holds. dags are the DAGs that it lists, nil where
// permissions aren't read.
func expected(t *testing.T, srv *airflowtest.Server, dags []string) ids {
	t.Helper()
	resources := map[string]bool{"instance:airflow": true}
	entitlements, grants := map[string]bool{}, map[string]bool{}
	actions := map[string][]string{
		"DAG:": {"can_read", "can_edit", "can_delete"}, "DAG Run:": {"can_read", "can_create", "can_edit", "can_delete", "menu_access"},
	}
	all := map[string]string{"DAG:": "DAGs", "DAG Run:": "DAG Runs"}
	slug := map[string]string{"DAG:": "", "DAG Run:": "run."}
	addDAG := func(id string) {
		resources["dag:"+id] = true
		for prefix := range actions {
			for _, action := range actions[prefix] {
				entitlements["dag:"+id+":"+slug[prefix]+action] = true
			}
		}
	}
	for _, u := range srv.Users() {
		resources["user:"+u.Username] = true
		for _, r := range u.Roles {
			grants["role:"+r+":assigned:user:"+u.Username] = true
		}
	}
	for _, r := range rolesOf(t, srv) {
		resources["role:"+r.Name] = true
		entitlements["role:"+r.Name+":assigned"] = true
		for _, p := range r.Permissions {
			entitlement := "resource:" + p.Resource + ":" + p.Action
			dag := ""
			for prefix := range actions {
				if id, ok := strings.CutPrefix(p.Resource, prefix); ok {
					dag, entitlement = id, "dag:"+id+":"+slug[prefix]+p.Action
				}
			}
			switch {
			case dags == nil:
				continue
			case dag != "":
				addDAG(dag)
			default:
				resources["resource:"+p.Resource] = true
			}
			entitlements[entitlement] = true
			grants[entitlement+":role:"+r.Name] = true
		}
	}
	if dags != nil {
		for prefix, name := range all {
			resources["resource:"+name] = true
			for _, action := range actions[prefix] {
				entitlements["resource:"+name+":"+action] = true
			}
		}
		for _, id := range dags {
			addDAG(id)
			for prefix, name := range all {
				for _, action := range actions[prefix] {
					grants["dag:"+id+":"+slug[prefix]+action+":resource:"+name] = true
				}
			}
		}
	}
	return ids{keys(resources), keys(entitlements), keys(grants)}
}

// rolesOf are all roles of an Airflow in memory.
func rolesOf(t *testing.T, srv *airflowtest.Server) []airflowtest.Role {
	t.Helper()
	names := slices.Clone(builtIn)
	for _, r := range airflowtest.Company().Roles {
		names = append(names, r.Name)
	}
	_, n, _ := srv.Totals()
	for i := range n {
		names = append(names, fmt.Sprintf("team-%04d", i))
	}
	var roles []airflowtest.Role
	for _, name := range names {
		if r, found := srv.Role(name); found {
			roles = append(roles, r)
		}
	}
	if len(roles) != n {
		t.Fatalf("%d roles are known here, and there are %d", len(roles), n)
	}
	return roles
}

// companyDAGs are the ids of the company's DAGs.
func companyDAGs() (ids []string) {
	for _, d := range airflowtest.Company().DAGs {
		ids = append(ids, d.ID)
	}
	return ids
}

// generatedDAGs are the ids of the first n generated DAGs.
func generatedDAGs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("dag-%05d", i)
	}
	return ids
}

func TestSyncFindsTheCompany(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	last := time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)
	created := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	eve, _ := srv.User("eve")
	eve.LastLogin, eve.Created, eve.Logins, eve.FailedLogins = last, created, 7, 2
	srv.PutUser(eve)
	ingrid, _ := srv.User("ingrid.solheim")
	ingrid.Created = created
	srv.PutUser(ingrid)
	r := newRig(t, srv)
	found := r.sync(t, strict)
	again := r.sync(t, strict)
	if diff := cmp.Diff(found, again, protocmp.Transform()); diff != "" {
		t.Errorf("two syncs differ (-first +second):\n%s", diff)
	}

	t.Run("ids", func(t *testing.T) {
		derived := func(_ string, g *v2.Grant) bool { return len(g.GetSources().GetSources()) > 0 && !isDirect(g) }
		direct := connectortest.Found{Resources: found.Resources, Entitlements: found.Entitlements, Grants: maps.Clone(found.Grants)}
		maps.DeleteFunc(direct.Grants, derived)
		if diff := cmp.Diff(expected(t, srv, companyDAGs()), idsOf(direct)); diff != "" {
			t.Errorf("(-expected +found):\n%s", diff)
		}
		for _, id := range []string{"role:Op:assigned:user:tomas.novak", "dag:payroll_close:can_edit:role:payroll-editor", "dag:payroll_close:run.can_create:role:payroll-editor", "resource:Connections:can_read:role:Op"} {
			if direct.Grants[id] == nil {
				t.Errorf("there is no grant %s", id)
			}
		}
	})
	t.Run("resources", func(t *testing.T) {
		op, _ := srv.Role("Op")
		for id, want := range map[string]string{
			"user:eve": `{
				"id": {"resourceType": "user", "resource": "eve"}, "displayName": "Eve Castellano", "createdAt": "2025-03-01T12:00:00Z",
				"status": {"status": "RESOURCE_STATUS_ENABLED"},
				"profile": {
					"username": "eve", "email": "eve.castellano@example.com", "first_name": "Eve", "last_name": "Castellano", "active": true,
					"login_count": 7, "failed_login_count": 2, "last_login": "2026-11-20T08:30:00Z", "created_on": "2025-03-01T12:00:00Z"
				},
				"annotations": [{
					"@type": "type.googleapis.com/c1.connector.v2.UserTrait", "login": "eve", "lastLogin": "2026-11-20T08:30:00Z",
					"emails": [{"address": "eve.castellano@example.com", "isPrimary": true}], "status": {"status": "STATUS_ENABLED"},
					"accountType": "ACCOUNT_TYPE_HUMAN", "structuredName": {"givenName": "Eve", "familyName": "Castellano"}
				}]
			}`,
			"user:ingrid.solheim": `{
				"id": {"resourceType": "user", "resource": "ingrid.solheim"}, "displayName": "Ingrid Solheim", "createdAt": "2025-03-01T12:00:00Z",
				"status": {"status": "RESOURCE_STATUS_DISABLED", "details": "switched off in Airflow"},
				"profile": {
					"username": "ingrid.solheim", "email": "ingrid.solheim@example.com", "first_name": "Ingrid", "last_name": "Solheim", "active": false,
					"login_count": 0, "failed_login_count": 0, "created_on": "2025-03-01T12:00:00Z"
				},
				"annotations": [{
					"@type": "type.googleapis.com/c1.connector.v2.UserTrait", "login": "ingrid.solheim",
					"emails": [{"address": "ingrid.solheim@example.com", "isPrimary": true}],
					"status": {"status": "STATUS_DISABLED", "details": "switched off in Airflow"},
					"accountType": "ACCOUNT_TYPE_HUMAN", "structuredName": {"givenName": "Ingrid", "familyName": "Solheim"}
				}]
			}`,
			"role:Op": `{
				"id": {"resourceType": "role", "resource": "Op"}, "displayName": "Op", "description": "One of the roles that every Airflow has",
				"profile": {"name": "Op", "built_in": true, "permission_count": ` + strconv.Itoa(len(op.Permissions)) + `},
				"annotations": [{"@type": "type.googleapis.com/c1.connector.v2.RoleTrait"}]
			}`,
			"role:payroll-editor": `{
				"id": {"resourceType": "role", "resource": "payroll-editor"}, "displayName": "payroll-editor", "description": "A role of this Airflow's own",
				"profile": {"name": "payroll-editor", "built_in": false, "permission_count": 9},
				"annotations": [{"@type": "type.googleapis.com/c1.connector.v2.RoleTrait"}]
			}`,
			"instance:airflow": `{
				"id": {"resourceType": "instance", "resource": "airflow"}, "displayName": "Airflow 3.3.2 at ` + srv.URL + `",
				"description": "Airflow 3.3.2, FAB 3.3 or later, bearer",
				"profile": {
					"base_url": "` + srv.URL + `", "airflow_version": "3.3.2", "fab_version": "3.3 or later", "credentials": "bearer",
					"users_total": 28, "roles_total": 15, "dags_total": 12
				},
				"annotations": [{"@type": "type.googleapis.com/c1.connector.v2.AppTrait"}]
			}`,
			"dag:route_optimizer": `{
				"id": {"resourceType": "dag", "resource": "route_optimizer"}, "displayName": "route_optimizer", "description": "Plans tomorrow's routes",
				"profile": {
					"dag_id": "route_optimizer", "owners": ["data-science", "operations"], "tags": ["fleet", "ml"],
					"paused": false, "stale": false, "listed": true
				}
			}`,
			"resource:Connections": `{"id": {"resourceType": "resource", "resource": "Connections"}, "displayName": "Connections"}`,
		} {
			r := &v2.Resource{}
			if err := protojson.Unmarshal([]byte(want), r); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			if diff := cmp.Diff(r, found.Resources[id], protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +found):\n%s", id, diff)
			}
		}
	})
	t.Run("the connector's own account", func(t *testing.T) {
		for id, want := range map[string]v2.UserTrait_AccountType{"airlock": v2.UserTrait_ACCOUNT_TYPE_SERVICE, "admin": v2.UserTrait_ACCOUNT_TYPE_HUMAN} {
			if trait, err := rs.GetUserTrait(found.Resources["user:"+id]); err != nil || trait.GetAccountType() != want {
				t.Errorf("%s is of the type %v, want %v", id, trait.GetAccountType(), want)
			}
		}
	})
	t.Run("entitlements", func(t *testing.T) {
		for id, want := range map[string]string{
			"role:Op:assigned": `{
				"id": "role:Op:assigned", "resource": {"id": {"resourceType": "role", "resource": "Op"}}, "slug": "assigned",
				"displayName": "Assigned", "description": "Has the role, and with it all that the role permits",
				"purpose": "PURPOSE_VALUE_ASSIGNMENT", "grantableTo": [{"id": "user"}]
			}`,
			"dag:payroll_close:run.can_create": `{
				"id": "dag:payroll_close:run.can_create", "resource": {"id": {"resourceType": "dag", "resource": "payroll_close"}},
				"slug": "run.can_create", "displayName": "create runs of the DAG", "description": "May create runs of the DAG; comes with roles",
				"purpose": "PURPOSE_VALUE_PERMISSION", "grantableTo": [{"id": "role"}, {"id": "user"}],
				"annotations": [{"@type": "type.googleapis.com/c1.connector.v2.EntitlementImmutable"}]
			}`,
			"resource:Connections:can_read": `{
				"id": "resource:Connections:can_read", "resource": {"id": {"resourceType": "resource", "resource": "Connections"}},
				"slug": "can_read", "displayName": "read Connections", "description": "May read Connections; comes with roles",
				"purpose": "PURPOSE_VALUE_PERMISSION", "grantableTo": [{"id": "role"}, {"id": "user"}],
				"annotations": [{"@type": "type.googleapis.com/c1.connector.v2.EntitlementImmutable"}]
			}`,
		} {
			e := &v2.Entitlement{}
			if err := protojson.Unmarshal([]byte(want), e); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			if diff := cmp.Diff(e, found.Entitlements[id], protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +found):\n%s", id, diff)
			}
		}
	})
	t.Run("who may do what", func(t *testing.T) {
		if diff := cmp.Diff([]string{
			"admin", "amara.okafor", "backup-runner", "ci-deployer", "grace.kim", "hannah.weiss", "ingrid.solheim", "kofi.mensah", "lucas.moreau",
			"noor.alfarsi", "omar.haddad", "priya.raman", "tomas.novak", "yuki.tanaka",
		}, found.Holders("dag:payroll_close:can_edit", "user")); diff != "" {
			t.Errorf("who can edit payroll_close (-the company's +found):\n%s", diff)
		}
		holders := map[string]map[string]bool{}
		for _, g := range found.Grants {
			if g.GetPrincipal().GetId().GetResourceType() == "user" {
				id := g.GetEntitlement().GetId()
				if holders[id] == nil {
					holders[id] = map[string]bool{}
				}
				holders[id][g.GetPrincipal().GetId().GetResource()] = true
			}
		}
		for id, e := range found.Entitlements {
			what := e.GetResource().GetId()
			permits := map[airflowtest.Permission]bool{}
			switch action, onRuns := strings.CutPrefix(e.GetSlug(), "run."); {
			case what.GetResourceType() == "role":
				continue // checked by its grants
			case what.GetResourceType() == "resource":
				permits[airflowtest.Permission{Action: action, Resource: what.GetResource()}] = true
			case onRuns:
				permits[airflowtest.Permission{Action: action, Resource: "DAG Runs"}] = true
				permits[airflowtest.Permission{Action: action, Resource: "DAG Run:" + what.GetResource()}] = true
			default:
				permits[airflowtest.Permission{Action: action, Resource: "DAGs"}] = true
				permits[airflowtest.Permission{Action: action, Resource: "DAG:" + what.GetResource()}] = true
			}
			want := map[string]bool{}
			for _, u := range srv.Users() {
				for _, name := range u.Roles {
					r, _ := srv.Role(name)
					if slices.ContainsFunc(r.Permissions, func(p airflowtest.Permission) bool { return permits[p] }) {
						want[u.Username] = true
					}
				}
			}
			if diff := cmp.Diff(keys(want), keys(holders[id])); diff != "" {
				t.Errorf("who has %s (-Airflow's roles +found):\n%s", id, diff)
			}
		}
	})
	t.Run("nothing dangles", func(t *testing.T) {
		for id, e := range found.Entitlements {
			if r := e.GetResource().GetId(); found.Resources[r.GetResourceType()+":"+r.GetResource()] == nil {
				t.Errorf("entitlement %s is on nothing", id)
			}
		}
		for id, g := range found.Grants {
			if p := g.GetPrincipal().GetId(); found.Resources[p.GetResourceType()+":"+p.GetResource()] == nil || found.Entitlements[g.GetEntitlement().GetId()] == nil {
				t.Errorf("grant %s is of nothing, or to nobody", id)
			}
		}
	})
}

// isDirect reports whether a grant is there by itself, and not only because of others.
func isDirect(g *v2.Grant) bool {
	return g.GetSources().GetSources()[g.GetEntitlement().GetId()] != nil
}

func TestSyncOfEveryRelease(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile, Path: "/airflow"})
			found := newRig(t, srv).sync(t, raw, strict)
			if diff := cmp.Diff(expected(t, srv, companyDAGs()), idsOf(found)); diff != "" {
				t.Errorf("(-expected +found):\n%s", diff)
			}
		})
	}
}

func TestSyncWithoutPermissions(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	// Not even the right to read DAGs is needed.
	srv.PutRole("airlock-connector", airflowtest.Permissions("can_read Users", "can_read Roles")...)
	found := newRig(t, srv, withoutPermissions).sync(t, strict)
	if diff := cmp.Diff(expected(t, srv, nil), idsOf(found)); diff != "" {
		t.Errorf("(-expected +found):\n%s", diff)
	}
	// Neither are they asked for, nor the account's rights on them: by Validate alone.
	if n := srv.Count("GET /api/v2/dags") + srv.Count("GET /auth/fab/v1/users/{username}") - 1; n != 0 {
		t.Errorf("%d requests are about DAGs", n)
	}
	if profile := found.Resources["instance:airflow"].GetProfile().AsMap(); profile["dags_total"] != nil || profile["users_total"] != 28.0 {
		t.Errorf("the instance tells %v", profile)
	}
}

// A DAG that Airflow doesn't list any more still is what roles have permissions on.
func TestSyncShowsDAGsThatAreGone(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	srv.DeleteDAG("payroll_close")
	srv.PutDAG(airflowtest.DAG{ID: "old_report", Stale: true})
	srv.PutRole("auditor", airflowtest.Permissions("can_read DAG:payroll_close", "can_write DAG:payroll_close", "can_read DAG:", "can_read DAG Run:fleet_telemetry")...)
	srv.PutUser(airflowtest.User{Username: "airlock", Password: "airlock-of-the-test", Roles: []string{"airlock-connector"}, Active: true})
	found := newRig(t, srv).sync(t, raw, strict)
	profile := func(id string) map[string]any { return found.Resources["dag:"+id].GetProfile().AsMap() }
	if p := profile("payroll_close"); p["listed"] != false || p["stale"] != true {
		t.Errorf("payroll_close, which Airflow doesn't list: %v", p)
	}
	if p := profile("old_report"); p["listed"] != true || p["stale"] != true {
		t.Errorf("old_report, whose file is gone: %v", p)
	}
	for _, id := range []string{
		"dag:payroll_close:can_edit:role:payroll-editor", "dag:payroll_close:can_write:role:auditor",
		"dag:fleet_telemetry:run.can_read:role:auditor", "resource:DAG::can_read:role:auditor", "dag:old_report:can_edit:resource:DAGs",
	} {
		if found.Grants[id] == nil {
			t.Errorf("there is no grant %s", id)
		}
	}
	if found.Grants["dag:payroll_close:can_edit:resource:DAGs"] != nil {
		t.Error("who may edit all DAGs is said to edit one that isn't there")
	}
}

// limit is how many requests a sync may cost.
func limit(users, roles, dags, page int) int {
	pages := func(n int) int { return (n + page - 1) / page }
	return pages(users) + pages(roles) + pages(dags) + 5
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, n := range []struct{ users, roles, dags, want int }{
		{users: 1, roles: 5, dags: 0, want: 1 + 1 + 1},
		{users: 100, roles: 100, dags: 100, want: 1 + 1 + 1},
		{users: 101, roles: 5, dags: 101, want: 2 + 1 + 2},
		{users: 199, roles: 101, dags: 1, want: 2 + 2 + 1},
		{users: 1000, roles: 50, dags: 300, want: 11 + 1 + 4},
	} {
		t.Run(fmt.Sprintf("%d users, %d roles, %d DAGs", n.users, n.roles, n.dags), func(t *testing.T) {
			t.Parallel()
			srv := airflowtest.Start(t, airflowtest.Options{})
			srv.Generate(airflowtest.Scale{Users: n.users - 1, Roles: n.roles - 5, DAGs: n.dags})
			r := newRig(t, srv)
			validate := func() int {
				before := srv.Count()
				if _, err := r.Connector.Validate(t.Context()); err != nil {
					t.Fatal(err)
				}
				return srv.Count() - before
			}
			validate() // signs in
			cost := validate()
			before := srv.Count()
			found := r.sync(t, raw)
			if got := len(found.Of("user")) + len(found.Of("role")); got != n.users+n.roles {
				t.Errorf("%d users and roles were found", got)
			}
			// The account and its one role are looked at, for the right to read all DAGs.
			got := srv.Count() - before - cost
			if want := n.want + 2; got != want {
				t.Errorf("a sync costs %d requests, want %d", got, want)
			}
			if most := limit(n.users, n.roles, n.dags, 99); got > most {
				t.Errorf("a sync costs %d requests, more than %d", got, most)
			}
			if most := limit(n.users, n.roles, n.dags, 100); n.users == 1000 && got > most {
				t.Errorf("a sync costs %d requests, more than %d", got, most)
			}
			if signIns := srv.Count("POST /auth/token"); signIns != 1 {
				t.Errorf("it signed in %d times", signIns)
			}
		})
	}
}

func TestSyncWhateverTheSessionForgets(t *testing.T) {
	t.Parallel()
	srv := airflowtest.New(airflowtest.Options{})
	srv.Generate(airflowtest.Scale{Users: 1150, Roles: 110, DAGs: 110})
	// ask is all that a sync asks for, and how many requests that takes.
	ask := func(t *testing.T, change func(*memory)) (ids, int) {
		t.Helper()
		b := newBare(t, srv)
		change(b.session)
		before := srv.Count()
		found, err := b.listAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found, srv.Count() - before
	}
	want, requests := ask(t, func(*memory) {})
	for name, change := range map[string]func(*memory){
		"everything":    func(m *memory) { m.lose = func(string) bool { return true } },
		"with an error": func(m *memory) { m.fails = errors.New("the session is out of order") },
		"some": func(m *memory) {
			n := 0
			m.lose = func(string) bool { n++; return n%2 == 0 }
		},
		"users": func(m *memory) { m.lose = func(key string) bool { return strings.HasPrefix(key, "users") } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, n := ask(t, change)
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("(-with a session +without):\n%s", diff)
			}
			if n <= requests {
				t.Errorf("it took %d requests, with a session %d", n, requests)
			}
		})
	}
}

func TestSyncWithManyWorkers(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(string) bool{"a session": nil, "no session": func(string) bool { return true }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := airflowtest.Start(t, airflowtest.Options{})
			srv.Generate(airflowtest.Scale{Users: 610, Roles: 110, DAGs: 110})
			r := newRig(t, srv)
			r.session.lose = lose
			found := r.sync(t, raw, strict, batonsync.WithWorkerCount(4))
			if diff := cmp.Diff(expected(t, srv, generatedDAGs(110)), idsOf(found)); diff != "" {
				t.Errorf("(-expected +found):\n%s", diff)
			}
			// Workers that need a page at the same moment may both read it.
			if n := srv.Count("GET /auth/fab/v1/users", "GET /auth/fab/v1/roles", "GET /api/v2/dags"); lose == nil && n > 7+2*2+2*2 {
				t.Errorf("it read %d pages", n)
			}
		})
	}
}

// A sync that can't read a whole list fails, and leaves no finished sync.
func TestSyncFailsWithoutAWholeList(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/auth/fab/v1/users", "/auth/fab/v1/roles", "/api/v2/dags"} {
		for _, page := range []int{1, 2} {
			for name, fault := range map[string]struct {
				act  airflowtest.Act
				want codes.Code
			}{
				"404":         {airflowtest.Answer(http.StatusNotFound, "application/json", `{"detail":"Not Found"}`), codes.FailedPrecondition},
				"500 forever": {airflowtest.Status(http.StatusInternalServerError), codes.Canceled},
			} {
				t.Run(fmt.Sprintf("%s, page %d, %s", path, page, name), func(t *testing.T) {
					t.Parallel()
					srv := airflowtest.Start(t, airflowtest.Options{})
					srv.Generate(airflowtest.Scale{Users: 110, Roles: 110, DAGs: 110})
					r := newRig(t, srv)
					if _, err := r.Connector.Validate(t.Context()); err != nil {
						t.Fatal(err)
					}
					srv.Inject(airflowtest.Fault{Method: http.MethodGet, Path: path, Skip: page - 1, Times: -1, Act: fault.act})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					failures := 0
					srv.After(func(q airflowtest.Request) {
						if q.Status != http.StatusInternalServerError {
							return
						}
						if failures++; failures == 2 {
							cancel() // the SDK tries for ever
						}
					})
					file := filepath.Join(t.TempDir(), "sync.c1z")
					err := r.syncTo(ctx, t, file, raw)
					if status.Code(err) != fault.want && !(fault.want == codes.Canceled && errors.Is(err, context.Canceled)) {
						t.Errorf("the sync ended with %v, want %v", err, fault.want)
					}
					if _, err := connectortest.Read(t.Context(), file); err == nil || !strings.Contains(err.Error(), "no finished sync") {
						t.Errorf("there is a finished sync, or none can be told: %v", err)
					}
				})
			}
		}
	}
}

// The list moves while it is read: who was there all the while is found, with every role.
func TestSyncOfListsThatMove(t *testing.T) {
	t.Parallel()
	srv := airflowtest.Start(t, airflowtest.Options{})
	srv.Generate(airflowtest.Scale{Users: 700, Roles: 250, DAGs: 250})
	before := map[string]bool{}
	for _, u := range srv.Users() {
		before[u.Username] = true
	}
	rolesBefore := rolesOf(t, srv)
	pages := map[string]int{}
	srv.Before(func(q airflowtest.Request) {
		if q.Method != http.MethodGet {
			return
		}
		pages[q.Path]++
		switch n := pages[q.Path]; q.Path {
		case "/auth/fab/v1/users":
			switch n {
			case 2: // from the first page, so that the second moves up
				for i := range 60 {
					srv.DeleteUser(fmt.Sprintf("user-%06d", i))
				}
			case 4: // all that was read and more
				for i := 60; i < 400; i++ {
					srv.DeleteUser(fmt.Sprintf("user-%06d", i))
				}
				srv.PutUser(airflowtest.User{Username: "newcomer", Roles: []string{"Op"}, Active: true})
			}
		case "/auth/fab/v1/roles":
			if n == 2 {
				srv.DeleteRole("team-0000")
				srv.DeleteRole("team-0001")
				srv.PutRole("newest")
			}
		case "/api/v2/dags":
			switch n {
			case 2: // by id, so new ones push the others on
				for i := range 30 {
					srv.PutDAG(airflowtest.DAG{ID: fmt.Sprintf("a-new-one-%02d", i)})
				}
			case 3:
				for i := range 150 {
					srv.DeleteDAG(fmt.Sprintf("dag-%05d", i))
				}
			}
		}
	})
	found := newRig(t, srv).sync(t, raw)
	for _, u := range srv.Users() {
		if !before[u.Username] {
			continue
		}
		if found.Resources["user:"+u.Username] == nil {
			t.Errorf("%s was there all the while, and wasn't found", u.Username)
		}
		for _, r := range u.Roles {
			if found.Grants["role:"+r+":assigned:user:"+u.Username] == nil {
				t.Errorf("%s had %s all the while, and it wasn't found", u.Username, r)
			}
		}
	}
	for _, r := range rolesBefore {
		if _, still := srv.Role(r.Name); still && found.Resources["role:"+r.Name] == nil {
			t.Errorf("the role %s was there all the while, and wasn't found", r.Name)
		}
	}
	for _, id := range generatedDAGs(250)[150:] {
		if found.Grants["dag:"+id+":can_read:resource:DAGs"] == nil {
			t.Errorf("the DAG %s was there all the while, and wasn't found", id)
		}
	}
}

func TestSyncThroughTrouble(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]struct {
		act     func(srv *airflowtest.Server) airflowtest.Act
		signIns int
	}{
		"the token expires":    {func(srv *airflowtest.Server) airflowtest.Act { return before(srv.ExpireTokens) }, 2},
		"the token is revoked": {func(srv *airflowtest.Server) airflowtest.Act { return before(srv.RevokeTokens) }, 2},
		"a reset":              {func(*airflowtest.Server) airflowtest.Act { return airflowtest.Reset() }, 1},
		"a reset in the body":  {func(*airflowtest.Server) airflowtest.Act { return airflowtest.ResetMidBody() }, 1},
		"half an answer":       {func(*airflowtest.Server) airflowtest.Act { return airflowtest.Truncate() }, 1},
		"a proxy's 502":        {func(*airflowtest.Server) airflowtest.Act { return airflowtest.Status(http.StatusBadGateway) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := airflowtest.Start(t, airflowtest.Options{})
			srv.Generate(airflowtest.Scale{Users: 130, Roles: 3, DAGs: 3})
			srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: 1, Act: trouble.act(srv)})
			found := newRig(t, srv).sync(t, raw, strict)
			if diff := cmp.Diff(expected(t, srv, generatedDAGs(3)), idsOf(found)); diff != "" {
				t.Errorf("(-expected +found):\n%s", diff)
			}
			if n := srv.Count("POST /auth/token"); n != trouble.signIns {
				t.Errorf("it signed in %d times, want %d", n, trouble.signIns)
			}
		})
	}
}

// before does something, then answers.
func before(do func()) airflowtest.Act {
	return func(w http.ResponseWriter, r *http.Request, api http.Handler) {
		do()
		api.ServeHTTP(w, r)
	}
}

func TestSyncThroughARestart(t *testing.T) {
	t.Parallel()
	srv := airflowtest.Start(t, airflowtest.Options{})
	srv.Generate(airflowtest.Scale{Users: 130, Roles: 3, DAGs: 3})
	hold := airflowtest.NewHold()
	srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/users", Skip: 1, Act: hold.Act})
	r := newRig(t, srv)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		<-hold.Entered()
		srv.Close() // with the request unanswered
		srv.Listen()
	}()
	found := r.sync(t, raw, strict)
	<-restarted
	if diff := cmp.Diff(expected(t, srv, generatedDAGs(3)), idsOf(found)); diff != "" {
		t.Errorf("(-expected +found):\n%s", diff)
	}
}

// An account that may read some DAGs is given a shorter list, without a word.
func TestSyncWithRightsOnSomeDAGs(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{CacheTTL: -1})
	some := airflowtest.Permissions("can_read Users", "can_read Roles", "can_read DAG:payroll_close")
	all := airflowtest.Permissions("can_read Users", "can_read Roles", "can_read DAGs")
	check := func(t *testing.T, err error) {
		t.Helper()
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "can_read on DAGs") || !strings.Contains(err.Error(), "--sync-permissions") {
			t.Errorf("it says %v", err)
		}
	}
	for name, rights := range map[string][]airflowtest.Permission{"some": some, "none": some[:2]} {
		t.Run(name, func(t *testing.T) {
			srv.PutRole("airlock-connector", rights...)
			check(t, newRig(t, srv).syncTo(t.Context(), t, filepath.Join(t.TempDir(), "sync.c1z"), raw))
		})
	}
	t.Run("from the middle of a sync on", func(t *testing.T) {
		srv.PutRole("airlock-connector", all...)
		lose := func() { srv.PutRole("airlock-connector", some...) }
		srv.Inject(airflowtest.Fault{Path: "/auth/fab/v1/roles", Act: before(lose)})
		file := filepath.Join(t.TempDir(), "sync.c1z")
		check(t, newRig(t, srv).syncTo(t.Context(), t, file, raw))
		if _, err := connectortest.Read(t.Context(), file); err == nil {
			t.Error("there is a finished sync")
		}
	})
}

func TestTargetedSync(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	target := func(kind, name string) *v2.Resource {
		return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: name}.Build()}.Build()
	}
	found := newRig(t, srv).sync(t, batonsync.WithTargetedSyncResources([]*v2.Resource{
		target("user", "eve"), target("role", "Op"), target("user", "EVE"), target("user", "nobody"), target("role", "op"),
	}))
	want := []string{"role:Op", "user:eve"}
	if diff := cmp.Diff(want, keys(found.Resources)); diff != "" {
		t.Errorf("(-want +found):\n%s", diff)
	}
}
