package insight

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// Right is an entitlement with what it lets one do.
type Right struct {
	inventory.EntitlementItem
	Meaning Meaning
}

// Judged is the risk of a right: the one that somebody set, or that of the riskiest
// thing it lets one do.
func (r Right) Judged() (risk inventory.Risk, byHand bool) {
	if r.Risk != "" {
		return r.Risk, true
	}
	return r.Meaning.Risk, false
}

// MostJudged is how many entitlements are judged to sort or filter them by risk.
const MostJudged = 500

// Rights lists entitlements of an app with what they let one do. By risk are sorted
// those that it is judged of, whether somebody set it or not; the risk of the query
// is the least one that is wanted. The first MostJudged by name are judged: where
// there are more, the page is Partial.
func (s *Service) Rights(ctx context.Context, actor identity.Actor, stock *inventory.Service, query inventory.EntitlementQuery,
	order inventory.Order, after inventory.Key, limit int,
) (inventory.Page[Right], error) {
	if order.By == inventory.ByRisk || query.Risk != "" {
		return s.judged(ctx, actor, stock, query, order, after, limit)
	}
	page, err := stock.EntitlementList(ctx, actor, query, order, after, limit)
	if err != nil {
		return inventory.Page[Right]{}, err
	}
	rows, err := s.rights(ctx, actor, query.AppID, page.Rows)
	return inventory.Page[Right]{Rows: rows, Next: page.Next, Partial: page.Partial}, err
}

// judged is Rights where all have to be judged first.
func (s *Service) judged(ctx context.Context, actor identity.Actor, stock *inventory.Service, query inventory.EntitlementQuery,
	order inventory.Order, after inventory.Key, limit int,
) (inventory.Page[Right], error) {
	least := level(query.Risk)
	query.Risk = ""
	page := inventory.Page[Right]{}
	var items []inventory.EntitlementItem
	for from := (inventory.Key{}); ; {
		some, err := stock.EntitlementList(ctx, actor, query, inventory.Order{}, from, MostJudged-len(items))
		if err != nil {
			return page, err
		}
		items, from = append(items, some.Rows...), some.Next
		if page.Partial = some.Partial || from != (inventory.Key{}); from == (inventory.Key{}) || len(items) >= MostJudged || some.Partial {
			break
		}
	}
	rows, err := s.rights(ctx, actor, query.AppID, items)
	if err != nil {
		return page, err
	}
	rows = slices.DeleteFunc(rows, func(r Right) bool {
		risk, _ := r.Judged()
		return level(risk) < least
	})
	slices.SortStableFunc(rows, func(a, b Right) int {
		riskA, _ := a.Judged()
		riskB, _ := b.Judged()
		by := 0
		switch order.By {
		case inventory.ByRisk:
			by = cmp.Compare(level(riskA), level(riskB))
		case inventory.ByHolders:
			by = cmp.Compare(a.Grants, b.Grants)
		case inventory.ByName, inventory.ByLastLogin:
			by = strings.Compare(a.Title(), b.Title())
		}
		if order.Falling {
			by = -by
		}
		return cmp.Or(by, strings.Compare(a.Title(), b.Title()), strings.Compare(a.ID, b.ID))
	})
	begin, _ := strconv.Atoi(after.ID) // a place among the judged: what isn't one is the start
	begin = min(max(begin, 0), len(rows))
	end := min(begin+limit, len(rows))
	if end < len(rows) {
		page.Next = inventory.Key{ID: strconv.Itoa(end)}
	}
	page.Rows = rows[begin:end]
	return page, nil
}

// rights says what entitlements let one do.
func (s *Service) rights(ctx context.Context, actor identity.Actor, appID string, items []inventory.EntitlementItem) ([]Right, error) {
	ids := make([]string, len(items))
	for n, one := range items {
		ids[n] = one.ID
	}
	meanings, err := s.Meanings(ctx, actor, appID, ids)
	if err != nil {
		return nil, err
	}
	rows := make([]Right, len(items))
	for n, one := range items {
		rows[n] = Right{one, meanings[one.ID]}
	}
	return rows, nil
}

// Holding is a grant with what it lets one do.
type Holding struct {
	inventory.GrantItem
	Meaning Meaning
}

// Judged is the risk of what is held, as that of a Right.
func (h Holding) Judged() (risk inventory.Risk, byHand bool) {
	return Right{EntitlementItem: inventory.EntitlementItem{Entitlement: inventory.Entitlement{Rules: inventory.Rules{Risk: h.Risk}}}, Meaning: h.Meaning}.Judged()
}

// Holdings says what grants let one do, as far as the actor may know that of the
// app.
func (s *Service) Holdings(ctx context.Context, actor identity.Actor, grants []inventory.GrantItem) ([]Holding, error) {
	byApp := map[string][]string{}
	for _, grant := range grants {
		byApp[grant.AppID] = append(byApp[grant.AppID], grant.EntitlementID)
	}
	meanings := map[string]Meaning{}
	for appID, ids := range byApp {
		some, err := s.Meanings(ctx, actor, appID, ids)
		if err != nil && !fault.Is(err, fault.Forbidden) {
			return nil, err
		}
		maps.Copy(meanings, some)
	}
	list := make([]Holding, len(grants))
	for n, grant := range grants {
		list[n] = Holding{grant, meanings[grant.EntitlementID]}
	}
	return list, nil
}
