package integration

import (
	"fmt"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	grants "github.com/conductorone/baton-sdk/pkg/types/grant"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"airlock/internal/base/fault"
)

// The results of tasks that are done.
type (
	// Done is the result of what has nothing more to tell: a sync (its Sync tells),
	// a Hello, a deletion.
	Done struct{}

	// GrantResult says that the principal holds the entitlement now.
	GrantResult struct {
		AlreadyExists bool
		Replaced      string // id of a grant that it took the place of, or ""
		Grants        []*v2.Grant
	}

	// RevokeResult says that the principal doesn't hold it any more.
	RevokeResult struct {
		AlreadyRevoked bool
		Deleted        *v2.ResourceId // what went with it, such as the account; or nil
	}

	// AccountResult says what became of a new account. Secrets are the names of what
	// Service.Disclose opens.
	AccountResult struct {
		Outcome   AccountOutcome
		Account   *v2.Resource // nil where the connector doesn't tell yet
		Message   string       // what somebody has to do
		ExpiresAt time.Time    // of an invitation
		Secrets   []string
	}

	// ResourceResult is a new resource.
	ResourceResult struct{ Resource *v2.Resource }

	// CredentialResult is a credential that was changed (ID) or made (Secret).
	CredentialResult struct {
		ID      *v2.ResourceId
		Secret  *v2.Resource
		Virtual bool // no sync will list it
		Secrets []string
	}

	// ActionsResult is what actions there are.
	ActionsResult struct{ Schemas []*v2.BatonActionSchema }

	// ActionResult is how far an action is.
	ActionResult struct {
		ID       string
		Status   v2.BatonActionStatus
		Response *structpb.Struct
	}

	// FeedsResult is what feeds of events there are.
	FeedsResult struct{ Feeds []*v2.EventFeedMetadata }

	// EventsResult is a page of a feed.
	EventsResult struct {
		Events []*v2.Event
		Cursor string
		More   bool
	}
)

// AccountOutcome is what became of a new account.
type AccountOutcome string

// The outcomes of creating an account.
const (
	AccountCreated  AccountOutcome = "created"
	AccountExisted  AccountOutcome = "existed"
	AccountPending  AccountOutcome = "pending"
	AccountToFinish AccountOutcome = "to_finish" // somebody has to do something
)

// Failure is why a task failed.
type Failure struct {
	Code      codes.Code
	Words     string
	Retryable bool // asking again may help
	Declined  bool // the target system or its connector refused on purpose
	Lost      bool // no answer came: it may have been done
}

// Failure tells why a task failed or was cancelled; nil if it didn't or wasn't.
func (t Task) Failure() *Failure {
	if t.State != TaskFailed && t.State != TaskCancelled {
		return nil
	}
	failure := &Failure{Code: t.Code, Words: t.Error, Retryable: passes(t.Code, t.Error)}
	var detail status.Status
	if len(t.response) == 0 || proto.Unmarshal(t.response, &detail) != nil {
		failure.Lost = t.Code == codes.DeadlineExceeded && t.Attempts > 0
		return failure
	}
	failure.Retryable = passes(codeOf(&detail), detail.GetMessage())
	if reason, ok := grants.GrantCancelledReasonFromStatus(grpcstatus.FromProto(&detail)); ok {
		failure.Declined = true
		failure.Words = "it was refused: " + clean(strings.TrimSpace(reason), 2000)
	}
	return failure
}

// ResultOf is the result of a task that is done, of the type that belongs to its
// request: ResultOf[GrantResult](task).
func ResultOf[T any](t Task) (T, error) {
	var none T
	result, err := t.result()
	if err != nil {
		return none, err
	}
	typed, ok := result.(T)
	if !ok {
		return none, fmt.Errorf("the result of a task %s is %T, not %T", t.Kind, result, none)
	}
	return typed, nil
}

// answer is what a connector answered to a task that is done; nil if its kind has
// no answer.
func (t Task) answer() (proto.Message, error) {
	if t.State != TaskDone {
		return nil, fault.New(fault.NotReady, "the task %s is %s: it has no result", t.ID, t.State)
	}
	message := t.Kind.answer()
	if message == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	var packed anypb.Any
	if err := proto.Unmarshal(t.response, &packed); err != nil {
		return nil, fmt.Errorf("read the answer to task %s: %w", t.ID, err)
	}
	if err := packed.UnmarshalTo(message); err != nil {
		return nil, fmt.Errorf("read the answer to task %s: %w", t.ID, err)
	}
	return message, nil
}

