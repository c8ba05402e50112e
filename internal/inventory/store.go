package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/id"
	"airlock/internal/identity"
)

// filters builds the conditions of a list.
type filters struct {
	words []string
	args  []any
}

// add adds a condition, in which each ? stands for the argument.
func (f *filters) add(words string, arg any) {
	f.args = append(f.args, arg)
	f.words = append(f.words, strings.ReplaceAll(words, "?", fmt.Sprintf("$%d", len(f.args))))
}

// app wants rows of an app, or of all ("").
func (f *filters) app(table, appID string) {
	if appID == "" {
		f.words = append(f.words, table+presentApp)
		return
	}
	f.add(table+"app_id = ?", appID)
}

// only wants rows of some apps, or of all (nil).
func (f *filters) only(column string, apps []string) {
	switch {
	case apps == nil:
	case len(apps) == 0:
		f.words = append(f.words, "1 = 0")
	default:
		f.words = append(f.words, column+" IN "+db.In(len(f.args)+1, len(apps)))
		for _, appID := range apps {
			f.args = append(f.args, appID)
		}
	}
}

// after adds the place that a page begins after.
func (f *filters) after(columns string, key Key) {
	if key == (Key{}) {
		return
	}
	f.args = append(f.args, key.Name, key.ID)
	f.words = append(f.words, fmt.Sprintf("(%s) > ($%d, $%d)", columns, len(f.args)-1, len(f.args)))
}

// where writes the conditions.
func (f *filters) where() string {
	if len(f.words) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(f.words, " AND ")
}

func contains(text string) string { return "%" + db.Escape(Fold(text)) + "%" }

// ---- apps

const appColumns = `id, name, managed, source, external_id, description, matching, directory, sync_id, synced_at, created_at, removed_at`

func scanApp(row db.Scanner) (a App, err error) {
	return a, row.Scan(&a.ID, &a.Name, &a.Managed, &a.Source, &a.ExternalID, &a.Description, &a.Matching, &a.Directory,
		&a.SyncID, db.Time(&a.SyncedAt), db.Time(&a.CreatedAt), db.Time(&a.RemovedAt))
}

// present is the condition that an app wasn't removed. One that was stays as a row
// with a key that no name folds to.
const present = `name_key <> 'REMOVED/' || id`

// presentApp is the condition that a row isn't of an app that was removed.
const presentApp = `app_id IN (SELECT id FROM app WHERE ` + present + `)`

func appByID(ctx context.Context, q db.Querier, appID string) (App, error) {
	return db.One(ctx, q, scanApp, `SELECT `+appColumns+` FROM app WHERE id = $1 AND `+present, appID)
}

// appOnRecord finds also an app that was removed.
func appOnRecord(ctx context.Context, q db.Querier, appID string) (App, error) {
	return db.One(ctx, q, scanApp, `SELECT `+appColumns+` FROM app WHERE id = $1`, appID)
}

func appByKey(ctx context.Context, q db.Querier, key string) (App, error) {
	return db.One(ctx, q, scanApp, `SELECT `+appColumns+` FROM app WHERE name_key = $1`, key)
}

func apps(ctx context.Context, q db.Querier, after Key, limit int) ([]App, error) {
	return appsOf(ctx, q, nil, after, limit)
}

// appsOf lists some apps, or all (nil).
func appsOf(ctx context.Context, q db.Querier, only []string, after Key, limit int) ([]App, error) {
	f := filters{words: []string{present}}
	f.only("id", only)
	f.after("name, id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, scanApp, `SELECT `+appColumns+` FROM app`+f.where()+
		fmt.Sprintf(` ORDER BY name, id LIMIT $%d`, len(f.args)), f.args...)
}

func insertApp(ctx context.Context, tx *db.Tx, a App) error {
	_, err := tx.Exec(ctx, `INSERT INTO app (id, name, name_key, managed, source, external_id, description, matching, directory, sync_id, ingest_id, ingest_runs, fence, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', 0, 0, $10)`,
		a.ID, a.Name, Fold(a.Name), a.Managed, a.Source, a.ExternalID, a.Description, a.Matching, a.Directory, a.CreatedAt)
	return err
}

