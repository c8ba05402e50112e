package ingest

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// The longest texts that are kept, in bytes. Ids that are longer are refused, as
// Baton's own rules do; other texts are cut.
const (
	longestID          = 1024
	longestName        = 1024
	longestDescription = 4096
	longestProfile     = 256 << 10
	longestMessage     = 1 << 20 // of a resource or an entitlement as it was sent
	mostKeys           = 100     // e-mails, logins and employee ids of an account, each
)

// digest is what tells whether a connector sent something else than before.
type digest [16]byte

func digestOf(source []byte) digest {
	sum := sha256.Sum256(source)
	return digest(sum[:16])
}

// canonical is a message in the one form that equal messages have. Maps within
// annotations come in any order, since connectors pack them so.
func canonical(message proto.Message, annotations []*anypb.Any) ([]byte, error) {
	deterministic := proto.MarshalOptions{Deterministic: true}
	for _, annotation := range annotations {
		inner, err := annotation.UnmarshalNew()
		if err != nil {
			continue // a kind of annotation that we don't know stays as it is
		}
		if annotation.Value, err = deterministic.Marshal(inner); err != nil {
			return nil, err
		}
	}
	return deterministic.Marshal(message)
}

// canonicalEntitlement is canonical for an entitlement, whose resource and types
// are only named: the two forms of file differ in that.
func canonicalEntitlement(e *v2.Entitlement) ([]byte, error) {
	e.SetResource(v2.Resource_builder{Id: e.GetResource().GetId()}.Build())
	types := make([]*v2.ResourceType, len(e.GetGrantableTo()))
	for n, t := range e.GetGrantableTo() {
		types[n] = v2.ResourceType_builder{Id: t.GetId()}.Build()
	}
	e.SetGrantableTo(types)
	return canonical(e, e.GetAnnotations())
}

// annotation finds the first annotation of a kind.
func annotation[M proto.Message](list []*anypb.Any, into M) (M, bool) {
	for _, one := range list {
		if one.MessageIs(into) {
			return into, one.UnmarshalTo(into) == nil
		}
	}
	return into, false
}

// resourceRow is a resource as it is kept. Its ids are the caller's.
func resourceRow(r *v2.Resource, userType bool, source []byte) inventory.ResourceRow {
	user, hasUser := annotation(r.GetAnnotations(), &v2.UserTrait{})
	hash := digestOf(source)
	profile := profileOf(r)
	row := inventory.ResourceRow{
		ExternalID:  r.GetId().GetResource(),
		Name:        clean(r.GetDisplayName(), longestName),
		Description: clean(r.GetDescription(), longestDescription),
		Profile:     profile, Source: source, Hash: hash[:],
	}
	if row.Name == "" {
		row.Name = row.ExternalID
	}
	found := []string{row.Name, row.ExternalID}
	if hasUser || userType {
		row.Account = account(r, user)
		found = append(append(found, row.Account.Keys.Emails...), row.Account.Keys.Usernames...)
		found = append(found, row.Account.Keys.EmployeeIDs...)
	}
	row.Search = search(found...)
	return row
}

// search is the text that something is found by.
func search(texts ...string) string {
	folded := make([]string, 0, len(texts))
	for _, text := range texts {
		if text = inventory.Fold(text); text != "" && !slices.Contains(folded, text) {
			folded = append(folded, text)
		}
	}
	return clean(strings.Join(folded, "\n"), longestDescription)
}

// account is what a user is besides a resource. What a resource tells of itself
// goes before what its trait tells: newer connectors leave that empty.
func account(r *v2.Resource, user *v2.UserTrait) *inventory.AccountRow {
	a := &inventory.AccountRow{
		Login:     clean(user.GetLogin(), longestName),
		Kind:      inventory.UnknownKind,
		Status:    inventory.UnknownStatus,
		CreatedAt: at(r.GetCreatedAt(), user.GetCreatedAt()), //nolint:staticcheck // older connectors have it there

		LastLoginAt: at(user.GetLastLogin()),
	}
	emails := slices.Clone(user.GetEmails())
	slices.SortStableFunc(emails, func(a, b *v2.UserTrait_Email) int {
		switch {
		case a.GetIsPrimary() == b.GetIsPrimary():
			return 0
		case a.GetIsPrimary():
			return -1
		}
		return 1
	})
	var addresses []string
	for _, email := range emails {
		addresses = append(addresses, email.GetAddress())
	}
	a.Keys = identity.Keys{
		Emails:      texts(addresses),
		Usernames:   texts(append([]string{user.GetLogin()}, user.GetLoginAliases()...)),
		EmployeeIDs: texts(user.GetEmployeeIds()),
	}
	if len(a.Keys.Emails) > 0 {
		a.Email = a.Keys.Emails[0]
	}
	if len(a.Keys.EmployeeIDs) > 0 {
		a.EmployeeID = a.Keys.EmployeeIDs[0]
	}
	switch user.GetAccountType() {
	case v2.UserTrait_ACCOUNT_TYPE_HUMAN:
		a.Kind = inventory.Human
	case v2.UserTrait_ACCOUNT_TYPE_SERVICE:
		a.Kind = inventory.ServiceKind
	case v2.UserTrait_ACCOUNT_TYPE_SYSTEM:
		a.Kind = inventory.SystemKind
	case v2.UserTrait_ACCOUNT_TYPE_UNSPECIFIED:
	}
	// The numbers of both enumerations are the same.
	status, detail := int32(r.GetStatus().GetStatus()), r.GetStatus().GetDetails()
	if status == 0 {
		status, detail = int32(user.GetStatus().GetStatus()), user.GetStatus().GetDetails() //nolint:staticcheck // older connectors have it there
	}
	switch v2.Status_ResourceStatus(status) {
	case v2.Status_RESOURCE_STATUS_ENABLED:
		a.Status = inventory.Enabled
	case v2.Status_RESOURCE_STATUS_DISABLED:
		a.Status = inventory.Disabled
	case v2.Status_RESOURCE_STATUS_DELETED:
		a.Status = inventory.Deleted
	case v2.Status_RESOURCE_STATUS_UNSPECIFIED:
	}
	a.StatusDetail = clean(detail, longestName)
	return a
}

