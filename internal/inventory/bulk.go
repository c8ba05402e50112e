package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/identity"
)

// This file is what package ingest reads and writes: rows by the thousand, all
// of one app, in the order of their keys. Whoever calls it has asked Can.

// Pair names a grant.
type Pair struct{ EntitlementID, PrincipalID string }

// ErrTakenOver says that another run ingests into the app by now.
var ErrTakenOver = errors.New("another run took this ingest over")

// Claiming is a run of an ingest.
type Claiming struct {
	Fence  int64  // keeps out the runs before
	Runs   int64  // how often the ingest was begun since it last ended in good order
	Holder string // another sync that has the app; then there is no run
}

// Claim makes a sync the only one that is ingested into an app, for a new run of it.
func Claim(ctx context.Context, tx *db.Tx, appID, syncID string) (Claiming, error) {
	claiming, err := db.One(ctx, tx, func(row db.Scanner) (c Claiming, err error) { return c, row.Scan(&c.Fence, &c.Runs) },
		`UPDATE app SET ingest_id = $2, fence = fence + 1, ingest_runs = CASE WHEN ingest_id = $2 THEN ingest_runs + 1 ELSE 1 END
			WHERE id = $1 AND (ingest_id = '' OR ingest_id = $2) AND `+present+` RETURNING fence, ingest_runs`, appID, syncID)
	if !errors.Is(err, sql.ErrNoRows) {
		return claiming, err
	}
	claiming.Holder, err = db.Value[string](ctx, tx, `SELECT ingest_id FROM app WHERE id = $1 AND `+present, appID)
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotFound, "there is no app with the id %q, or it was removed", appID)
	}
	return claiming, err
}

// Rest notes that a run ended in good order, though the ingest didn't.
func Rest(ctx context.Context, tx *db.Tx, appID, syncID string, fence int64) error {
	_, err := tx.Exec(ctx, `UPDATE app SET ingest_runs = 0 WHERE id = $1 AND ingest_id = $2 AND fence = $3`, appID, syncID, fence)
	return err
}

// Guard takes the app's row for a transaction of a run, or fails with ErrTakenOver.
func Guard(ctx context.Context, tx *db.Tx, appID, syncID string, fence int64) error {
	held, err := tx.Exec(ctx, `UPDATE app SET fence = fence WHERE id = $1 AND ingest_id = $2 AND fence = $3`, appID, syncID, fence)
	if err == nil && held == 0 {
		err = ErrTakenOver
	}
	return err
}

// Release gives an app back that a sync had claimed.
func Release(ctx context.Context, tx *db.Tx, appID, syncID string) error {
	_, err := tx.Exec(ctx, `UPDATE app SET ingest_id = '' WHERE id = $1 AND ingest_id = $2`, appID, syncID)
	return err
}

