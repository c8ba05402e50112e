package integration

import (
	"context"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// canChange is whether somebody may ask a connector for something, cancel it, or see
// the secrets that came of it: nobody for their own account.
func (s *Service) canChange(ctx context.Context, q db.Querier, actor identity.Actor, action identity.Action, object identity.Object, asked *baton.Task) error {
	if account := subject(asked); account != nil {
		return inventory.CanChangeNamed(ctx, q, actor, action, object, account.GetResourceType(), account.GetResource())
	}
	if !asked.HasCreateAccount() || actor.Kind != identity.KindPerson {
		return inventory.Can(ctx, q, actor, action, object)
	}
	// An account that isn't there yet is for whom its keys would match it to.
	info := asked.GetCreateAccount().GetAccountInfo()
	keys := identity.Keys{Usernames: append(info.GetLoginAliases(), info.GetLogin())}
	for _, email := range info.GetEmails() {
		keys.Emails = append(keys.Emails, email.GetAddress())
	}
	personID, _, err := s.identity.Match(ctx, q, keys, true)
	if err != nil {
		return err
	}
	object.SubjectID = personID
	if err := inventory.Can(ctx, q, actor, action, object); err != nil {
		return err
	}
	if personID == "" && identity.Can(actor, action, object) != nil {
		return fault.New(fault.Forbidden, "nobody knows whom the new account is for, and it could be yourself: ask a Super Admin; nothing was changed")
	}
	return nil
}

// subject is the principal or account that a task is about; nil if it is about none
// that is there.
func subject(asked *baton.Task) *v2.ResourceId {
	switch {
	case asked.HasGrant():
		return asked.GetGrant().GetPrincipal().GetId()
	case asked.HasRevoke():
		return asked.GetRevoke().GetGrant().GetPrincipal().GetId()
	case asked.HasDeleteResource():
		return asked.GetDeleteResource().GetResourceId()
	case asked.HasRotateCredentials():
		return asked.GetRotateCredentials().GetResourceId()
	case asked.HasIssueCredential():
		return asked.GetIssueCredential().GetIdentityId()
	}
	return nil
}
