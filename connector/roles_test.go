package connector

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/airflow/airflowtest"
	"airlock/connector/config"
)

// resourceOf is a resource as a control plane sends it.
func resourceOf(kind, name string) *v2.Resource {
	return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind, Resource: name}.Build(), DisplayName: name}.Build()
}

// granter is what gives and takes roles: the connector behind gRPC, or without.
type granter interface {
	Grant(context.Context, *v2.Resource, *v2.Entitlement) ([]*v2.Grant, annotations.Annotations, error)
	Revoke(context.Context, *v2.Grant) (annotations.Annotations, error)
}

// overGRPC gives and takes roles through the SDK.
type overGRPC struct{ *rig }

func (o overGRPC) Grant(ctx context.Context, principal *v2.Resource, e *v2.Entitlement) ([]*v2.Grant, annotations.Annotations, error) {
	answer, err := o.ConnectorClient.Grant(ctx, v2.GrantManagerServiceGrantRequest_builder{Principal: principal, Entitlement: e}.Build())
	return answer.GetGrants(), answer.GetAnnotations(), err
}

func (o overGRPC) Revoke(ctx context.Context, g *v2.Grant) (annotations.Annotations, error) {
	answer, err := o.ConnectorClient.Revoke(ctx, v2.GrantManagerServiceRevokeRequest_builder{Grant: g}.Build())
	return answer.GetAnnotations(), err
}

func assignedTo(roleName string) *v2.Entitlement {
	return v2.Entitlement_builder{Id: "role:" + roleName + ":assigned", Slug: "assigned", Resource: resourceOf("role", roleName)}.Build()
}

// give gives a role, and tells whether the user had it.
func give(ctx context.Context, to granter, username, roleName string) (had bool, err error) {
	grants, annos, err := to.Grant(ctx, resourceOf("user", username), assignedTo(roleName))
	if err != nil {
		return false, err
	}
	if want := "role:" + roleName + ":assigned:user:" + username; len(grants) != 1 || grants[0].GetId() != want {
		return false, fmt.Errorf("the grants are %v, want %s", grants, want)
	}
	return annos.Contains(&v2.GrantAlreadyExists{}), nil
}

// take takes a role, and tells whether the user didn't have it.
func take(ctx context.Context, from granter, username, roleName string) (gone bool, err error) {
	annos, err := from.Revoke(ctx, v2.Grant_builder{
		Id: "role:" + roleName + ":assigned:user:" + username, Entitlement: assignedTo(roleName), Principal: resourceOf("user", username),
	}.Build())
	return annos.Contains(&v2.GrantAlreadyRevoked{}), err
}

func TestGrantAndRevoke(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile})
			r := overGRPC{newRig(t, srv)}
			for _, step := range []struct {
				do      func(context.Context, granter, string, string) (bool, error)
				already bool
				want    []string
			}{
				{give, false, []string{"Op", "Viewer"}},
				{give, true, []string{"Op", "Viewer"}},
				{take, false, []string{"Viewer"}},
				{take, true, []string{"Viewer"}},
				{give, false, []string{"Op", "Viewer"}},
			} {
				already, err := step.do(t.Context(), r, "eve", "Op")
				if err != nil || already != step.already {
					t.Errorf("already: %v, want %v, %v", already, step.already, err)
				}
				if diff := cmp.Diff(step.want, srv.Roles("eve")); diff != "" {
					t.Errorf("her roles (-want +got):\n%s", diff)
				}
			}
			// The last role may go, and names are as free as people are.
			for _, username := range []string{"marek.kowal@contractors.example.com", "sam.o'brien", "DavidA"} {
				for _, had := range srv.Roles(username) {
					if _, err := take(t.Context(), r, username, had); err != nil {
						t.Error(err)
					}
				}
				if got := srv.Roles(username); len(got) > 0 {
					t.Errorf("%s still has %q", username, got)
				}
				if _, err := give(t.Context(), r, username, "User"); err != nil || !slices.Equal(srv.Roles(username), []string{"User"}) {
					t.Errorf("%s has %q, %v", username, srv.Roles(username), err)
				}
			}
		})
	}
}

