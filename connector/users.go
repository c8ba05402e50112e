package connector

import (
	"context"
	"fmt"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"google.golang.org/protobuf/proto"

	"airlock/airflow"
)

var userType = v2.ResourceType_builder{
	Id:          "user",
	DisplayName: "User",
	Description: "An account of Airflow's",
	Traits:      []v2.ResourceType_Trait{v2.ResourceType_TRAIT_USER},
	Annotations: typeAnnotations([]airflow.Permission{readUsers, editUsers, createUsers, deleteUsers}, &v2.SkipEntitlementsAndGrants{}),
}.Build()

// typeAnnotations are a resource type's: what it needs, and how it is synced.
func typeAnnotations(needs []airflow.Permission, how ...proto.Message) annotations.Annotations {
	permissions := make([]*v2.CapabilityPermission, len(needs))
	for i, p := range needs {
		permissions[i] = v2.CapabilityPermission_builder{Permission: p.String()}.Build()
	}
	annos := annotations.New(v2.CapabilityPermissions_builder{Permissions: permissions}.Build())
	for _, m := range how {
		annos.Append(m)
	}
	return annos
}

// member is what is kept of a user for the grants: which roles it has.
type member struct {
	Username string   `json:"u"`
	Roles    []string `json:"r,omitempty"`
}

func keepMember(u airflow.User) member { return member{u.Username, u.Roles} }

// nothing is for resource types without entitlements or grants of their own.
type nothing struct{}

func (nothing) Entitlements(context.Context, *v2.Resource, rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	return nil, nil, nil
}

func (nothing) Grants(context.Context, *v2.Resource, rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	return nil, nil, nil
}

// user shows accounts and makes, deletes and re-keys them (accounts.go).
type user struct {
	*Connector
	nothing
}

func (user) ResourceType(context.Context) *v2.ResourceType { return userType }

// List gives a page of accounts.
func (u user) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	pos, err := parsePosition(opts)
	if err != nil {
		return nil, nil, err
	}
	page, err := u.users.whole(ctx, opts, pos.Cursor)
	if err != nil {
		return nil, nil, listError(err)
	}
	out := make([]*v2.Resource, len(page.Items))
	for i, item := range page.Items {
		if out[i], err = u.account(item); err != nil {
			return nil, nil, listError(err)
		}
	}
	return out, nextPage(pos.after(page.Next)), nil
}

// Get reads one account, for a targeted sync.
func (u user) Get(ctx context.Context, id, _ *v2.ResourceId) (*v2.Resource, annotations.Annotations, error) {
	found, err := u.exactly(ctx, id.GetResource())
	if err != nil {
		return nil, nil, grpcError(err)
	}
	r, err := u.account(found)
	return r, nil, grpcError(err)
}

// exactly reads the account of that id.
func (u user) exactly(ctx context.Context, id string) (airflow.User, error) {
	found, err := u.airflow.User(ctx, id)
	if err != nil {
		return airflow.User{}, err
	}
	return found, checkSpelling(found, id)
}

// checkSpelling is for a user that Airflow found by id. It finds names whatever
// their case, but an id is exact: another user by that count isn't there.
func checkSpelling(u airflow.User, id string) error {
	if u.Username == id {
		return nil
	}
	return &airflow.Error{Kind: airflow.NotFound, Op: "read user " + id, Hint: fmt.Sprintf("there is no user %q in airflow, but %q: nothing was changed", id, u.Username)}
}

// account is the account as Baton knows it.
func (c *Connector) account(u airflow.User) (*v2.Resource, error) {
	name := u.FirstName
	if u.LastName != "" {
		name += " " + u.LastName
	}
	if name == "" {
		name = u.Username
	}
	profile := map[string]any{
		"username":           u.Username,
		"email":              u.Email,
		"first_name":         u.FirstName,
		"last_name":          u.LastName,
		"active":             u.Active,
		"login_count":        u.Logins,
		"failed_login_count": u.FailedLogins,
	}
	for key, at := range map[string]time.Time{"last_login": u.LastLogin, "created_on": u.Created} {
		if !at.IsZero() {
			profile[key] = at.Format(time.RFC3339)
		}
	}
	// The status goes by the trait: the SDK copies it to the resource, but not the
	// other way, and readers of both kinds are about.
	enabled := rs.WithDetailedStatus(v2.UserTrait_Status_STATUS_ENABLED, "") //nolint:staticcheck // see above
	if !u.Active {
		enabled = rs.WithDetailedStatus(v2.UserTrait_Status_STATUS_DISABLED, "switched off in Airflow") //nolint:staticcheck // see above
	}
	options := []rs.UserTraitOption{
		enabled,
		rs.WithUserLogin(u.Username),
		rs.WithStructuredName(v2.UserTrait_StructuredName_builder{GivenName: u.FirstName, FamilyName: u.LastName}.Build()),
	}
	if u.Email != "" {
		options = append(options, rs.WithEmail(u.Email, true))
	}
	if !u.LastLogin.IsZero() {
		options = append(options, rs.WithLastLogin(u.LastLogin))
	}
	if isNamed(u, c.username) {
		// Airflow doesn't tell people from programs; this one is known.
		options = append(options, rs.WithAccountType(v2.UserTrait_ACCOUNT_TYPE_SERVICE))
	}
	more := []rs.ResourceOption{rs.WithResourceProfile(profile)}
	if !u.Created.IsZero() {
		more = append(more, rs.WithResourceCreatedAt(u.Created))
	}
	return rs.NewUserResource(name, userType, u.Username, options, more...)
}
