package airflowtest

import (
	"fmt"
	"time"
)

// Profile is one release of Airflow with one release of its FAB provider, and
// how the two behave together. The fields say what a client can notice.
type Profile struct {
	Airflow, FAB string

	// The endpoints that FastAPI serves take the bearer token and answer errors
	// as {"detail": …}. The others are Flask: basic authentication, and RFC 7807
	// problems. FAB moved them one by one, so 3.1.6 needs both credentials.
	FastAPIUsers, FastAPIRoles, FastAPIPermissions bool

	// FlaskLeft: what FastAPI doesn't know falls through to Flask's API, which
	// says 404 and 405 as a problem. From FAB 3.5 on it is a page, always 404.
	FlaskLeft bool

	// Anonymous is the status of a Flask endpoint without a valid credential.
	// 2.11 says 403 where the others say 401.
	Anonymous int

	// SessionForAll: Flask's FAB endpoints begin a session even for who isn't
	// signed in. The others do it for who is, whatever the answer: on 2.11 the
	// cookie alone tells a missing right from a wrong password.
	SessionForAll bool

	// Me: GET /ui/auth/me tells the owner of a token.
	Me bool

	// TokenTyped: POST /auth/token without a name or a password is 422, not 400.
	TokenTyped bool

	// CacheTTL is how long a token keeps the rights its owner had ([fab]
	// cache_ttl, from FAB 3.2).
	CacheTTL time.Duration

	// GoneStatus is what the token of a deleted user gets: 403 `Invalid JWT
	// token`, or 500 where the lookup fails unhandled.
	GoneStatus int

	// RefusesInactive: the token of a deactivated user is refused (FAB 3.9).
	RefusesInactive bool

	// DefaultRole is given to a user created without roles. Empty: such a
	// creation fails with 500.
	DefaultRole string

	// DoubledRolesFail: a role named twice makes the creation of a user a 500,
	// and a patch a 200 that changes nothing.
	DoubledRolesFail bool

	// RolePatch says what PATCH of a role does with its actions.
	RolePatch RolePatch

	// RoleDeleteFails: DELETE of a role is a 500 and changes nothing.
	RoleDeleteFails bool

	// SyncsRoles: each FAB call gives the built-in roles back what they lack,
	// and every other role can_read on Website (up to FAB 3.10.0).
	SyncsRoles bool

	// OrdersPermissions: the list of permissions knows order_by (FAB 3.6). Before
	// it was ignored.
	OrdersPermissions bool

	// LogsNeedNoDAGs: the event log asks for can_read on Audit Logs alone. The
	// others ask for reading a DAG too.
	LogsNeedNoDAGs bool
}

// RolePatch is what PATCH of a role does with the actions in it.
type RolePatch int

// The ways of PATCH, newest first.
const (
	Replaces  RolePatch = iota // the role has exactly what was sent (FAB 3.8.1)
	Adds                       // nothing is ever taken away
	Forbidden                  // 403 for everybody: it asks for a right that nobody can have
)

// profiles are the rows of releases.tsv, newest first.
var profiles = []Profile{
	{
		Airflow: "3.3.2", FAB: "3.10.2",
		FastAPIUsers: true, FastAPIRoles: true, FastAPIPermissions: true,
		Me: true, CacheTTL: 30 * time.Second,
		GoneStatus: 403, RefusesInactive: true, RolePatch: Replaces, OrdersPermissions: true,
	},
	{
		Airflow: "3.2.2", FAB: "3.6.5",
		FastAPIUsers: true, FastAPIRoles: true, FastAPIPermissions: true,
		Me: true, CacheTTL: 30 * time.Second,
		GoneStatus: 403, RolePatch: Adds, SyncsRoles: true, OrdersPermissions: true,
	},
	{
		Airflow: "3.1.8", FAB: "3.4.0",
		FastAPIUsers: true, FastAPIRoles: true, FastAPIPermissions: true, FlaskLeft: true, Anonymous: 401,
		CacheTTL:   30 * time.Second,
		GoneStatus: 403, RolePatch: Adds, RoleDeleteFails: true, SyncsRoles: true,
	},
	{
		Airflow: "3.1.6", FAB: "3.1.2",
		FastAPIRoles: true, FlaskLeft: true, Anonymous: 401,
		GoneStatus: 500, RolePatch: Forbidden, RoleDeleteFails: true, SyncsRoles: true,
	},
	{
		Airflow: "3.1.2", FAB: "3.0.1",
		FlaskLeft: true, Anonymous: 401, SessionForAll: true, TokenTyped: true,
		GoneStatus: 500, DoubledRolesFail: true, RolePatch: Adds,
	},
	{
		Airflow: "3.0.6", FAB: "2.4.1",
		FlaskLeft: true, Anonymous: 401, SessionForAll: true, TokenTyped: true,
		GoneStatus: 500, DoubledRolesFail: true, RolePatch: Adds, LogsNeedNoDAGs: true,
	},
	{
		Airflow: "2.11.2", FAB: "1.5.4",
		FlaskLeft: true, Anonymous: 403,
		DefaultRole: "Public", DoubledRolesFail: true, RolePatch: Adds, LogsNeedNoDAGs: true,
	},
	{
		Airflow: "2.10.5", FAB: "1.5.3",
		FlaskLeft: true, Anonymous: 401, SessionForAll: true,
		DoubledRolesFail: true, RolePatch: Adds, LogsNeedNoDAGs: true,
	},
}

// Profiles returns all releases that can be played, newest first.
func Profiles() []Profile { return append([]Profile(nil), profiles...) }

// Newest is the newest release.
func Newest() Profile { return profiles[0] }

// For returns the profile of an Airflow release such as "3.1.6". It panics when
// there is none: a test that asks for it is wrong.
func For(airflow string) Profile {
	for _, p := range profiles {
		if p.Airflow == airflow {
			return p
		}
	}
	panic(fmt.Sprintf("airflowtest: no profile for Airflow %q", airflow))
}

// V2 tells whether it is an Airflow 2: /api/v1, basic authentication, no token.
func (p Profile) V2() bool { return p.Airflow[0] == '2' }

// String is such as "Airflow 3.1.6, FAB 3.1.2".
func (p Profile) String() string { return "Airflow " + p.Airflow + ", FAB " + p.FAB }

// AuthManager is who manages users and roles in an Airflow 3.
type AuthManager string

// The auth managers. Only FAB can be governed by its API.
const (
	FAB      AuthManager = ""
	Simple   AuthManager = "Simple"   // tokens work, users and roles are in the configuration
	Keycloak AuthManager = "Keycloak" // likewise, they are in Keycloak
)
