package web

import (
	"context"

	"airlock/internal/identity"
)

// SessionsOf finds sessions among those who signed in.
func SessionsOf(signIns *identity.SignIns) func(ctx context.Context, token string) (Session, error) {
	return func(ctx context.Context, token string) (Session, error) {
		found, actor, err := signIns.Session(ctx, token)
		if err != nil {
			return Session{}, err
		}
		return Session{ID: found.ID, Actor: actor, Name: actor.Name, Email: found.Email, Role: identity.RolesOf(actor).Title()}, nil
	}
}