func updateApp(ctx context.Context, tx *db.Tx, a App) error {
	_, err := tx.Exec(ctx, `UPDATE app SET name = $2, name_key = $3, managed = $4, description = $5, matching = $6, directory = $7, removed_at = $8 WHERE id = $1`,
		a.ID, a.Name, Fold(a.Name), a.Managed, a.Description, a.Matching, a.Directory, a.RemovedAt)
	return err
}

// removeApp hides an app, so that its name is free, with what is only its row's.
func removeApp(ctx context.Context, tx *db.Tx, appID string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE app SET name_key = 'REMOVED/' || id, directory = FALSE, removed_at = $2 WHERE id = $1`, appID, now)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM app_owner WHERE app_id = $1`, appID)
	return err
}

// removedApps are apps that were removed, and of which something is left.
func removedApps(ctx context.Context, q db.Querier) ([]string, error) {
	return db.All(ctx, q, scanText, `SELECT id FROM app WHERE NOT (`+present+`) AND (EXISTS (SELECT 1 FROM resource_type t WHERE t.app_id = app.id)
		OR EXISTS (SELECT 1 FROM person p WHERE p.source = app.id))`)
}

// Holdings are what is in an app, in numbers.
type Holdings struct {
	Resources    int64 `json:"resources"`
	Accounts     int64 `json:"accounts"`
	Entitlements int64 `json:"entitlements"`
	Grants       int64 `json:"grants"`
	People       int64 `json:"people"` // whom it tells of as a directory
}

func count(ctx context.Context, q db.Querier, appID string) (h Holdings, err error) {
	return db.One(ctx, q, func(row db.Scanner) (h Holdings, err error) {
		return h, row.Scan(&h.Resources, &h.Accounts, &h.Entitlements, &h.Grants)
	}, `SELECT (SELECT COUNT(*) FROM resource WHERE app_id = $1), (SELECT COUNT(*) FROM account WHERE app_id = $1), (SELECT COUNT(*) FROM entitlement WHERE app_id = $1),
		(SELECT CAST(COALESCE(SUM(grant_count), 0) AS BIGINT) FROM entitlement WHERE app_id = $1)`, appID)
}

// someGrants reads which grants of an app come after one.
func someGrants(ctx context.Context, q db.Querier, appID string, after Pair, limit int) ([]Pair, error) {
	return db.All(ctx, q, func(row db.Scanner) (p Pair, err error) { return p, row.Scan(&p.EntitlementID, &p.PrincipalID) },
		`SELECT entitlement_id, principal_id FROM access_grant WHERE app_id = $1 AND (entitlement_id, principal_id) > ($2, $3)
		ORDER BY entitlement_id, principal_id LIMIT $4`, appID, after.EntitlementID, after.PrincipalID, limit)
}

// leftovers delete some of what is in an app, in an order in which nothing is left
// that refers to what is gone.
var leftovers = []string{ //nolint:gochecknoglobals // a constant
	`DELETE FROM expansion WHERE app_id = $1 AND target_id IN (SELECT target_id FROM expansion WHERE app_id = $1 LIMIT $2)`,
	`DELETE FROM entitlement WHERE id IN (SELECT id FROM entitlement WHERE app_id = $1 LIMIT $2)`,
	`DELETE FROM account WHERE id IN (SELECT id FROM account WHERE app_id = $1 LIMIT $2)`,
	`DELETE FROM resource WHERE id IN (SELECT id FROM resource WHERE app_id = $1 LIMIT $2)`,
	`UPDATE app SET source = 'manual', external_id = '' WHERE id IN (SELECT id FROM app WHERE source = $1 LIMIT $2)`,
	`DELETE FROM resource_type WHERE id IN (SELECT id FROM resource_type WHERE app_id = $1 LIMIT $2)`,
}