// Finish notes the last sync that was applied, and releases the app. A full one
// tells when it began to read; others tell the zero time.
func Finish(ctx context.Context, tx *db.Tx, appID, syncID string, now, fullAt time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE app SET sync_id = $2, synced_at = $3, ingest_id = '', full_at = COALESCE($4, full_at) WHERE id = $1`, appID, syncID, now, fullAt)
	return err
}

// FullAt is when the newest full sync that was applied to an app began to read.
func FullAt(ctx context.Context, q db.Querier, appID string) (at time.Time, err error) {
	return none(db.One(ctx, q, func(row db.Scanner) (at time.Time, err error) {
		err = row.Scan(db.Time(&at))
		return at, err
	}, `SELECT full_at FROM app WHERE id = $1`, appID))
}

// ---- what is there, in the order of its keys

// EachResource reads an app's resources. The hash is valid until the function
// returns.
func EachResource(ctx context.Context, q db.Querier, appID string, do func(resourceID, typeID, externalID string, hash []byte) error) error {
	return db.Each(ctx, q, func(row db.Scanner) error {
		var resourceID, typeID, externalID string
		var hash sql.RawBytes
		if err := row.Scan(&resourceID, &typeID, &externalID, &hash); err != nil {
			return err
		}
		return do(resourceID, typeID, externalID, hash)
	}, `SELECT id, type_id, external_id, hash FROM resource WHERE app_id = $1`, appID)
}

// EachEntitlement reads an app's entitlements. The hash is valid until the
// function returns.
func EachEntitlement(ctx context.Context, q db.Querier, appID string, do func(entitlementID, resourceID, externalID string, hash []byte) error) error {
	return db.Each(ctx, q, func(row db.Scanner) error {
		var entitlementID, resourceID, externalID string
		var hash sql.RawBytes
		if err := row.Scan(&entitlementID, &resourceID, &externalID, &hash); err != nil {
			return err
		}
		return do(entitlementID, resourceID, externalID, hash)
	}, `SELECT id, resource_id, external_id, hash FROM entitlement WHERE app_id = $1`, appID)
}

// GrantRow is a grant as it is kept.
type GrantRow struct {
	EntitlementID string
	PrincipalID   string
	ExternalID    string // "" where it is entitlement:type:principal
	Flags         int64
	Since         time.Time
	SyncID        string
}

// EachGrant reads an app's grants by entitlement and principal. The texts are
// valid until the function returns.
func EachGrant(ctx context.Context, q db.Querier, appID string, do func(entitlementID, principalID, externalID []byte, flags int64, seen bool, provisionedAt int64) error) error {
	rows, err := q.Query(ctx, `SELECT entitlement_id, principal_id, external_id, flags, sync_id <> '', COALESCE(provisioned_at, 0)
		FROM access_grant WHERE app_id = $1 ORDER BY entitlement_id, principal_id`, appID)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var entitlementID, principalID, externalID sql.RawBytes
	var flags, provisionedAt int64
	var seen bool
	targets := []any{&entitlementID, &principalID, &externalID, &flags, &seen, &provisionedAt}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if err := do(entitlementID, principalID, externalID, flags, seen, provisionedAt); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Edge is a way by which whoever holds Source holds Target as well: Principal has
// it, and is what Source is an entitlement of. A TypeID limits it to resources of
// that type.
type Edge struct {
	TargetID    string
	PrincipalID string
	SourceID    string
	TypeID      string
	Shallow     bool // only direct holders of Source
}

// EachEdge reads an app's edges by target, principal, source and type.
func EachEdge(ctx context.Context, q db.Querier, appID string, do func(Edge) error) error {
	return db.Each(ctx, q, func(row db.Scanner) error {
		var e Edge
		if err := row.Scan(&e.TargetID, &e.PrincipalID, &e.SourceID, &e.TypeID, &e.Shallow); err != nil {
			return err
		}
		return do(e)
	}, `SELECT target_id, principal_id, source_id, type_id, shallow FROM expansion WHERE app_id = $1
		ORDER BY target_id, principal_id, source_id, type_id`, appID)
}

// Fresh reads what connectors granted and revoked after a time, which a sync that
// began then may not have seen.
func Fresh(ctx context.Context, q db.Querier, appID string, after time.Time) (granted, revoked map[Pair]bool, err error) {
	read := func(query string) (map[Pair]bool, error) {
		pairs := map[Pair]bool{}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var pair Pair
			err := row.Scan(&pair.EntitlementID, &pair.PrincipalID)
			pairs[pair] = true
			return err
		}, query, appID, after)
		return pairs, err
	}
	if granted, err = read(`SELECT entitlement_id, principal_id FROM access_grant WHERE app_id = $1 AND provisioned_at > $2`); err != nil {
		return nil, nil, err
	}
	revoked, err = read(`SELECT entitlement_id, principal_id FROM past_grant WHERE app_id = $1 AND until > $2 AND until_sync_id = ''`)
	return granted, revoked, err
}

// Names reads what some resources, or entitlements, are called: name and external id.
func Names(ctx context.Context, q db.Querier, ids []string) (map[string][2]string, error) {
	names := map[string][2]string{}
	for chunk := range slices.Chunk(ids, 500) {
		args := make([]any, len(chunk))
		for n, one := range chunk {
			args[n] = one
		}
		err := db.Each(ctx, q, func(row db.Scanner) error {
			var one, name, externalID string
			err := row.Scan(&one, &name, &externalID)
			names[one] = [2]string{name, externalID}
			return err
		}, `SELECT id, name, external_id FROM resource WHERE id IN `+db.In(1, len(chunk))+`
			UNION ALL SELECT id, name, external_id FROM entitlement WHERE id IN `+db.In(1, len(chunk)), args...)
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// ---- what changes

// TypeRow is a resource type as a connector has it.
type TypeRow struct {
	ID, ExternalID, Name, Description string
	Traits                            []string
}

// PutTypes adds resource types, and changes those that are there.
func PutTypes(ctx context.Context, tx *db.Tx, appID string, list []TypeRow, at time.Time) error {
	for _, t := range list {
		_, err := tx.Exec(ctx, `INSERT INTO resource_type (id, app_id, external_id, name, description, traits, first_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (app_id, external_id) DO UPDATE SET name = excluded.name, description = excluded.description, traits = excluded.traits`,
			t.ID, appID, t.ExternalID, t.Name, t.Description, db.JSON(t.Traits), at)
		if err != nil {
			return err
		}
	}
	return nil
}

// ResourceRow is a resource as it is kept; an account has an AccountRow besides.
type ResourceRow struct {
	ID, TypeID, ExternalID, ParentID string
	Name, Search, Description        string
	Profile                          string // JSON
	Source, Hash                     []byte
	Account                          *AccountRow
}

// AccountRow is what an account has besides its resource.
type AccountRow struct {
	Login, Email, EmployeeID string
	Keys                     identity.Keys
	Kind                     AccountKind
	Status                   AccountStatus
	StatusDetail             string
	LastLoginAt, CreatedAt   time.Time
	Owner                    identity.Owner // of one that is new; see Own
	MatchedAt                time.Time
}

// Stamp says which sync writes rows, and when it began.
type Stamp struct {
	AppID, SyncID string
	At            time.Time
}

// AddResources adds resources that aren't there.
func AddResources(ctx context.Context, tx *db.Tx, stamp Stamp, list []ResourceRow) error {
	rows, signIns, at := make([][]any, len(list)), [][]any(nil), db.Micros(stamp.At)
	for n, r := range list {
		rows[n] = []any{r.ID, stamp.AppID, r.TypeID, r.ExternalID, r.ParentID, r.Name, r.Search, r.Description, r.Profile, r.Source, r.Hash, stamp.SyncID, at, at}
		if r.Account != nil {
			signIns = append(signIns, accountValues(r.ID, stamp.AppID, r.Account))
		}
	}
	err := tx.Insert(ctx, "resource", []string{
		"id", "app_id", "type_id", "external_id", "parent_id", "name", "search", "description", "profile", "source", "hash",
		"first_sync_id", "first_seen_at", "changed_at",
	}, rows)
	if err != nil {
		return err
	}
	return tx.Insert(ctx, "account", accountColumns, signIns)
}

var accountColumns = []string{
	"id", "app_id", "login", "email", "employee_id", "keys", "kind", "kind_by_hand", "status", "status_detail",
	"last_login_at", "created_at", "person_id", "matched_by", "matched_at",
}

func accountValues(resourceID, appID string, a *AccountRow) []any {
	keys, err := db.JSON(a.Keys).Value()
	if err != nil {
		panic(err) // texts can be written
	}
	return []any{
		resourceID, appID, a.Login, a.Email, a.EmployeeID, keys, string(a.Kind), false, string(a.Status), a.StatusDetail,
		db.Micros(a.LastLoginAt), db.Micros(a.CreatedAt), a.Owner.PersonID, a.Owner.By, db.Micros(a.MatchedAt),
	}
}

// SetResources changes resources that are there. What people said of accounts, and
// whose they are, stays.
func SetResources(ctx context.Context, tx *db.Tx, stamp Stamp, list []ResourceRow) error {
	var rows, accounts, others [][]any
	for _, r := range list {
		rows = append(rows, []any{r.ID, r.ParentID, r.Name, r.Search, r.Description, r.Profile, r.Source, r.Hash, stamp.At})
		if r.Account == nil {
			others = append(others, []any{r.ID})
			continue
		}
		accounts = append(accounts, accountValues(r.ID, stamp.AppID, r.Account))
	}
	err := tx.ExecEach(ctx, `UPDATE resource SET parent_id = $2, name = $3, search = $4, description = $5, profile = $6, source = $7, hash = $8, changed_at = $9 WHERE id = $1`, rows)
	if err != nil {
		return err
	}
	if err := tx.ExecEach(ctx, `DELETE FROM account WHERE id = $1`, others); err != nil {
		return err
	}
	return tx.ExecEach(ctx, `INSERT INTO account (`+strings.Join(accountColumns, ", ")+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (id) DO UPDATE SET login = excluded.login, email = excluded.email, employee_id = excluded.employee_id, keys = excluded.keys,
			kind = CASE WHEN account.kind_by_hand = TRUE THEN account.kind ELSE excluded.kind END,
			status = excluded.status, status_detail = excluded.status_detail, last_login_at = excluded.last_login_at, created_at = excluded.created_at`, accounts)
}

// EntitlementRow is an entitlement as a connector has it.
type EntitlementRow struct {
	ID, ResourceID, ExternalID               string
	Slug, Name, Search, Description, Purpose string
	GrantableTo                              []string
	Immutable                                bool
	Source, Hash                             []byte
}

// AddEntitlements adds entitlements that aren't there.
func AddEntitlements(ctx context.Context, tx *db.Tx, stamp Stamp, list []EntitlementRow) error {
	rows := make([][]any, len(list))
	for n, e := range list {
		to, err := db.JSON(e.GrantableTo).Value()
		if err != nil {
			return err
		}
		rows[n] = []any{
			e.ID, stamp.AppID, e.ResourceID, e.ExternalID, e.Slug, e.Name, e.Search, e.Description, e.Purpose, to, e.Immutable, e.Source, e.Hash,
			"", false, int64(0), "", int64(0), stamp.SyncID, stamp.At, stamp.At,
		}
	}
	return tx.Insert(ctx, "entitlement", []string{
		"id", "app_id", "resource_id", "external_id", "slug", "name", "search", "description", "purpose", "grantable_to", "immutable", "source", "hash",
		"risk", "requestable", "longest_s", "owner_id", "grant_count", "first_sync_id", "first_seen_at", "changed_at",
	}, rows)
}

// SetEntitlements changes entitlements that are there. Their rules stay.
func SetEntitlements(ctx context.Context, tx *db.Tx, stamp Stamp, list []EntitlementRow) error {
	rows := make([][]any, len(list))
	for n, e := range list {
		to, err := db.JSON(e.GrantableTo).Value()
		if err != nil {
			return err
		}
		rows[n] = []any{e.ID, e.ResourceID, e.Slug, e.Name, e.Search, e.Description, e.Purpose, to, e.Immutable, e.Source, e.Hash, stamp.At}
	}
	return tx.ExecEach(ctx, `UPDATE entitlement SET resource_id = $2, slug = $3, name = $4, search = $5, description = $6, purpose = $7,
		grantable_to = $8, immutable = $9, source = $10, hash = $11, changed_at = $12 WHERE id = $1`, rows)
}

// AddGrants adds grants that aren't there.
func AddGrants(ctx context.Context, tx *db.Tx, stamp Stamp, list []GrantRow) error {
	rows, added, at := make([][]any, len(list)), map[string]int{}, db.Micros(stamp.At)
	for n, g := range list {
		rows[n] = []any{stamp.AppID, g.EntitlementID, g.PrincipalID, g.ExternalID, g.Flags, at, stamp.SyncID}
		added[g.EntitlementID]++
	}
	err := tx.Insert(ctx, "access_grant", []string{"app_id", "entitlement_id", "principal_id", "external_id", "flags", "since", "sync_id"}, rows)
	if err != nil {
		return err
	}
	return addCounts(ctx, tx, added)
}

// addCounts changes how many hold entitlements directly.
func addCounts(ctx context.Context, tx *db.Tx, more map[string]int) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(more)), 500) {
		var rows strings.Builder
		var args []any
		for n, one := range ids {
			if n > 0 {
				rows.WriteString(", ")
			}
			fmt.Fprintf(&rows, "($%d, CAST($%d AS BIGINT))", len(args)+1, len(args)+2)
			args = append(args, one, more[one])
		}
		_, err := tx.Exec(ctx, `WITH more (id, count) AS (VALUES `+rows.String()+`)
			UPDATE entitlement SET grant_count = grant_count + more.count FROM more WHERE entitlement.id = more.id`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// SetGrants writes what a sync told of grants that are there; the first that sees
// one is kept.
func SetGrants(ctx context.Context, tx *db.Tx, stamp Stamp, list []GrantRow) error {
	rows := make([][]any, len(list))
	for n, g := range list {
		rows[n] = []any{stamp.AppID, g.EntitlementID, g.PrincipalID, g.ExternalID, g.Flags, stamp.SyncID}
	}
	return tx.ExecEach(ctx, `UPDATE access_grant SET external_id = $4, flags = $5, sync_id = CASE WHEN sync_id = '' THEN $6 ELSE sync_id END
		WHERE app_id = $1 AND entitlement_id = $2 AND principal_id = $3`, rows)
}

// Ending says when grants ended, and by which sync that was seen; "" says that
// they were revoked here. A grant that was provisioned after Unless stays.
type Ending struct {
	At     time.Time
	SyncID string
	Unless time.Time
}

// EndGrants makes grants past: those that are there, which it returns. Their
// reasons go.
func EndGrants(ctx context.Context, tx *db.Tx, appID string, list []Pair, ending Ending) ([]Pair, error) {
	var ended []Pair
	for chunk := range slices.Chunk(list, 500) {
		pairs, args := values(chunk)
		n := len(args)
		var rows [][]any
		gone := map[string]int{}
		here := len(ended)
		err := db.Each(ctx, tx, func(row db.Scanner) error {
			var pair Pair
			var entitlement, entitlementName, principal, principalName, syncID string
			var since int64
			if err := row.Scan(&pair.EntitlementID, &pair.PrincipalID, &entitlement, &entitlementName, &principal, &principalName, &since, &syncID); err != nil {
				return err
			}
			rows = append(rows, []any{id.New(), appID, pair.EntitlementID, pair.PrincipalID, entitlement, entitlementName, principal, principalName, since, syncID, ending.At, ending.SyncID})
			gone[pair.EntitlementID]--
			ended = append(ended, pair)
			return nil
		}, `WITH wanted (entitlement_id, principal_id) AS (`+pairs+`)
			SELECT g.entitlement_id, g.principal_id, COALESCE(e.external_id, ''), COALESCE(e.name, ''),
				COALESCE(t.external_id || ':' || r.external_id, ''), COALESCE(r.name, ''), g.since, g.sync_id
			FROM wanted w JOIN access_grant g ON g.app_id = `+fmt.Sprintf("$%d", n+1)+` AND g.entitlement_id = w.entitlement_id AND g.principal_id = w.principal_id
			LEFT JOIN entitlement e ON e.id = g.entitlement_id LEFT JOIN resource r ON r.id = g.principal_id LEFT JOIN resource_type t ON t.id = r.type_id
			WHERE `+fmt.Sprintf("COALESCE(g.provisioned_at, 0) <= $%d", n+2), append(args, appID, unless(ending))...)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			continue
		}
		pairs, args = values(ended[here:])
		_, err = tx.Exec(ctx, `DELETE FROM access_grant WHERE app_id = `+fmt.Sprintf("$%d", len(args)+1)+` AND (entitlement_id, principal_id) IN (`+pairs+`)`, append(args, appID)...)
		if err != nil {
			return nil, err
		}
		pairs, args = values(ended[here:])
		if _, err := tx.Exec(ctx, `DELETE FROM grant_reason WHERE (entitlement_id, principal_id) IN (`+pairs+`)`, args...); err != nil {
			return nil, err
		}
		// What it was the principal's for, others don't hold by it any more.
		pairs, args = values(ended[here:])
		_, err = tx.Exec(ctx, `DELETE FROM expansion WHERE app_id = `+fmt.Sprintf("$%d", len(args)+1)+` AND (target_id, principal_id) IN (`+pairs+`)`, append(args, appID)...)
		if err != nil {
			return nil, err
		}
		err = tx.Insert(ctx, "past_grant", []string{
			"id", "app_id", "entitlement_id", "principal_id", "entitlement", "entitlement_name", "principal", "principal_name",
			"since", "sync_id", "until", "until_sync_id",
		}, rows)
		if err != nil {
			return nil, err
		}
		if err := addCounts(ctx, tx, gone); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

func unless(ending Ending) int64 {
	if ending.Unless.IsZero() {
		return 1<<63 - 1
	}
	return ending.Unless.UnixMicro()
}

// values writes VALUES ($1, $2), … for pairs.
func values(list []Pair) (string, []any) {
	var out strings.Builder
	args := make([]any, 0, 2*len(list)+2)
	out.WriteString("VALUES ")
	for n, pair := range list {
		if n > 0 {
			out.WriteString(", ")
		}
		out.WriteString(db.In(len(args)+1, 2))
		args = append(args, pair.EntitlementID, pair.PrincipalID)
	}
	return out.String(), args
}

// AddEdges adds edges that aren't there, and changes those that are; each is listed
// once.
func AddEdges(ctx context.Context, tx *db.Tx, appID string, list []Edge) error {
	for edges := range slices.Chunk(list, 100) {
		var rows strings.Builder
		var args []any
		for n, e := range edges {
			if n > 0 {
				rows.WriteString(", ")
			}
			rows.WriteString(db.In(len(args)+1, 6))
			args = append(args, appID, e.SourceID, e.TargetID, e.PrincipalID, e.TypeID, e.Shallow)
		}
		_, err := tx.Exec(ctx, `INSERT INTO expansion (app_id, source_id, target_id, principal_id, type_id, shallow) VALUES `+rows.String()+`
			ON CONFLICT (app_id, target_id, principal_id, source_id, type_id) DO UPDATE SET shallow = excluded.shallow`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveEdges removes edges.
func RemoveEdges(ctx context.Context, tx *db.Tx, appID string, list []Edge) error {
	rows := make([][]any, len(list))
	for n, e := range list {
		rows[n] = []any{appID, e.TargetID, e.PrincipalID, e.SourceID, e.TypeID}
	}
	return tx.ExecEach(ctx, `DELETE FROM expansion WHERE app_id = $1 AND target_id = $2 AND principal_id = $3 AND source_id = $4 AND type_id = $5`, rows)
}

// RemoveEntitlements removes entitlements and their edges, but not those that
// somebody holds: a connector may have granted one meanwhile.
func RemoveEntitlements(ctx context.Context, tx *db.Tx, appID string, ids []string) error {
	return each(ids, func(in string, args []any) error {
		for _, statement := range []string{
			`DELETE FROM entitlement WHERE app_id = $1 AND id IN ` + in + ` AND NOT EXISTS (SELECT 1 FROM access_grant g WHERE g.app_id = $1 AND g.entitlement_id = entitlement.id)`,
			`DELETE FROM expansion WHERE app_id = $1 AND source_id IN ` + in + ` AND NOT EXISTS (SELECT 1 FROM entitlement e WHERE e.id = expansion.source_id)`,
			`DELETE FROM expansion WHERE app_id = $1 AND target_id IN ` + in + ` AND NOT EXISTS (SELECT 1 FROM entitlement e WHERE e.id = expansion.target_id)`,
		} {
			if _, err := tx.Exec(ctx, statement, append([]any{appID}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveResources removes resources and what they are as accounts, but not those
// that hold something or that an entitlement is left of.
func RemoveResources(ctx context.Context, tx *db.Tx, appID string, ids []string) error {
	return each(ids, func(in string, args []any) error {
		for _, statement := range []string{
			`DELETE FROM resource WHERE app_id = $1 AND id IN ` + in + ` AND NOT EXISTS (SELECT 1 FROM access_grant g WHERE g.principal_id = resource.id)
				AND NOT EXISTS (SELECT 1 FROM entitlement e WHERE e.resource_id = resource.id)`,
			`DELETE FROM account WHERE app_id = $1 AND id IN ` + in + ` AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.id = account.id)`,
		} {
			if _, err := tx.Exec(ctx, statement, append([]any{appID}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveTypes removes resource types that no resource is left of.
func RemoveTypes(ctx context.Context, tx *db.Tx, appID string, ids []string) error {
	return each(ids, func(in string, args []any) error {
		_, err := tx.Exec(ctx, `DELETE FROM resource_type WHERE app_id = $1 AND id IN `+in+` AND NOT EXISTS (SELECT 1 FROM resource r WHERE r.type_id = resource_type.id)`,
			append([]any{appID}, args...)...)
		return err
	})
}

// each hands over ids by the hundred: a list for IN that begins at $2, and its arguments.
func each(ids []string, do func(in string, args []any) error) error {
	for chunk := range slices.Chunk(ids, 500) {
		args := make([]any, len(chunk))
		for n, one := range chunk {
			args[n] = one
		}
		if err := do(db.In(2, len(chunk)), args); err != nil {
			return err
		}
	}
	return nil
}

// TypesOf reads an app's resource types.
func TypesOf(ctx context.Context, q db.Querier, appID string) ([]TypeRow, error) {
	return db.All(ctx, q, func(row db.Scanner) (t TypeRow, err error) {
		return t, row.Scan(&t.ID, &t.ExternalID, &t.Name, &t.Description, db.JSON(&t.Traits))
	}, `SELECT id, external_id, name, description, traits FROM resource_type WHERE app_id = $1 ORDER BY external_id`, appID)
}

// ResourceNames reads what some resources of a type are called.
func ResourceNames(ctx context.Context, q db.Querier, appID, resourceType string, limit int) ([]string, error) {
	return db.All(ctx, q, scanText, `SELECT r.name FROM resource r JOIN resource_type t ON t.id = r.type_id
		WHERE r.app_id = $1 AND t.external_id = $2 ORDER BY r.name, r.id LIMIT $3`, appID, resourceType, limit)
}

// Analyze lets the database look at how much there is, after much was added.
func Analyze(ctx context.Context, d *db.DB) error {
	return d.Analyze(ctx, "resource", "account", "entitlement", "access_grant", "expansion")
}
