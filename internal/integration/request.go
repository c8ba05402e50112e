package integration

import (
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Request is what a connector is asked to do: one of the types of this file.
type Request interface {
	kind() Kind
	task() *baton.Task
}

// Hello asks for the connector's metadata anew. The answer is its Hello.
type Hello struct{}

// SyncFull asks for a file of what the target system holds. Grants are not
// expanded: how one follows from another stays an edge of the inventory.
type SyncFull struct {
	Targets       []*v2.Resource // only these; their types advertise CAPABILITY_TARGETED_SYNC
	Types         []string       // only these resource types
	SkipGrants    bool
	ResourcesOnly bool // neither entitlements nor grants
	Debug         bool // the connector's debug log comes with the file
}

// Grant asks to give an entitlement to a principal, both as whole as the last
// sync had them. The answer is a GrantResult.
type Grant struct {
	Entitlement *v2.Entitlement
	Principal   *v2.Resource
}

// Revoke asks to take a grant away. The answer is a RevokeResult.
type Revoke struct{ Grant *v2.Grant }

// CreateAccount asks for an account; the answer is an AccountResult. A generated
// password comes sealed for a key pair of the task: Service.Disclose opens it.
type CreateAccount struct {
	Account *v2.AccountInfo
	Options *v2.CredentialOptions
	Type    string // of the resource; "" where the connector has one
}

// CreateResource asks for a resource. The answer is a ResourceResult.
type CreateResource struct{ Resource *v2.Resource }

// DeleteResource asks to delete a resource. The answer is Done.
type DeleteResource struct{ ID, Parent *v2.ResourceId }

// RotateCredential asks for a new password or key. The answer is a
// CredentialResult; Service.Disclose opens what it holds.
type RotateCredential struct {
	ID      *v2.ResourceId
	Options *v2.CredentialOptions
}

// IssueCredential asks for one more credential of an identity. The answer is a
// CredentialResult; Service.Disclose opens what it holds.
type IssueCredential struct {
	Identity  *v2.ResourceId
	Options   *v2.CredentialIssueOptions
	ExpiresAt time.Time // zero is as long as the target system lets it live
}

// ListActions asks what actions there are, of a resource type or all ("").
// The answer is an ActionsResult.
type ListActions struct{ Type string }

// GetAction asks for one action's schema. The answer is an ActionsResult of one.
type GetAction struct{ Name string }

// InvokeAction starts an action. The answer is an ActionResult, which may say that
// it still runs.
type InvokeAction struct {
	Name string
	Args *structpb.Struct
	Type string // of a resource's action, or ""
}

// ActionStatus asks how far an action is. Only the process that runs it knows:
// the task goes to the host that took the task Invoked. The answer is an
// ActionResult.
type ActionStatus struct {
	Name    string
	ID      string
	Invoked string // id of the connector task that started it
}

// ListEventFeeds asks what feeds of events there are. The answer is a FeedsResult.
type ListEventFeeds struct{}

// ListEvents asks for the events of a feed after a cursor, or since a time where
// there is none yet. The answer is an EventsResult.
type ListEvents struct {
	Feed   string
	Cursor string
	Since  time.Time
	Size   uint32
}

func (Hello) kind() Kind            { return KindHello }
func (SyncFull) kind() Kind         { return KindSync }
func (Grant) kind() Kind            { return KindGrant }
func (Revoke) kind() Kind           { return KindRevoke }
func (CreateAccount) kind() Kind    { return KindCreateAccount }
func (CreateResource) kind() Kind   { return KindCreateResource }
func (DeleteResource) kind() Kind   { return KindDeleteResource }
func (RotateCredential) kind() Kind { return KindRotateCredential }
func (IssueCredential) kind() Kind  { return KindIssueCredential }
func (ListActions) kind() Kind      { return KindListActions }
func (GetAction) kind() Kind        { return KindGetAction }
func (InvokeAction) kind() Kind     { return KindInvokeAction }
func (ActionStatus) kind() Kind     { return KindActionStatus }
func (ListEventFeeds) kind() Kind   { return KindListEventFeeds }
func (ListEvents) kind() Kind       { return KindListEvents }

func (Hello) task() *baton.Task {
	return baton.Task_builder{Hello: &baton.Task_HelloTask{}}.Build()
}

func (r SyncFull) task() *baton.Task {
	return baton.Task_builder{Debug: r.Debug, SyncFull: baton.Task_SyncFullTask_builder{
		SkipExpandGrants:          true,
		SkipEntitlementsAndGrants: r.ResourcesOnly,
		SkipGrants:                r.SkipGrants,
		TargetedSyncResources:     r.Targets,
		SyncResourceTypeIds:       r.Types,
	}.Build()}.Build()
}

func (r Grant) task() *baton.Task {
	return baton.Task_builder{Grant: baton.Task_GrantTask_builder{Entitlement: r.Entitlement, Principal: r.Principal}.Build()}.Build()
}

func (r Revoke) task() *baton.Task {
	return baton.Task_builder{Revoke: baton.Task_RevokeTask_builder{Grant: r.Grant}.Build()}.Build()
}

func (r CreateAccount) task() *baton.Task {
	return baton.Task_builder{CreateAccount: baton.Task_CreateAccountTask_builder{
		AccountInfo: r.Account, CredentialOptions: r.Options, ResourceTypeId: r.Type,
	}.Build()}.Build()
}

func (r CreateResource) task() *baton.Task {
	return baton.Task_builder{CreateResource: baton.Task_CreateResourceTask_builder{Resource: r.Resource}.Build()}.Build()
}

func (r DeleteResource) task() *baton.Task {
	return baton.Task_builder{DeleteResource: baton.Task_DeleteResourceTask_builder{ResourceId: r.ID, ParentResourceId: r.Parent}.Build()}.Build()
}

func (r RotateCredential) task() *baton.Task {
	return baton.Task_builder{RotateCredentials: baton.Task_RotateCredentialsTask_builder{ResourceId: r.ID, CredentialOptions: r.Options}.Build()}.Build()
}

func (r IssueCredential) task() *baton.Task {
	task := baton.Task_IssueCredentialTask_builder{IdentityId: r.Identity, CredentialOptions: r.Options}
	if !r.ExpiresAt.IsZero() {
		task.ExpiresAt = timestamppb.New(r.ExpiresAt)
	}
	return baton.Task_builder{IssueCredential: task.Build()}.Build()
}

func (r ListActions) task() *baton.Task {
	return baton.Task_builder{ActionListSchemas: baton.Task_ActionListSchemasTask_builder{ResourceTypeId: r.Type}.Build()}.Build()
}

func (r GetAction) task() *baton.Task {
	return baton.Task_builder{ActionGetSchema: baton.Task_ActionGetSchemaTask_builder{Name: r.Name}.Build()}.Build()
}

func (r InvokeAction) task() *baton.Task {
	return baton.Task_builder{ActionInvoke: baton.Task_ActionInvokeTask_builder{Name: r.Name, Args: r.Args, ResourceTypeId: r.Type}.Build()}.Build()
}

func (r ActionStatus) task() *baton.Task {
	return baton.Task_builder{ActionStatus: baton.Task_ActionStatusTask_builder{Name: r.Name, Id: r.ID}.Build()}.Build()
}

func (ListEventFeeds) task() *baton.Task {
	return baton.Task_builder{ListEventFeeds: &baton.Task_ListEventFeedsTask{}}.Build()
}

func (r ListEvents) task() *baton.Task {
	task := baton.Task_ListEventsTask_builder{EventFeedId: r.Feed, Cursor: r.Cursor, PageSize: r.Size}
	if r.Cursor == "" && !r.Since.IsZero() {
		task.StartAt = timestamppb.New(r.Since)
	}
	return baton.Task_builder{ListEvents: task.Build()}.Build()
}

// addressed puts the key pair's public half into a task whose answer is secret.
func addressed(task *baton.Task, recipient string) {
	keys := []*v2.EncryptionConfig{v2.EncryptionConfig_builder{
		Provider:           ageProvider,
		AgeRecipientConfig: v2.EncryptionConfig_AgeRecipientConfig_builder{Recipient: recipient}.Build(),
	}.Build()}
	switch {
	case task.HasCreateAccount():
		task.GetCreateAccount().SetEncryptionConfigs(keys)
	case task.HasRotateCredentials():
		task.GetRotateCredentials().SetEncryptionConfigs(keys)
	case task.HasIssueCredential():
		task.GetIssueCredential().SetEncryptionConfigs(keys)
	}
}

// answer makes an empty message of what a kind of task is answered with; nil
// where there is none.
func (k Kind) answer() proto.Message {
	switch k {
	case KindGrant:
		return &v2.GrantManagerServiceGrantResponse{}
	case KindRevoke:
		return &v2.GrantManagerServiceRevokeResponse{}
	case KindCreateAccount:
		return &v2.CreateAccountResponse{}
	case KindCreateResource:
		return &v2.CreateResourceResponse{}
	case KindDeleteResource:
		return &v2.DeleteResourceResponse{}
	case KindRotateCredential:
		return &v2.RotateCredentialResponse{}
	case KindIssueCredential:
		return &v2.IssueCredentialResponse{}
	case KindListActions:
		return &v2.ListActionSchemasResponse{}
	case KindGetAction:
		return &v2.GetActionSchemaResponse{}
	case KindInvokeAction:
		return &v2.InvokeActionResponse{}
	case KindActionStatus:
		return &v2.GetActionStatusResponse{}
	case KindListEventFeeds:
		return &v2.ListEventFeedsResponse{}
	case KindListEvents:
		return &v2.ListEventsResponse{}
	case KindHello, KindSync:
	}
	return nil
}