// lockApp takes the app's row until the transaction ends: whoever changes its
// grants does so, so that changes through connectors and syncs don't cross.
func lockApp(ctx context.Context, tx *db.Tx, appID string) error {
	locked, err := tx.Exec(ctx, `UPDATE app SET fence = fence WHERE id = $1 AND `+present, appID)
	if err == nil && locked == 0 {
		err = noApp(appID)
	}
	return err
}

func owners(ctx context.Context, q db.Querier, appID string) ([]Owner, error) {
	return db.All(ctx, q, func(row db.Scanner) (o Owner, err error) {
		return o, row.Scan(&o.Kind, &o.ID, &o.Name)
	}, `SELECT o.kind, o.owner_id, COALESCE(p.name, e.name, '') FROM app_owner o
		LEFT JOIN person p ON o.kind = 'person' AND p.id = o.owner_id
		LEFT JOIN entitlement e ON o.kind = 'entitlement' AND e.id = o.owner_id
		WHERE o.app_id = $1 ORDER BY o.kind, o.owner_id`, appID)
}

func ownerExists(ctx context.Context, q db.Querier, owner Owner) (bool, error) {
	query := `SELECT COUNT(*) FROM person WHERE id = $1`
	if owner.Kind == OwnerEntitlement {
		query = `SELECT COUNT(*) FROM entitlement WHERE id = $1`
	} else if owner.Kind != OwnerPerson {
		return false, nil
	}
	count, err := db.Value[int64](ctx, q, query, owner.ID)
	return count > 0, err
}

