package admin

import (
	"context"
	"time"

	"airlock/internal/identity"
)

// CreateAdmin asks for a Super Admin with a password; one who is there gets it.
type CreateAdmin struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// RoleRow is a product role that somebody has.
type RoleRow struct {
	PersonID string    `json:"person_id"`
	Name     string    `json:"name"`
	Email    string    `json:"email"`
	Status   string    `json:"status"` // of the person
	Role     string    `json:"role"`
	Source   string    `json:"source"` // hand, oidc
	Since    time.Time `json:"since"`
}

// Roles lists who has which product role, the mightiest first.
func Roles(ctx context.Context, signIns *identity.SignIns) ([]RoleRow, error) {
	list, err := signIns.RoleHoldings(ctx, identity.Operator(), "")
	rows := []RoleRow{}
	for _, h := range list {
		rows = append(rows, RoleRow{PersonID: h.PersonID, Name: h.Name, Email: h.Email, Status: h.Status, Role: h.Role.String(), Source: h.Source, Since: h.AddedAt})
	}
	return rows, err
}

func (d *door) createAdmin(ctx context.Context, in CreateAdmin, _ *Stream) (any, error) {
	return d.SignIns.AdminCreate(ctx, d.actor, in.Email, in.Name, in.Password)
}

func (d *door) roles(ctx context.Context, _ nothing, _ *Stream) (any, error) {
	return Roles(ctx, d.SignIns)
}
