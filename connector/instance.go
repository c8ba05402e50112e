package connector

import (
	"context"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"

	"airlock/airflow"
)

var instanceType = v2.ResourceType_builder{
	Id:          "instance",
	DisplayName: "Airflow",
	Description: "The Airflow itself: its versions, and how many users, roles and DAGs it says it has",
	Traits:      []v2.ResourceType_Trait{v2.ResourceType_TRAIT_APP},
	Annotations: typeAnnotations([]airflow.Permission{readUsers, readRoles}, &v2.SkipEntitlementsAndGrants{}),
}.Build()

// instanceID is the one instance's id: it stays when the base URL changes.
const instanceID = "airflow"

// instance shows the Airflow itself.
type instance struct {
	*Connector
	nothing
}

func (instance) ResourceType(context.Context) *v2.ResourceType { return instanceType }

// List gives the one instance. Its totals are those that Airflow itself told
// with the first page of each list, so a control plane can prove that it has
// everybody.
func (i instance) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	server, err := i.airflow.Server(ctx)
	if err != nil {
		return nil, nil, listError(err)
	}
	users, err := i.users.whole(ctx, opts, airflow.Cursor{})
	if err != nil {
		return nil, nil, listError(err)
	}
	roles, err := i.roles.whole(ctx, opts, airflow.Cursor{})
	if err != nil {
		return nil, nil, listError(err)
	}
	profile := map[string]any{
		"base_url":        i.airflow.BaseURL(),
		"airflow_version": server.Airflow,
		"fab_version":     server.FAB,
		"credentials":     server.Credentials(),
		"users_total":     users.Total,
		"roles_total":     roles.Total,
	}
	if !i.skipPermissions {
		dags, err := i.dags.whole(ctx, opts, airflow.Cursor{})
		if err != nil {
			return nil, nil, listError(err)
		}
		profile["dags_total"] = dags.Total
	}
	r, err := rs.NewAppResource("Airflow "+server.Airflow+" at "+i.airflow.BaseURL(), instanceType, instanceID, nil,
		rs.WithResourceProfile(profile), rs.WithDescription(server.String()))
	if err != nil {
		return nil, nil, listError(err)
	}
	return []*v2.Resource{r}, nextPage(nil), nil
}