func setOwners(ctx context.Context, tx *db.Tx, appID string, list []Owner, now time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM app_owner WHERE app_id = $1`, appID); err != nil {
		return err
	}
	for _, owner := range list {
		_, err := tx.Exec(ctx, `INSERT INTO app_owner (app_id, kind, owner_id, added_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (app_id, kind, owner_id) DO NOTHING`, appID, owner.Kind, owner.ID, now)
		if err != nil {
			return err
		}
	}
	return nil
}

// ---- resources and accounts

func types(ctx context.Context, q db.Querier, appID string) ([]Type, error) {
	return db.All(ctx, q, func(row db.Scanner) (t Type, err error) {
		return t, row.Scan(&t.ID, &t.AppID, &t.ExternalID, &t.Name, &t.Description, db.JSON(&t.Traits), db.Time(&t.FirstSeenAt), &t.Resources)
	}, `SELECT t.id, t.app_id, t.external_id, t.name, t.description, t.traits, t.first_seen_at,
			(SELECT COUNT(*) FROM resource r WHERE r.app_id = t.app_id AND r.type_id = t.id)
		FROM resource_type t WHERE t.app_id = $1 ORDER BY t.external_id`, appID)
}

const resourceColumns = `r.id, r.app_id, r.type_id, t.external_id, r.external_id, r.parent_id, r.name, r.description, r.profile, r.first_seen_at, r.changed_at`

func (r *Resource) targets() []any {
	return []any{&r.ID, &r.AppID, &r.TypeID, &r.Type, &r.ExternalID, &r.ParentID, &r.Name, &r.Description, db.JSON(&r.Profile), db.Time(&r.FirstSeenAt), db.Time(&r.ChangedAt)}
}

func scanResource(row db.Scanner) (r Resource, err error) { return r, row.Scan(r.targets()...) }

func resources(ctx context.Context, q db.Querier, filter ResourceFilter, after Key, limit int) ([]Resource, error) {
	var f filters
	f.app("r.", filter.AppID)
	f.only("r.app_id", filter.only)
	if filter.TypeID != "" {
		f.add("r.type_id = ?", filter.TypeID)
	}
	if filter.Search != "" {
		f.add("r.search LIKE ? ESCAPE '!'", contains(filter.Search))
	}
	f.after("r.name, r.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, scanResource, `SELECT `+resourceColumns+` FROM resource r JOIN resource_type t ON t.id = r.type_id`+f.where()+
		fmt.Sprintf(` ORDER BY r.name, r.id LIMIT $%d`, len(f.args)), f.args...)
}

func resourceByID(ctx context.Context, q db.Querier, resourceID string) (Resource, error) {
	return db.One(ctx, q, scanResource, `SELECT `+resourceColumns+` FROM resource r JOIN resource_type t ON t.id = r.type_id WHERE r.id = $1`, resourceID)
}

// found is a resource that a name could mean.
type found struct {
	Resource
	account bool
}

func resourcesByExternalID(ctx context.Context, q db.Querier, appID, externalID string) ([]found, error) {
	scan := func(row db.Scanner) (one found, err error) {
		return one, row.Scan(append(one.targets(), &one.account)...)
	}
	const query = `SELECT ` + resourceColumns + `, a.id IS NOT NULL FROM resource r
		JOIN resource_type t ON t.id = r.type_id LEFT JOIN account a ON a.id = r.id WHERE r.app_id = $1 AND `
	list, err := db.All(ctx, q, scan, query+`r.external_id = $2 ORDER BY t.external_id`, appID, externalID)
	kind, rest, typed := strings.Cut(externalID, ":")
	if err != nil || len(list) > 0 || !typed {
		return list, err
	}
	return db.All(ctx, q, scan, query+`t.external_id = $2 AND r.external_id = $3`, appID, kind, rest)
}

// resourcesNamed finds what is called so. It looks at each resource of the app
// whose folded text has the name in it.
func resourcesNamed(ctx context.Context, q db.Querier, appID, name string) ([]found, error) {
	wanted, list := Fold(name), []found(nil)
	err := db.Each(ctx, q, func(row db.Scanner) error {
		var one found
		var keys identity.Keys
		if err := row.Scan(append(one.targets(), &one.account, db.JSON(&keys))...); err != nil {
			return err
		}
		for _, text := range append(append([]string{one.Name}, keys.Emails...), keys.Usernames...) {
			if Fold(text) == wanted {
				list = append(list, one)
				break
			}
		}
		return nil
	}, `SELECT `+resourceColumns+`, a.id IS NOT NULL, COALESCE(a.keys, '') FROM resource r
		JOIN resource_type t ON t.id = r.type_id LEFT JOIN account a ON a.id = r.id
		WHERE r.app_id = $1 AND r.search LIKE $2 ESCAPE '!' ORDER BY t.external_id, r.external_id`, appID, contains(name))
	return list, err
}

const accountQuery = `SELECT ` + resourceColumns + `, a.login, a.email, a.employee_id, a.kind, a.kind_by_hand, a.status, a.status_detail,
	a.last_login_at, a.created_at, a.person_id, COALESCE(p.name, ''), COALESCE(p.status, ''), a.matched_by, a.matched_at
	FROM account a JOIN resource r ON r.id = a.id JOIN resource_type t ON t.id = r.type_id LEFT JOIN person p ON p.id = a.person_id`

func scanAccount(row db.Scanner) (a Account, err error) {
	return a, row.Scan(append(a.targets(), &a.Login, &a.Email, &a.EmployeeID, &a.Kind, &a.KindByHand, &a.Status, &a.StatusDetail,
		db.Time(&a.LastLoginAt), db.Time(&a.CreatedAt), &a.PersonID, &a.PersonName, &a.PersonStatus, &a.MatchedBy, db.Time(&a.MatchedAt))...)
}

func accounts(ctx context.Context, q db.Querier, filter AccountFilter, after Key, limit int) ([]Account, error) {
	var f filters
	f.app("r.", filter.AppID)
	f.only("r.app_id", filter.only)
	if filter.PersonID != "" {
		f.add("a.person_id = ?", filter.PersonID)
	}
	if filter.Kind != "" {
		f.add("a.kind = ?", filter.Kind)
	}
	if filter.Status != "" {
		f.add("a.status = ?", filter.Status)
	}
	if filter.Unmatched {
		f.words = append(f.words, "a.person_id = ''")
	}
	if filter.Orphaned {
		f.words = append(f.words, "p.status IN ('disabled', 'deleted')")
	}
	if filter.Search != "" {
		f.add("r.search LIKE ? ESCAPE '!'", contains(filter.Search))
	}
	f.after("r.name, r.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, scanAccount, accountQuery+f.where()+fmt.Sprintf(` ORDER BY r.name, r.id LIMIT $%d`, len(f.args)), f.args...)
}

func accountByID(ctx context.Context, q db.Querier, accountID string) (Account, error) {
	return db.One(ctx, q, scanAccount, accountQuery+` WHERE a.id = $1`, accountID)
}

func setPerson(ctx context.Context, tx *db.Tx, accountID, personID, by string, at time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE account SET person_id = $2, matched_by = $3, matched_at = $4 WHERE id = $1`, accountID, personID, by, at)
	return err
}