func TestFiftyChangesOfOneUserAtOnce(t *testing.T) {
	t.Parallel()
	srv := airflowtest.Start(t, airflowtest.Options{})
	srv.PutUser(airflowtest.User{Username: "busy", FirstName: "B", LastName: "Usy", Active: true})
	var had, want []string
	for i := range 50 {
		srv.PutRole(fmt.Sprintf("r%02d", i))
		if i%2 == 0 {
			had = append(had, fmt.Sprintf("r%02d", i))
		} else {
			want = append(want, fmt.Sprintf("r%02d", i))
		}
	}
	srv.SetRoles("busy", had...)
	r := overGRPC{newRig(t, srv)}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			change := give
			if i%2 == 0 {
				change = take
			}
			if already, err := change(t.Context(), r, "busy", fmt.Sprintf("r%02d", i)); already || err != nil {
				t.Errorf("change %d: already %v, %v", i, already, err)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(want, srv.Roles("busy")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What was asked for is looked at in Airflow before it is called done.
func TestOthersWriteTheSameUser(t *testing.T) {
	t.Parallel()
	patched := func(srv *airflowtest.Server, then func(n int)) {
		n := 0
		srv.After(func(q airflowtest.Request) {
			if q.Method == http.MethodPatch {
				n++
				then(n)
			}
		})
	}
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			srv := airflowtest.New(airflowtest.Options{})
			srv.Load(airflowtest.Company())
			patched(srv, func(n int) {
				if n == 1 {
					srv.SetRoles("eve", "User", "auditor") // from what it saw before
				}
			})
			if had, err := give(t.Context(), role{newBare(t, srv).Connector}, "eve", "Op"); had || err != nil {
				t.Errorf("had %v, %v", had, err)
			}
			if want := []string{"Op", "User", "auditor"}; !slices.Equal(srv.Roles("eve"), want) {
				t.Errorf("in the end she has %q, want %q", srv.Roles("eve"), want)
			}
		})
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			srv := airflowtest.New(airflowtest.Options{})
			srv.Load(airflowtest.Company())
			patched(srv, func(int) { srv.SetRoles("eve", "Viewer", "auditor") })
			c := role{newBare(t, srv).Connector}
			_, err := give(t.Context(), c, "eve", "Op")
			if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "roles are now Viewer, auditor") {
				t.Errorf("a grant that never holds: %v", err)
			}
			_, err = take(t.Context(), c, "eve", "Viewer")
			if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "roles are now Viewer, auditor") {
				t.Errorf("a revoke that never holds: %v", err)
			}
		})
	})
	t.Run("who deletes it", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			srv := airflowtest.New(airflowtest.Options{})
			srv.Load(airflowtest.Company())
			patched(srv, func(int) { srv.DeleteUser("eve") })
			if gone, err := take(t.Context(), role{newBare(t, srv).Connector}, "eve", "Viewer"); !gone || err != nil {
				t.Errorf("gone: %v, %v", gone, err)
			}
		})
	})
	// Written, but the answer was lost.
	t.Run("an answer is lost", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			srv := airflowtest.New(airflowtest.Options{})
			srv.Load(airflowtest.Company())
			srv.Inject(airflowtest.Fault{Method: http.MethodPatch, Act: airflowtest.LoseAnswer()})
			if _, err := give(t.Context(), role{newBare(t, srv).Connector}, "eve", "Op"); err != nil {
				t.Error(err)
			}
			if want := []string{"Op", "Viewer"}; !slices.Equal(srv.Roles("eve"), want) {
				t.Errorf("she has %q, want %q", srv.Roles("eve"), want)
			}
		})
	})
}

// state is all that provisioning may change in an Airflow.
func state(t *testing.T, srv *airflowtest.Server) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, u := range srv.Users() {
		u.Logins, u.LastLogin = 0, u.Created // signing in is no change
		all["user "+u.Username] = u
	}
	for _, r := range rolesOf(t, srv) {
		all["role "+r.Name] = r
	}
	return all
}

