package integration

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// learn finds what a connector is by what it says of itself: the package that it was
// built of, or else its display name. Of "Vendor Product" the words from the product
// on count too, if there is anything known of such.
func (s *Service) learn(pkg, displayName string) string {
	for _, part := range slices.Backward(strings.Split(pkg, "/")) {
		if kind, ok := strings.CutPrefix(part, "baton-"); ok && kind != "" {
			return clean(kind, 100)
		}
	}
	whole := strings.Trim(notWords.ReplaceAllString(identity.Fold(clean(displayName, 100)), "-"), "-")
	for kind := whole; kind != "" && s.known != nil; _, kind, _ = strings.Cut(kind, "-") {
		if s.known(kind) {
			return kind
		}
	}
	return whole
}

var notWords = regexp.MustCompile(`[^\p{L}\p{N}]+`)

// nameByItself names a connector that was added before anybody knew what it is, and
// its app, by what it calls itself, once its first sync is applied; unless somebody
// named them.
func (s *Service) nameByItself(ctx context.Context, tx *db.Tx, c *Connector, sync Sync) error {
	if c.Catalog != AnyCatalog {
		return nil
	}
	before, err := db.Value[int64](ctx, tx, `SELECT COUNT(*) FROM sync WHERE connector_id = $1 AND state = $2 AND kind <> $3 AND id <> $4`,
		c.ID, Applied, Partial, sync.ID)
	name := identity.Shown(c.said().GetDisplayName(), 150)
	if _, bad := named(name); err != nil || before > 0 || bad != nil {
		return err
	}
	if err := s.inventory.NameFirst(ctx, tx, identity.System(), c.AppID, firstName, name); err != nil {
		return err
	}
	if !firstName.MatchString(c.Name) {
		return nil
	}
	was, free := c.Name, name
	for n := 2; ; n++ {
		taken, err := nameTaken(ctx, tx, free)
		if err != nil {
			return err
		}
		if !taken {
			break
		}
		free = fmt.Sprintf("%s %d", name, n)
	}
	c.Name = free
	return s.record(ctx, tx, identity.System(), "connector.renamed", *c, map[string]any{"before": was})
}

// firstName is how a connector and its app are called that were added without a
// name, since nobody knew what it is.
var firstName = regexp.MustCompile(`^Baton( [0-9]+)?$`)

func nameTaken(ctx context.Context, q db.Querier, name string) (bool, error) {
	return db.Value[bool](ctx, q, `SELECT EXISTS (SELECT 1 FROM connector WHERE name_key = $1)`, inventory.Fold(name))
}