func (t Task) result() (any, error) {
	message, err := t.answer()
	if err != nil {
		return nil, err
	}
	switch answer := message.(type) {
	case *v2.GrantManagerServiceGrantResponse:
		result := GrantResult{Grants: answer.GetGrants(), AlreadyExists: has(answer.GetAnnotations(), &v2.GrantAlreadyExists{})}
		if replaced := (&v2.GrantReplaced{}); has(answer.GetAnnotations(), replaced) {
			result.Replaced = replaced.GetReplacedGrantId()
		}
		return result, nil
	case *v2.GrantManagerServiceRevokeResponse:
		result := RevokeResult{AlreadyRevoked: has(answer.GetAnnotations(), &v2.GrantAlreadyRevoked{})}
		if deleted := (&v2.ResourceDeleted{}); has(answer.GetAnnotations(), deleted) {
			result.Deleted = deleted.GetResourceId()
		}
		return result, nil
	case *v2.CreateAccountResponse:
		return account(answer), nil
	case *v2.CreateResourceResponse:
		return ResourceResult{Resource: answer.GetCreated()}, nil
	case *v2.RotateCredentialResponse:
		return CredentialResult{ID: answer.GetResourceId(), Secrets: names(answer.GetEncryptedData())}, nil
	case *v2.IssueCredentialResponse:
		return CredentialResult{
			ID: answer.GetSecret().GetId(), Secret: answer.GetSecret(), Secrets: names(answer.GetEncryptedData()),
			Virtual: answer.GetResourceMode() == v2.CredentialResourceMode_CREDENTIAL_RESOURCE_MODE_VIRTUAL,
		}, nil
	case *v2.ListActionSchemasResponse:
		return ActionsResult{Schemas: answer.GetSchemas()}, nil
	case *v2.GetActionSchemaResponse:
		return ActionsResult{Schemas: []*v2.BatonActionSchema{answer.GetSchema()}}, nil
	case *v2.InvokeActionResponse:
		return ActionResult{ID: answer.GetId(), Status: answer.GetStatus(), Response: answer.GetResponse()}, nil
	case *v2.GetActionStatusResponse:
		return ActionResult{ID: answer.GetId(), Status: answer.GetStatus(), Response: answer.GetResponse()}, nil
	case *v2.ListEventFeedsResponse:
		return FeedsResult{Feeds: answer.GetList()}, nil
	case *v2.ListEventsResponse:
		return EventsResult{Events: answer.GetEvents(), Cursor: answer.GetCursor(), More: answer.GetHasMore()}, nil
	}
	return Done{}, nil
}

func account(answer *v2.CreateAccountResponse) AccountResult {
	result := AccountResult{Secrets: names(answer.GetEncryptedData())}
	switch {
	case answer.HasSuccess():
		result.Outcome, result.Account = AccountCreated, answer.GetSuccess().GetResource()
		if until := answer.GetSuccess().GetInvitationExpiresAt(); until != nil {
			result.ExpiresAt = until.AsTime()
		}
	case answer.HasAlreadyExists():
		result.Outcome, result.Account = AccountExisted, answer.GetAlreadyExists().GetResource()
	case answer.HasInProgress():
		result.Outcome, result.Account = AccountPending, answer.GetInProgress().GetResource()
	default:
		result.Outcome, result.Account = AccountToFinish, answer.GetActionRequired().GetResource()
		result.Message = answer.GetActionRequired().GetMessage()
	}
	return result
}

// sealed is what of an answer is secret.
func sealed(message proto.Message) []*v2.EncryptedData {
	if answer, ok := message.(interface{ GetEncryptedData() []*v2.EncryptedData }); ok {
		return answer.GetEncryptedData()
	}
	return nil
}

func names(list []*v2.EncryptedData) []string {
	var out []string
	for _, one := range list {
		out = append(out, one.GetName())
	}
	return out
}

// has finds an annotation, and reads it.
func has(list []*anypb.Any, message proto.Message) bool {
	for _, one := range list {
		if one.MessageIs(message) {
			return one.UnmarshalTo(message) == nil
		}
	}
	return false
}

// pack is a message in bytes; one that can't be packed is nothing.
func pack(message proto.Message) []byte {
	packed, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil
	}
	return packed
}

// plain takes off what the SDK puts around a message.
func plain(message string) string {
	message = strings.ReplaceAll(message, "task failed and is non-retryable", "")
	for {
		before, after, found := strings.Cut(message, "rpc error: code = ")
		if !found {
			break
		}
		_, after, found = strings.Cut(after, " desc = ")
		if !found {
			break
		}
		message = before + after
	}
	return clean(strings.TrimSpace(message), 2000)
}

const provisioningOff = "provisioning is not enabled"

// words says a connector's error.
func words(code codes.Code, message string) string {
	intro := ""
	switch code { //nolint:exhaustive // the message of the others says it all
	case codes.FailedPrecondition:
		if strings.Contains(message, provisioningOff) {
			return "provisioning is off: start the connector with --provisioning (BATON_PROVISIONING=true)"
		}
	case codes.Unauthenticated:
		intro = "the target system refused the connector's credentials: check its settings"
	case codes.PermissionDenied:
		intro = "the connector's account in the target system lacks a permission"
	case codes.Unavailable:
		intro = "the target system can't be reached"
	case codes.DeadlineExceeded:
		intro = "the target system didn't answer in time"
	case codes.ResourceExhausted:
		intro = "the target system limits how much may be asked of it"
	case codes.Unimplemented:
		intro = "the connector can't do this"
	}
	switch {
	case message == "" && intro == "":
		return "the connector failed without a message (" + code.String() + ")"
	case message == "":
		return intro
	case intro == "":
		return message
	}
	return intro + ": " + message
}

// problem is what a failed sync says of its connector.
func problem(code codes.Code, text string) Problem {
	switch code { //nolint:exhaustive // the others are just failures
	case codes.Unauthenticated, codes.PermissionDenied:
		return Problem{Kind: Refused, Words: text}
	case codes.Unavailable, codes.DeadlineExceeded:
		return Problem{Kind: Unreachable, Words: text}
	}
	return Problem{Kind: SyncFailed, Words: text}
}

// span says a duration: 90s, 30m, 12h, 10 days.
func span(d time.Duration) string {
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