// Each refusal says why, and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	oneAdmin := func(srv *airflowtest.Server) { srv.SetRoles("kofi.mensah", "Op") } // ingrid.solheim is one too, but not active
	type change func(context.Context, *rig) error
	grantTo := func(username, roleName string) change {
		return func(ctx context.Context, r *rig) error {
			_, err := give(ctx, overGRPC{r}, username, roleName)
			return err
		}
	}
	revoke := func(username, roleName string) change {
		return func(ctx context.Context, r *rig) error {
			_, err := take(ctx, overGRPC{r}, username, roleName)
			return err
		}
	}
	remove := func(kind, name string) change {
		return func(ctx context.Context, r *rig) error {
			_, err := r.DeleteResource(ctx, v2.DeleteResourceRequest_builder{ResourceId: resourceOf(kind, name).GetId()}.Build())
			return err
		}
	}
	rotate := func(username string) change {
		return func(ctx context.Context, r *rig) error {
			_, err := r.RotateCredential(ctx, v2.RotateCredentialRequest_builder{ResourceId: resourceOf("user", username).GetId(), CredentialOptions: random(16)}.Build())
			return err
		}
	}
	for name, test := range map[string]struct {
		before func(*airflowtest.Server)
		as     string // airlock unless said
		do     change
		code   codes.Code
		says   string
	}{
		"the last active admin":                   {oneAdmin, "", revoke("admin", "Admin"), codes.FailedPrecondition, "admin is the last active admin"},
		"the last active admin, deleted":          {oneAdmin, "", remove("user", "admin"), codes.FailedPrecondition, "admin is the last active admin"},
		"the last active admin, of all roles":     {oneAdmin, "", revokeAllRolesOf("admin"), codes.FailedPrecondition, "admin is the last active admin"},
		"own rights":                              {nil, "", revoke("airlock", "airlock-connector"), codes.FailedPrecondition, "own account and would lose can_read on Users, can_read on Roles, can_read on DAGs"},
		"own rights, of all roles":                {nil, "", revokeAllRolesOf("airlock"), codes.FailedPrecondition, "own account"},
		"own account":                             {nil, "", remove("user", "airlock"), codes.FailedPrecondition, "airlock is the connector's own account"},
		"own account, signed in by address":       {nil, "airlock@example.com", remove("user", "airlock"), codes.FailedPrecondition, "airlock is the connector's own account"},
		"own account, signed in by other case":    {nil, "AirLock", remove("user", "airlock"), codes.FailedPrecondition, "airlock is the connector's own account"},
		"own rights, signed in by address":        {nil, "airlock@example.com", revoke("airlock", "airlock-connector"), codes.FailedPrecondition, "own account"},
		"own role":                                {nil, "", remove("role", "airlock-connector"), codes.FailedPrecondition, "own account and would lose"},
		"own role, signed in by address":          {nil, "airlock@example.com", remove("role", "airlock-connector"), codes.FailedPrecondition, "own account and would lose"},
		"own password":                            {nil, "", rotate("airlock"), codes.FailedPrecondition, "airlock is the connector's own account"},
		"own password, by another spelling":       {nil, "", rotate("AIRLOCK"), codes.NotFound, `no user "AIRLOCK" in airflow, but "airlock"`},
		"own password, signed in by address":      {nil, "airlock@example.com", rotate("airlock"), codes.FailedPrecondition, "airlock is the connector's own account"},
		"a built-in role":                         {nil, "", remove("role", "Viewer"), codes.FailedPrecondition, "Viewer is one of Airflow's built-in roles"},
		"Admin":                                   {nil, "", remove("role", "Admin"), codes.FailedPrecondition, "Admin is one of Airflow's built-in roles"},
		"an unknown role":                         {nil, "", grantTo("eve", "nothing"), codes.InvalidArgument, "nothing"},
		"a role in another case":                  {nil, "", grantTo("eve", "op"), codes.InvalidArgument, "op"},
		"an unknown user":                         {nil, "", grantTo("nobody", "Op"), codes.NotFound, "nobody"},
		"a user by another spelling":              {nil, "", grantTo("EVE", "Op"), codes.NotFound, `no user "EVE" in airflow, but "eve"`},
		"a role with a slash":                     {nil, "", grantTo("eve", "a/b"), codes.InvalidArgument, "slash"},
		"a user with a slash":                     {nil, "", grantTo("a/b", "Op"), codes.InvalidArgument, "slash"},
		"a role with a slash, revoked":            {nil, "", revoke("eve", "a/b"), codes.InvalidArgument, "slash"},
		"a user with a slash, deleted":            {nil, "", remove("user", "a/b"), codes.InvalidArgument, "slash"},
		"a role with a slash, deleted":            {nil, "", remove("role", "a/b"), codes.InvalidArgument, "slash"},
		"a role for a role":                       {nil, "", wrongPrincipal, codes.InvalidArgument, `only a user can have a role, not a "role"`},
		"a permission on a DAG":                   {nil, "", wrongEntitlement, codes.Unimplemented, "dag"},
		"a permission on a DAG, past the SDK":     {nil, "", wrongEntitlementDirectly, codes.InvalidArgument, `only a role can be given to a user, not a "dag"`},
		"a password of nobody's":                  {nil, "", rotate("nobody"), codes.NotFound, "nobody"},
		"all roles of somebody who was mistyped":  {nil, "", revokeAllRolesOf("EVE"), codes.NotFound, `no user "EVE" in airflow, but "eve"`},
		"all roles of nobody in particular":       {nil, "", revokeAllRolesOf(" "), codes.InvalidArgument, "user_id"},
		"all roles of somebody that is a number":  {nil, "", invoke(map[string]any{"user_id": 7}), codes.InvalidArgument, "user_id"},
		"all roles of somebody that isn't told":   {nil, "", invoke(nil), codes.InvalidArgument, "user_id"},
		"the last active admin, who is it itself": {oneAdmin, "admin", revoke("admin", "Admin"), codes.FailedPrecondition, "last active admin"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{})
			if test.before != nil {
				test.before(srv)
			}
			cfg := settings(srv)
			if test.as != "" {
				cfg.AirflowUsername = test.as
			}
			if test.as == "admin" {
				cfg.AirflowPassword = "admin-of-the-test"
			}
			r := serve(t.Context(), t, srv, cfg)
			before := state(t, srv)
			err := test.do(t.Context(), r)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %v that says %q", err, test.code, test.says)
			}
			if diff := cmp.Diff(before, state(t, srv)); diff != "" {
				t.Errorf("it changed something:\n%s", diff)
			}
		})
	}
}