func setKind(ctx context.Context, tx *db.Tx, accountID string, kind AccountKind) error {
	_, err := tx.Exec(ctx, `UPDATE account SET kind = $2, kind_by_hand = TRUE WHERE id = $1`, accountID, kind)
	return err
}

// matchable is an account that nobody matched by hand.
type matchable struct {
	id, personID, by string
	keys             identity.Keys
}

func scanMatchable(row db.Scanner) (m matchable, err error) {
	return m, row.Scan(&m.id, &m.personID, &m.by, db.JSON(&m.keys))
}

// matchables reads some accounts of an app, without those that were matched by hand.
func matchables(ctx context.Context, q db.Querier, appID string, ids []string) ([]matchable, error) {
	args := []any{appID, ByHand}
	for _, one := range ids {
		args = append(args, one)
	}
	return db.All(ctx, q, scanMatchable, `SELECT id, person_id, matched_by, keys FROM account
		WHERE app_id = $1 AND matched_by <> $2 AND id IN `+db.In(3, len(ids)), args...)
}

// accountIDs reads the ids of an app's accounts after one.
func accountIDs(ctx context.Context, q db.Querier, appID, after string, limit int) ([]string, error) {
	return db.All(ctx, q, scanText, `SELECT id FROM account WHERE app_id = $1 AND id > $2 ORDER BY id LIMIT $3`, appID, after, limit)
}

