package connector

import (
	"slices"
	"testing"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/airflow/airflowtest"
)

func TestRevokeAllRoles(t *testing.T) {
	t.Parallel()
	srv := withCompany(t, airflowtest.Options{})
	r := newRig(t, srv)
	for _, step := range []struct {
		username string
		revoked  []any
	}{
		{"omar.haddad", []any{"payroll-editor", "finance-viewer"}},
		{"omar.haddad", []any{}},
		{"kofi.mensah", []any{"Admin"}}, // admin is left
		{"nobody", []any{}},             // gone, and has nothing any more
	} {
		args, err := structpb.NewStruct(map[string]any{"user_id": step.username})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := r.InvokeAction(t.Context(), v2.InvokeActionRequest_builder{Name: "revoke_all_roles", Args: args}.Build())
		if err != nil || answer.GetStatus() != v2.BatonActionStatus_BATON_ACTION_STATUS_COMPLETE {
			t.Fatalf("%s: %v, %v", step.username, answer, err)
		}
		got := answer.GetResponse().AsMap()
		if revoked, _ := got["revoked"].([]any); got["success"] != true || !slices.Equal(revoked, step.revoked) {
			t.Errorf("%s: it returns %v, want %v", step.username, got, step.revoked)
		}
		if has := srv.Roles(step.username); len(has) > 0 {
			t.Errorf("%s still has %q", step.username, has)
		}
	}
}

func TestActionSchema(t *testing.T) {
	t.Parallel()
	answer, err := newRig(t, withCompany(t, airflowtest.Options{})).ListActionSchemas(t.Context(), &v2.ListActionSchemasRequest{})
	if err != nil || len(answer.GetSchemas()) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	want := &v2.BatonActionSchema{}
	if err := protojson.Unmarshal([]byte(`{
		"name": "revoke_all_roles", "displayName": "Revoke all roles",
		"description": "Takes all roles from an account. Airflow's API can't switch an account off; without roles it may do nothing.",
		"arguments": [{
			"name": "user_id", "displayName": "User", "description": "The account's username, as Airflow spells it", "isRequired": true, "stringField": {}
		}],
		"returnTypes": [
			{"name": "success", "displayName": "Success", "boolField": {}},
			{"name": "revoked", "displayName": "Roles revoked", "stringSliceField": {}}
		]
	}`), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, answer.GetSchemas()[0], protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