// With a token alone, the own account is told by Airflow, or nothing is taken from anybody.
func TestRevokeByToken(t *testing.T) {
	t.Parallel()
	for release, says := range map[string]string{"3.3.2": "own account", "3.1.8": "--airflow-username"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: airflowtest.For(release)})
			r := overGRPC{newRig(t, srv, func(cfg *config.Airflow) {
				cfg.AirflowToken, cfg.AirflowUsername, cfg.AirflowPassword = srv.Token("airlock"), "", ""
			})}
			before := state(t, srv)
			if _, err := take(t.Context(), r, "airlock", "airlock-connector"); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, want an error that says %q", err, says)
			}
			if diff := cmp.Diff(before, state(t, srv)); diff != "" {
				t.Errorf("it changed something:\n%s", diff)
			}
			if _, err := give(t.Context(), r, "eve", "Op"); err != nil {
				t.Error(err)
			}
		})
	}
}

func wrongPrincipal(ctx context.Context, r *rig) error {
	_, err := r.Grant(ctx, v2.GrantManagerServiceGrantRequest_builder{Principal: resourceOf("role", "User"), Entitlement: assignedTo("Op")}.Build())
	return err
}

var onDAG = v2.Entitlement_builder{Id: "dag:payroll_close:can_edit", Slug: "can_edit", Resource: resourceOf("dag", "payroll_close")}.Build()

func wrongEntitlement(ctx context.Context, r *rig) error {
	_, err := r.Grant(ctx, v2.GrantManagerServiceGrantRequest_builder{Principal: resourceOf("user", "eve"), Entitlement: onDAG}.Build())
	return err
}

func wrongEntitlementDirectly(ctx context.Context, r *rig) error {
	_, _, err := role{r.Connector}.Grant(ctx, resourceOf("user", "eve"), onDAG)
	return err
}

// invoke invokes the action.
func invoke(args map[string]any) func(context.Context, *rig) error {
	return func(ctx context.Context, r *rig) error {
		s, err := structpb.NewStruct(args)
		if err != nil {
			return err
		}
		_, _, err = r.revokeAll(ctx, s)
		return err
	}
}

func revokeAllRolesOf(username string) func(context.Context, *rig) error {
	return invoke(map[string]any{"user_id": username})
}

