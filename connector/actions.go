package connector

import (
	"context"
	"strings"

	configv1 "github.com/conductorone/baton-sdk/pb/c1/config/v1"
	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/actions"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/airflow"
)

// revokeAllRoles is the nearest that Airflow's API has to switching an account
// off: it stays, may sign in, and may do nothing.
var revokeAllRoles = v2.BatonActionSchema_builder{
	Name:        "revoke_all_roles",
	DisplayName: "Revoke all roles",
	Description: "Takes all roles from an account. Airflow's API can't switch an account off; without roles it may do nothing.",
	Arguments: []*configv1.Field{configv1.Field_builder{
		Name: "user_id", DisplayName: "User", Description: "The account's username, as Airflow spells it", IsRequired: true,
		StringField: &configv1.StringField{},
	}.Build()},
	ReturnTypes: []*configv1.Field{
		configv1.Field_builder{Name: "success", DisplayName: "Success", BoolField: &configv1.BoolField{}}.Build(),
		configv1.Field_builder{Name: "revoked", DisplayName: "Roles revoked", StringSliceField: &configv1.StringSliceField{}}.Build(),
	},
}.Build()

// GlobalActions registers what a control plane may ask for beside grants.
func (c *Connector) GlobalActions(ctx context.Context, registry actions.ActionRegistry) error {
	return registry.Register(ctx, revokeAllRoles, c.revokeAll)
}

func (c *Connector) revokeAll(ctx context.Context, args *structpb.Struct) (*structpb.Struct, annotations.Annotations, error) {
	username, ok := actions.GetStringArg(args, "user_id")
	if !ok || strings.TrimSpace(username) == "" {
		return nil, nil, status.Error(codes.InvalidArgument, "baton-airflow: user_id must be a username: nothing was changed")
	}
	c.guarded.Lock()
	defer c.guarded.Unlock()
	before, _, err := c.airflow.ChangeRoles(ctx, username, func(u airflow.User) ([]string, error) {
		if err := checkSpelling(u, username); err != nil {
			return nil, grpcError(err) // somebody mistyped: told, unlike an account that is gone
		}
		if len(u.Roles) == 0 {
			return nil, nil
		}
		return nil, c.guard(ctx, u, nil)
	})
	if err != nil && !airflow.Is(err, airflow.NotFound) {
		return nil, nil, grpcError(err)
	}
	// An account that is gone has no roles any more.
	return actions.NewReturnValues(true, actions.NewStringListReturnField("revoked", before.Roles)), nil, nil
}