// texts are a few texts, without empty ones and without one twice.
func texts(list []string) []string {
	var out []string
	for _, text := range list {
		text = clean(text, longestName)
		if text != "" && len(out) < mostKeys && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// at is the first time that is told.
func at(list ...*timestamppb.Timestamp) time.Time {
	for _, one := range list {
		if one.CheckValid() == nil && one.AsTime().Unix() != 0 {
			return one.AsTime().Truncate(time.Microsecond)
		}
	}
	return time.Time{}
}

// profileOf is a resource's profile as JSON: its own, else that of its trait.
func profileOf(r *v2.Resource) string {
	profile := profileStruct(r)
	if profile == nil {
		return "{}"
	}
	text, err := json.Marshal(profile.AsMap())
	if err != nil || len(text) > longestProfile {
		return "{}" // checked before: this doesn't happen
	}
	return string(text)
}

func profileStruct(r *v2.Resource) *structpb.Struct {
	if own := r.GetProfile(); len(own.GetFields()) > 0 {
		return own
	}
	type profiled interface{ GetProfile() *structpb.Struct }
	for _, one := range r.GetAnnotations() {
		inner, err := one.UnmarshalNew()
		if err != nil {
			continue
		}
		if trait, ok := inner.(profiled); ok && len(trait.GetProfile().GetFields()) > 0 {
			return trait.GetProfile()
		}
	}
	return nil
}

// clean makes a text storable: whole letters, no NUL (PostgreSQL refuses it), not
// too long.
func clean(text string, longest int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest-len("…")], "") + "…"
}

// entitlementRow is an entitlement as it is kept. Its ids are the caller's.
func entitlementRow(e *v2.Entitlement, resourceName string, source []byte) inventory.EntitlementRow {
	_, immutable := annotation(e.GetAnnotations(), &v2.EntitlementImmutable{})
	hash := digestOf(source)
	row := inventory.EntitlementRow{
		ExternalID:  e.GetId(),
		Slug:        clean(e.GetSlug(), longestName),
		Name:        clean(e.GetDisplayName(), longestName),
		Description: clean(e.GetDescription(), longestDescription),
		Purpose:     "unspecified", GrantableTo: []string{}, Immutable: immutable, Source: source, Hash: hash[:],
	}
	switch e.GetPurpose() {
	case v2.Entitlement_PURPOSE_VALUE_ASSIGNMENT:
		row.Purpose = "assignment"
	case v2.Entitlement_PURPOSE_VALUE_PERMISSION:
		row.Purpose = "permission"
	case v2.Entitlement_PURPOSE_VALUE_OWNERSHIP:
		row.Purpose = "ownership"
	case v2.Entitlement_PURPOSE_VALUE_UNSPECIFIED:
	}
	for _, kind := range e.GetGrantableTo() {
		if text := clean(kind.GetId(), longestID); text != "" && len(row.GrantableTo) < mostKeys {
			row.GrantableTo = append(row.GrantableTo, text)
		}
	}
	if row.Slug == "" {
		row.Slug = e.GetId()[strings.LastIndexByte(e.GetId(), ':')+1:]
	}
	if row.Name == "" {
		row.Name = row.Slug
	}
	row.Search = search(row.Name, row.ExternalID, row.Slug, resourceName)
	return row
}

// sizeOf is how long a profile is as JSON.
func sizeOf(profile *structpb.Struct) int {
	if profile == nil {
		return 0
	}
	text, err := json.Marshal(profile.AsMap())
	if err != nil {
		return longestProfile + 1
	}
	return len(text)
}