// What is harmless is done, to the own account too, and for admins while another is active.
func TestWhatIsNotRefused(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	srv.SetRoles("airlock", "airlock-connector", "Viewer")
	r := overGRPC{newRig(t, srv)}
	for _, step := range []struct {
		username, role string
		want           []string
	}{
		{"airlock", "Viewer", []string{"airlock-connector"}}, // nothing of it is used
		{"kofi.mensah", "Admin", nil},                        // admin is left
		{"ingrid.solheim", "Admin", nil},                     // not active, so not counted
	} {
		if gone, err := take(t.Context(), r, step.username, step.role); gone || err != nil {
			t.Errorf("%s: gone %v, %v", step.username, gone, err)
		}
		if got := srv.Roles(step.username); !slices.Equal(got, step.want) {
			t.Errorf("%s has %q, want %q", step.username, got, step.want)
		}
	}
	if gone, err := take(t.Context(), r, "nobody", "Op"); !gone || err != nil {
		t.Errorf("an account that is gone: %v, %v", gone, err)
	}
	if gone, err := take(t.Context(), r, "EVE", "Viewer"); !gone || err != nil || !slices.Equal(srv.Roles("eve"), []string{"Viewer"}) {
		t.Errorf("an account of another spelling: %v, %v, and eve has %q", gone, err, srv.Roles("eve"))
	}
	if _, err := give(t.Context(), r, "eve", "Admin"); err != nil || !slices.Contains(srv.Roles("eve"), "Admin") {
		t.Errorf("a new admin: %v", err)
	}
	if _, err := take(t.Context(), r, "admin", "Admin"); err != nil {
		t.Errorf("with a new admin the old one may go: %v", err)
	}
}

// Of two who are the last admins, asked for at once, one stays.
func TestTwoAdminsRevokedAtOnce(t *testing.T) {
	t.Parallel()
	ways := []func(context.Context, *rig, string) error{
		func(ctx context.Context, r *rig, name string) error {
			_, err := take(ctx, overGRPC{r}, name, "Admin")
			return err
		},
		func(ctx context.Context, r *rig, name string) error {
			_, err := r.DeleteResource(ctx, v2.DeleteResourceRequest_builder{ResourceId: resourceOf("user", name).GetId()}.Build())
			return err
		},
		func(ctx context.Context, r *rig, name string) error { return revokeAllRolesOf(name)(ctx, r) },
	}
	for i, one := range ways {
		for j, other := range ways {
			t.Run(fmt.Sprint(i, j), func(t *testing.T) {
				t.Parallel()
				srv := withCompany(t, airflowtest.Options{})
				r := newRig(t, srv)
				errs := make([]error, 2)
				var both sync.WaitGroup
				both.Go(func() { errs[0] = one(t.Context(), r, "admin") })
				both.Go(func() { errs[1] = other(t.Context(), r, "kofi.mensah") })
				both.Wait()
				left := slices.Contains(srv.Roles("admin"), "Admin") != slices.Contains(srv.Roles("kofi.mensah"), "Admin")
				if (errs[0] == nil) == (errs[1] == nil) || !left {
					t.Errorf("the answers are %v, and exactly one admin is left: %v", errs, left)
				}
			})
		}
	}
}

// Both roles of the own account are needed no more than one of them.
func TestBothOwnRolesDeletedAtOnce(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{CacheTTL: -1})
	own, _ := srv.Role("airlock-connector")
	srv.PutRole("team-0000", own.Permissions...)
	srv.SetRoles("airlock", "airlock-connector", "team-0000")
	r := newRig(t, srv)
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, name := range []string{"airlock-connector", "team-0000"} {
		both.Go(func() {
			_, errs[i] = r.DeleteResource(t.Context(), v2.DeleteResourceRequest_builder{ResourceId: resourceOf("role", name).GetId()}.Build())
		})
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || len(srv.Roles("airlock")) != 1 {
		t.Errorf("the answers are %v, and it has %q", errs, srv.Roles("airlock"))
	}
}