func scanText(row db.Scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// setMatches writes whose accounts are, unless somebody said so meanwhile.
func setMatches(ctx context.Context, tx *db.Tx, list []matchable, now time.Time) error {
	for some := range slices.Chunk(list, 500) {
		var rows strings.Builder
		args := []any{now, ByHand}
		for n, m := range some {
			if n > 0 {
				rows.WriteString(", ")
			}
			rows.WriteString(db.In(len(args)+1, 3))
			args = append(args, m.id, m.personID, m.by)
		}
		_, err := tx.Exec(ctx, `WITH found (id, person_id, kind) AS (VALUES `+rows.String()+`)
			UPDATE account SET person_id = found.person_id, matched_by = found.kind, matched_at = CASE WHEN found.person_id = '' THEN NULL ELSE CAST($1 AS BIGINT) END
			FROM found WHERE account.id = found.id AND account.matched_by <> $2`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// ---- entitlements

const entitlementQuery = `SELECT e.id, e.app_id, e.resource_id, COALESCE(r.name, ''), COALESCE(t.external_id, ''), e.external_id, e.slug, e.name, e.description, e.purpose,
	e.grantable_to, e.immutable, e.grant_count, e.first_seen_at, e.changed_at, e.risk, e.requestable, e.longest_s, e.owner_id
	FROM entitlement e LEFT JOIN resource r ON r.id = e.resource_id LEFT JOIN resource_type t ON t.id = r.type_id`

func scanEntitlement(row db.Scanner) (e Entitlement, err error) {
	var longest int64
	err = row.Scan(&e.ID, &e.AppID, &e.ResourceID, &e.ResourceName, &e.ResourceType, &e.ExternalID, &e.Slug, &e.Name, &e.Description, &e.Purpose,
		db.JSON(&e.GrantableTo), &e.Immutable, &e.Grants, db.Time(&e.FirstSeenAt), db.Time(&e.ChangedAt), &e.Risk, &e.Requestable, &longest, &e.OwnerID)
	e.Longest = time.Duration(longest) * time.Second
	return e, err
}

func entitlements(ctx context.Context, q db.Querier, filter EntitlementFilter, after Key, limit int) ([]Entitlement, error) {
	var f filters
	f.app("e.", filter.AppID)
	f.only("e.app_id", filter.only)
	if filter.ResourceID != "" {
		f.add("e.resource_id = ?", filter.ResourceID)
	}
	if filter.Search != "" {
		f.add("(e.search LIKE ? ESCAPE '!' OR r.search LIKE ? ESCAPE '!')", contains(filter.Search))
	}
	f.after("e.name, e.id", after)
	f.args = append(f.args, limit)
	return db.All(ctx, q, scanEntitlement, entitlementQuery+f.where()+fmt.Sprintf(` ORDER BY e.name, e.id LIMIT $%d`, len(f.args)), f.args...)
}

func entitlementByID(ctx context.Context, q db.Querier, entitlementID string) (Entitlement, error) {
	return db.One(ctx, q, scanEntitlement, entitlementQuery+` WHERE e.id = $1`, entitlementID)
}

func entitlementsByExternalID(ctx context.Context, q db.Querier, appID, externalID string) ([]Entitlement, error) {
	return db.All(ctx, q, scanEntitlement, entitlementQuery+` WHERE e.app_id = $1 AND e.external_id = $2`, appID, externalID)
}

// entitlementsNamed finds what is called so. It looks at each entitlement of the app.
func entitlementsNamed(ctx context.Context, q db.Querier, appID, name string) ([]Entitlement, error) {
	wanted, list := Fold(name), []Entitlement(nil)
	err := db.Each(ctx, q, func(row db.Scanner) error {
		e, err := scanEntitlement(row)
		if err != nil {
			return err
		}
		for _, text := range []string{e.Name, e.ResourceName, e.ResourceName + " " + e.Name, e.ResourceName + " " + e.Slug} {
			if Fold(text) == wanted {
				list = append(list, e)
				break
			}
		}
		return nil
	}, entitlementQuery+` WHERE e.app_id = $1 ORDER BY e.external_id`, appID)
	return list, err
}

func setRules(ctx context.Context, tx *db.Tx, entitlementID string, r Rules) error {
	_, err := tx.Exec(ctx, `UPDATE entitlement SET risk = $2, requestable = $3, longest_s = $4, owner_id = $5 WHERE id = $1`,
		entitlementID, r.Risk, r.Requestable, int64(r.Longest/time.Second), r.OwnerID)
	return err
}

// ---- grants

func grantable(ctx context.Context, q db.Querier, appID, entitlementID, principalID string) (bool, error) {
	count, err := db.Value[int64](ctx, q, `SELECT (SELECT COUNT(*) FROM entitlement WHERE id = $2 AND app_id = $1) + (SELECT COUNT(*) FROM resource WHERE id = $3 AND app_id = $1)`,
		appID, entitlementID, principalID)
	return count == 2, err
}

// putGrant adds a grant that a connector made, or notes that it made one that was
// there: a sync that began before can't tell that it is gone.
func putGrant(ctx context.Context, tx *db.Tx, appID, entitlementID, principalID string, now time.Time) error {
	there, err := tx.Exec(ctx, `UPDATE access_grant SET provisioned_at = $4 WHERE app_id = $1 AND entitlement_id = $2 AND principal_id = $3`,
		appID, entitlementID, principalID, now)
	if err != nil || there > 0 {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO access_grant (app_id, entitlement_id, principal_id, external_id, flags, since, sync_id, provisioned_at)
		VALUES ($1, $2, $3, '', 0, $4, '', $4)`, appID, entitlementID, principalID, now)
	if err != nil {
		return err
	}
	return addCount(ctx, tx, entitlementID, 1)
}

func addCount(ctx context.Context, tx *db.Tx, entitlementID string, more int) error {
	_, err := tx.Exec(ctx, `UPDATE entitlement SET grant_count = grant_count + $2 WHERE id = $1`, entitlementID, more)
	return err
}

func putReason(ctx context.Context, tx *db.Tx, entitlementID, principalID string, r Reason) error {
	_, err := tx.Exec(ctx, `INSERT INTO grant_reason (entitlement_id, principal_id, kind, ref, since, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (entitlement_id, principal_id, kind, ref) DO UPDATE SET expires_at = excluded.expires_at`,
		entitlementID, principalID, r.Kind, r.Ref, r.Since, r.ExpiresAt)
	return err
}

func reasons(ctx context.Context, q db.Querier, entitlementID, principalID string) ([]Reason, error) {
	return db.All(ctx, q, func(row db.Scanner) (r Reason, err error) {
		return r, row.Scan(&r.Kind, &r.Ref, db.Time(&r.Since), db.Time(&r.ExpiresAt))
	}, `SELECT kind, ref, since, expires_at FROM grant_reason WHERE entitlement_id = $1 AND principal_id = $2 ORDER BY since, kind, ref`, entitlementID, principalID)
}

// insertNeverSeen notes the end of a grant that no sync had seen.
func insertNeverSeen(ctx context.Context, tx *db.Tx, appID string, pair Pair, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO past_grant (id, app_id, entitlement_id, principal_id, entitlement, entitlement_name, principal, principal_name, since, sync_id, until, until_sync_id)
		SELECT $1, e.app_id, e.id, r.id, e.external_id, e.name, t.external_id || ':' || r.external_id, r.name, $5, '', $5, ''
		FROM entitlement e, resource r JOIN resource_type t ON t.id = r.type_id WHERE e.id = $3 AND e.app_id = $2 AND r.id = $4`,
		id.New(), appID, pair.EntitlementID, pair.PrincipalID, now)
	return err
}

func pastGrants(ctx context.Context, q db.Querier, filter PastFilter, before PastKey, limit int) ([]PastGrant, error) {
	var f filters
	if filter.AppID != "" {
		f.add("app_id = ?", filter.AppID)
	}
	f.only("app_id", filter.only)
	if filter.EntitlementID != "" {
		f.add("entitlement_id = ?", filter.EntitlementID)
	}
	if filter.PrincipalID != "" {
		f.add("principal_id = ?", filter.PrincipalID)
	}
	if before != (PastKey{}) {
		f.args = append(f.args, before.Until, before.ID)
		f.words = append(f.words, fmt.Sprintf("(until, id) < ($%d, $%d)", len(f.args)-1, len(f.args)))
	}
	f.args = append(f.args, limit)
	return db.All(ctx, q, func(row db.Scanner) (g PastGrant, err error) {
		return g, row.Scan(&g.ID, &g.AppID, &g.EntitlementID, &g.Entitlement, &g.EntitlementName, &g.PrincipalID, &g.Principal, &g.PrincipalName,
			db.Time(&g.Since), &g.SyncID, db.Time(&g.Until), &g.UntilSyncID)
	}, `SELECT id, app_id, entitlement_id, entitlement, entitlement_name, principal_id, principal, principal_name, since, sync_id, until, until_sync_id
		FROM past_grant`+f.where()+fmt.Sprintf(` ORDER BY until DESC, id DESC LIMIT $%d`, len(f.args)), f.args...)
}

// sweepPast removes some past grants that ended before a time.
func sweepPast(ctx context.Context, tx *db.Tx, before time.Time, limit int) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM past_grant WHERE id IN (SELECT id FROM past_grant WHERE until < $1 LIMIT $2)`, before, limit)
}

// none turns the absence of a row into a zero value.
func none[T any](value T, err error) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		var zero T
		return zero, nil
	}
	return value, err
}