// Admins are counted until another one that is active is found.
func TestCountingAdmins(t *testing.T) {
	t.Parallel()
	const list = "GET /auth/fab/v1/users"
	srv := airflowtest.Start(t, airflowtest.Options{})
	srv.PutUser(airflowtest.User{Username: "second", FirstName: "S", LastName: "Econd", Roles: []string{"Admin"}, Active: true})
	srv.Generate(airflowtest.Scale{Users: 900})
	srv.PutUser(airflowtest.User{Username: "third", FirstName: "T", LastName: "Hird", Roles: []string{"Admin"}, Active: true})
	srv.PutUser(airflowtest.User{Username: "robot", FirstName: "R", LastName: "Obot", Roles: []string{"Admin"}, Active: false})
	r := overGRPC{newRig(t, srv)}
	revoke := func(username string) int {
		t.Helper()
		before := srv.Count(list)
		if _, err := take(t.Context(), r, username, "Admin"); err != nil {
			t.Error(err)
		}
		return srv.Count(list) - before
	}
	if n := revoke("third"); n != 1 {
		t.Errorf("with an admin on the first page, it read %d pages", n)
	}
	if n := revoke("robot"); n != 0 {
		t.Errorf("for one that isn't active, it read %d pages", n)
	}
	if _, err := give(t.Context(), r, "third", "Admin"); err != nil {
		t.Fatal(err)
	}
	srv.SetActive("second", false)
	srv.SetRoles("second")
	before := srv.Count()
	if _, err := take(t.Context(), r, "eve", "Op"); err != nil {
		t.Error(err)
	}
	if _, err := give(t.Context(), r, "user-000005", "Op"); err != nil {
		t.Error(err)
	}
	if n := srv.Count() - before; n != 1+3 {
		t.Errorf("a revoke of nothing and a grant cost %d requests", n)
	}
	before = srv.Count()
	if _, err := take(t.Context(), r, "user-000005", "Op"); err != nil {
		t.Error(err)
	}
	if n := srv.Count() - before; n != 3 {
		t.Errorf("a revoke costs %d requests", n)
	}
}

func TestCreateAndDeleteRole(t *testing.T) {
	t.Parallel()
	for _, profile := range airflowtest.Profiles() {
		t.Run(profile.Airflow, func(t *testing.T) {
			t.Parallel()
			srv := withCompany(t, airflowtest.Options{Profile: profile})
			r := newRig(t, srv)
			create := func(name, displayName string, permissions any) (*v2.Resource, error) {
				profile, err := structpb.NewStruct(map[string]any{"permissions": permissions})
				if err != nil {
					t.Fatal(err)
				}
				want := v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: "role", Resource: name}.Build(), DisplayName: displayName, Profile: profile}.Build()
				answer, err := r.CreateResource(t.Context(), v2.CreateResourceRequest_builder{Resource: want}.Build())
				return answer.GetCreated(), err
			}
			made, err := create("night shift", "", []any{"can_read on DAGs", "can_edit on DAG:payroll_close"})
			if err != nil || made.GetId().GetResource() != "night shift" {
				t.Fatalf("%v, %v", made, err)
			}
			got, _ := srv.Role("night shift")
			for _, p := range airflowtest.Permissions("can_read DAGs", "can_edit DAG:payroll_close") {
				if !slices.Contains(got.Permissions, p) {
					t.Errorf("it lacks %v: %v", p, got)
				}
			}
			if _, err := create("night shift", "", nil); status.Code(err) != codes.AlreadyExists {
				t.Errorf("made twice: %v", err)
			}
			if _, err := create("team-0000", "", "can_read on DAGs, can_read on DAG Runs"); err != nil {
				t.Error(err)
			}
			for name, wrong := range map[string]any{"no pair": []any{"DAGs"}, "a number": []any{7.0}, "an object": map[string]any{"can_read": "DAGs"}, "unknown": []any{"can_read on Nothing"}} {
				if _, err := create("team-0001", "", wrong); status.Code(err) != codes.InvalidArgument {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := create("a/b", "", nil); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "slash") {
				t.Errorf("a slash: %v", err)
			}
			if _, found := srv.Role("team-0001"); found {
				t.Error("it was made, though what it should permit was wrong")
			}

			remove := func(name string) error {
				_, err := r.DeleteResource(t.Context(), v2.DeleteResourceRequest_builder{ResourceId: resourceOf("role", name).GetId()}.Build())
				return err
			}
			err = remove("night shift")
			_, there := srv.Role("night shift")
			if profile.RoleDeleteFails {
				if status.Code(err) != codes.Unavailable || !there || !strings.Contains(err.Error(), "still there") {
					t.Errorf("where Airflow can't: %v, and it is there: %v", err, there)
				}
				return
			}
			if err != nil || there {
				t.Errorf("deleted: %v, and it is there: %v", err, there)
			}
			if err := remove("night shift"); err != nil {
				t.Errorf("deleted twice: %v", err)
			}
		})
	}
}
