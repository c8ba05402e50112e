package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/inventory"
)

const connectorColumns = `id, app_id, name, catalog, kind, hosted, settings, secrets, settings_at, paused_at, paused_why, every_s, cron, zone, next_sync_at,
	anomaly_stop, debug, metadata, version, package, host, hello_at, seen_at, problem, problem_words, problem_at, created_at, removed_at`

func scanConnector(row db.Scanner) (c Connector, err error) {
	var every int64
	var metadata string
	err = row.Scan(&c.ID, &c.AppID, &c.Name, &c.Catalog, &c.Learned, &c.Hosted, db.JSON(&c.Settings), db.JSON(&c.Secrets), db.Time(&c.SettingsAt), db.Time(&c.Paused.At),
		&c.Paused.Why, &every, &c.Schedule.Cron, &c.Schedule.Zone, db.Time(&c.NextSyncAt), &c.AnomalyStop, &c.Debug, &metadata, &c.Version, &c.Package, &c.Host,
		db.Time(&c.HelloAt), db.Time(&c.SeenAt), &c.Problem.Kind, &c.Problem.Words, db.Time(&c.Problem.At), db.Time(&c.CreatedAt), db.Time(&c.RemovedAt))
	c.Schedule.Every = time.Duration(every) * time.Second
	if metadata != "" {
		c.Metadata = json.RawMessage(metadata)
	}
	return c, err
}

// nameKey is what a connector is found by; the name of a removed one is free again.
func nameKey(c Connector) string {
	if c.Removed() {
		return "removed/" + c.ID
	}
	return inventory.Fold(c.Name)
}

func insertConnector(ctx context.Context, tx *db.Tx, c Connector) error {
	_, err := tx.Exec(ctx, `INSERT INTO connector (`+connectorColumns+`, name_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`,
		c.ID, c.AppID, c.Name, c.Catalog, c.Learned, c.Hosted, db.JSON(c.Settings), db.JSON(append([]string{}, c.Secrets...)), c.SettingsAt, c.Paused.At, c.Paused.Why,
		seconds(c.Schedule.Every), c.Schedule.Cron, c.Schedule.Zone, c.NextSyncAt, c.AnomalyStop, c.Debug, string(c.Metadata), c.Version, c.Package, c.Host,
		c.HelloAt, c.SeenAt, string(c.Problem.Kind), c.Problem.Words, c.Problem.At, c.CreatedAt, c.RemovedAt, nameKey(c))
	return err
}

// updateConnector writes what may change of a connector, but for its metadata,
// which is long and changes with a Hello alone, as what it is does.
func updateConnector(ctx context.Context, tx *db.Tx, c Connector) error {
	_, err := tx.Exec(ctx, `UPDATE connector SET name = $2, name_key = $3, settings = $4, secrets = $5, settings_at = $6, paused_at = $7, paused_why = $8,
			every_s = $9, cron = $10, zone = $11, next_sync_at = $12, anomaly_stop = $13, debug = $14, version = $15, package = $16, host = $17, hello_at = $18,
			seen_at = $19, problem = $20, problem_words = $21, problem_at = $22, removed_at = $23
		WHERE id = $1`,
		c.ID, c.Name, nameKey(c), db.JSON(c.Settings), db.JSON(append([]string{}, c.Secrets...)), c.SettingsAt, c.Paused.At, c.Paused.Why,
		seconds(c.Schedule.Every), c.Schedule.Cron, c.Schedule.Zone, c.NextSyncAt, c.AnomalyStop, c.Debug, c.Version, c.Package, c.Host, c.HelloAt,
		c.SeenAt, string(c.Problem.Kind), c.Problem.Words, c.Problem.At, c.RemovedAt)
	return err
}

func setMetadata(ctx context.Context, tx *db.Tx, c Connector) error {
	_, err := tx.Exec(ctx, `UPDATE connector SET metadata = $2, kind = $3 WHERE id = $1`, c.ID, string(c.Metadata), c.Learned)
	return err
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// holdConnector reads a connector, and keeps others from its row until the
// transaction ends: what is decided on a connector's tasks and syncs is decided
// by one at a time.
func holdConnector(ctx context.Context, tx *db.Tx, connectorID string) (Connector, error) {
	c, err := db.One(ctx, tx, scanConnector, `UPDATE connector SET id = id WHERE id = $1 RETURNING `+connectorColumns, connectorID)
	if errors.Is(err, sql.ErrNoRows) {
		return c, noConnector(connectorID)
	}
	return c, err
}

func connectorByID(ctx context.Context, q db.Querier, connectorID string) (Connector, error) {
	c, err := db.One(ctx, q, scanConnector, `SELECT `+connectorColumns+` FROM connector WHERE id = $1`, connectorID)
	if errors.Is(err, sql.ErrNoRows) {
		return c, noConnector(connectorID)
	}
	return c, err
}

func connectorBy(ctx context.Context, q db.Querier, nameOrID string) (Connector, error) {
	c, err := db.One(ctx, q, scanConnector, `SELECT `+connectorColumns+` FROM connector WHERE name_key = $1 AND removed_at IS NULL`, inventory.Fold(clean(nameOrID, 300)))
	if errors.Is(err, sql.ErrNoRows) {
		return connectorByID(ctx, q, clean(nameOrID, 300))
	}
	return c, err
}

func noConnector(nameOrID string) error {
	return fault.New(fault.NotFound, "there is no connector %q; `airlock connector list` names them", nameOrID)
}

// connectorOfApp is the id of an app's connector that isn't removed, or "".
func connectorOfApp(ctx context.Context, q db.Querier, appID string) (string, error) {
	connectorID, err := db.Value[string](ctx, q, `SELECT id FROM connector WHERE app_id = $1 AND removed_at IS NULL ORDER BY id LIMIT 1`, appID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return connectorID, err
}

// lastOfApp is an app's connector, or else the last of those that were removed; the
// zero Connector if there was none.
func lastOfApp(ctx context.Context, q db.Querier, appID string) (Connector, error) {
	c, err := db.One(ctx, q, scanConnector, `SELECT `+connectorColumns+` FROM connector WHERE app_id = $1
		ORDER BY CASE WHEN removed_at IS NULL THEN 0 ELSE 1 END, removed_at DESC, id DESC LIMIT 1`, appID)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return c, err
}

// listConnectors are connectors of some apps, or of all (nil), after a key.
func listConnectors(ctx context.Context, q db.Querier, only []string, after inventory.Key, limit int) ([]Connector, error) {
	args := []any{after.Name, after.ID, limit}
	return db.All(ctx, q, scanConnector, `SELECT `+connectorColumns+` FROM connector
		WHERE removed_at IS NULL AND (name, id) > ($1, $2)`+ofApps("app_id", only, &args)+` ORDER BY name, id LIMIT $3`, args...)
}

// ofApps is the condition that a column is one of some apps, or of all (nil).
func ofApps(column string, only []string, args *[]any) string {
	if only == nil {
		return ""
	}
	if len(only) == 0 {
		return " AND 1 = 0"
	}
	first := len(*args) + 1
	for _, appID := range only {
		*args = append(*args, appID)
	}
	return " AND " + column + " IN " + db.In(first, len(only))
}

func hostedConnectors(ctx context.Context, q db.Querier) ([]Connector, error) {
	return db.All(ctx, q, scanConnector, `SELECT `+connectorColumns+` FROM connector WHERE hosted = TRUE AND removed_at IS NULL ORDER BY id`)
}

// dueConnectors are those whose next full sync is due.
func dueConnectors(ctx context.Context, q db.Querier, now time.Time) ([]string, error) {
	return ids(ctx, q, `SELECT id FROM connector WHERE next_sync_at <= $1 AND paused_at IS NULL AND removed_at IS NULL ORDER BY next_sync_at LIMIT 200`, now)
}

// silentConnectors are those that had called once, and of which no sign came
// since a time, though they hold no task that would explain it.
func silentConnectors(ctx context.Context, q db.Querier, since, now time.Time) ([]string, error) {
	return ids(ctx, q, `SELECT c.id FROM connector c
		WHERE c.removed_at IS NULL AND c.hello_at IS NOT NULL AND c.seen_at < $1 AND c.problem = ''
		AND NOT EXISTS (SELECT 1 FROM connector_task t WHERE t.connector_id = c.id AND t.state = $2 AND t.lease_until > $3)`, since, TaskLeased, now)
}

func touch(ctx context.Context, tx *db.Tx, connectorID, host string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE connector SET seen_at = $2, host = $3 WHERE id = $1`, connectorID, now, host)
	return err
}

func ids(ctx context.Context, q db.Querier, query string, args ...any) ([]string, error) {
	return db.All(ctx, q, func(row db.Scanner) (one string, err error) {
		err = row.Scan(&one)
		return one, err
	}, query, args...)
}

func ownersOf(ctx context.Context, q db.Querier, connectorID string) ([]string, error) {
	return ids(ctx, q, `SELECT person_id FROM connector_owner WHERE connector_id = $1 ORDER BY person_id`, connectorID)
}

func setOwners(ctx context.Context, tx *db.Tx, connectorID string, people []string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM connector_owner WHERE connector_id = $1`, connectorID); err != nil {
		return err
	}
	rows := make([][]any, len(people))
	for n, person := range people {
		rows[n] = []any{connectorID, person}
	}
	return tx.Insert(ctx, "connector_owner", []string{"connector_id", "person_id"}, rows)
}

const taskColumns = `id, connector_id, kind, request, lane, state, attempts, not_before, give_up_at, host, process, leased_at, lease_until, cancel,
	code, error, response, follow_kind, follow_row, created_at, finished_at`

func scanTask(row db.Scanner) (t Task, err error) {
	err = row.Scan(&t.ID, &t.ConnectorID, &t.Kind, &t.request, &t.Lane, &t.State, &t.Attempts, db.Time(&t.NotBefore), db.Time(&t.GiveUpAt), &t.Host, &t.Process,
		db.Time(&t.LeasedAt), db.Time(&t.LeaseUntil), &t.Cancel, &t.Code, &t.Error, &t.response, &t.Follow.Kind, &t.Follow.Row, db.Time(&t.CreatedAt), db.Time(&t.FinishedAt))
	return t, err
}

func insertTask(ctx context.Context, tx *db.Tx, t Task) error {
	_, err := tx.Exec(ctx, `INSERT INTO connector_task (id, connector_id, kind, request, lane, rank, state, attempts, not_before, give_up_at, host, process,
			leased_at, lease_until, cancel, code, error, response, follow_kind, follow_row, created_at, finished_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
		t.ID, t.ConnectorID, t.Kind, t.request, t.Lane, t.Kind.rules().rank, t.State, t.Attempts, t.NotBefore, t.GiveUpAt, t.Host, t.Process,
		t.LeasedAt, t.LeaseUntil, t.Cancel, int64(t.Code), t.Error, t.response, t.Follow.Kind, t.Follow.Row, t.CreatedAt, t.FinishedAt)
	return err
}

// updateTask writes what may change of a task. Whoever calls it holds the connector.
func updateTask(ctx context.Context, tx *db.Tx, t Task) error {
	_, err := tx.Exec(ctx, `UPDATE connector_task SET state = $2, attempts = $3, not_before = $4, host = $5, leased_at = $6, lease_until = $7, cancel = $8, code = $9,
			error = $10, response = $11, finished_at = $12, request = $13
		WHERE id = $1`,
		t.ID, t.State, t.Attempts, t.NotBefore, t.Host, t.LeasedAt, t.LeaseUntil, t.Cancel, int64(t.Code), t.Error, t.response, t.FinishedAt, t.request)
	return err
}

func taskByID(ctx context.Context, q db.Querier, taskID string) (Task, error) {
	t, err := db.One(ctx, q, scanTask, `SELECT `+taskColumns+` FROM connector_task WHERE id = $1`, taskID)
	if errors.Is(err, sql.ErrNoRows) {
		return t, fault.New(fault.NotFound, "there is no connector task %q", taskID)
	}
	return t, err
}

// openTasks are a connector's tasks that aren't over.
func openTasks(ctx context.Context, q db.Querier, connectorID string) ([]Task, error) {
	return db.All(ctx, q, scanTask, `SELECT `+taskColumns+` FROM connector_task WHERE connector_id = $1 AND state IN ($2, $3) ORDER BY id`, connectorID, TaskQueued, TaskLeased)
}

// availableTasks are what a host may take now, in the order in which it should.
// Of those in a lane only the first that isn't over counts, and only if it isn't
// out: what comes after it waits, also while it waits to be tried again.
func availableTasks(ctx context.Context, q db.Querier, connectorID, host string, syncs bool, now time.Time, limit int) ([]Task, error) {
	return db.All(ctx, q, scanTask, `SELECT `+taskColumns+` FROM connector_task t
		WHERE t.connector_id = $1 AND t.state = $2 AND t.not_before <= $3 AND (t.process = '' OR t.process = $4) AND (t.kind <> $5 OR $6 = TRUE)
		AND (t.lane = '' OR NOT EXISTS (SELECT 1 FROM connector_task o WHERE o.connector_id = t.connector_id AND o.lane = t.lane AND o.id <> t.id
			AND (o.state = $7 OR o.state = $2 AND (o.created_at, o.id) < (t.created_at, t.id))))
		ORDER BY t.rank, t.not_before, t.id LIMIT $8`, connectorID, TaskQueued, now, host, KindSync, syncs, TaskLeased, limit)
}

// nextTask is when the next task comes due; the zero time if none does.
func nextTask(ctx context.Context, q db.Querier, connectorID string, now time.Time) (at time.Time, err error) {
	return db.One(ctx, q, func(row db.Scanner) (at time.Time, err error) {
		err = row.Scan(db.Time(&at))
		return at, err
	}, `SELECT min(not_before) FROM connector_task WHERE connector_id = $1 AND state = $2 AND not_before > $3`, connectorID, TaskQueued, now)
}

// lapsedTasks are the tasks whose lease ended by a time, the syncs of which no
// sign of life ever came, and the tasks that nobody took in time.
func lapsedTasks(ctx context.Context, q db.Querier, leases, now time.Time) ([]Task, error) {
	return db.All(ctx, q, scanTask, `SELECT `+taskColumns+` FROM connector_task
		WHERE state = $1 AND (lease_until <= $2 OR kind = $3 AND lease_until <= $4 AND lease_until = leased_at + $5) OR state = $6 AND give_up_at <= $4 LIMIT 200`,
		TaskLeased, leases, KindSync, now, forFirst.Microseconds(), TaskQueued)
}

// dropTasks deletes tasks of some kinds that were over before a time, with the keys
// of their answers.
func dropTasks(ctx context.Context, tx *db.Tx, kinds []Kind, before time.Time, limit int) ([]string, error) {
	args := []any{before, limit}
	for _, kind := range kinds {
		args = append(args, kind)
	}
	return ids(ctx, tx, `DELETE FROM connector_task WHERE id IN (
		SELECT id FROM connector_task WHERE finished_at < $1 AND kind IN `+db.In(3, len(kinds))+` ORDER BY finished_at LIMIT $2) RETURNING id`, args...)
}

const syncColumns = `id, app_id, connector_id, task_id, kind, cause, state, progress, file_id, file_hash, file_size, source_sync_id, host, version, began_at, ended_at,
	counts, totals, changes, changes_hash, anomaly, confirmed_by, error, created_at, started_at, uploaded_at, finished_at`

func scanSync(row db.Scanner) (s Sync, err error) {
	var counts, totals, changes, anomaly string
	err = row.Scan(&s.ID, &s.AppID, &s.ConnectorID, &s.TaskID, &s.Kind, &s.Cause, &s.State, db.JSON(&s.Progress), &s.FileID, &s.FileHash, &s.FileSize, &s.SourceSyncID,
		&s.Host, &s.Version, db.Time(&s.BeganAt), db.Time(&s.EndedAt), &counts, &totals, &changes, &s.ChangesHash, &anomaly, &s.ConfirmedBy, &s.Error,
		db.Time(&s.CreatedAt), db.Time(&s.StartedAt), db.Time(&s.UploadedAt), db.Time(&s.FinishedAt))
	s.Counts, s.Totals, s.Changes, s.Anomaly = raw(counts), raw(totals), raw(changes), raw(anomaly)
	return s, err
}

func raw(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func syncValues(s Sync) []any {
	return []any{
		s.ID, s.AppID, s.ConnectorID, s.TaskID, s.Kind, s.Cause, s.State, db.JSON(s.Progress), s.FileID, s.FileHash, s.FileSize, s.SourceSyncID, s.Host, s.Version,
		s.BeganAt, s.EndedAt, string(s.Counts), string(s.Totals), string(s.Changes), s.ChangesHash, string(s.Anomaly), s.ConfirmedBy, s.Error, s.CreatedAt,
		s.StartedAt, s.UploadedAt, s.FinishedAt,
	}
}

func insertSync(ctx context.Context, tx *db.Tx, s Sync) error {
	_, err := tx.Exec(ctx, `INSERT INTO sync (`+syncColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)`, syncValues(s)...)
	return err
}

// updateSync writes a sync that is still in the state it was read in; false says
// that it isn't.
func updateSync(ctx context.Context, tx *db.Tx, s Sync, from SyncState) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE sync SET app_id = $2, connector_id = $3, task_id = $4, kind = $5, cause = $6, state = $7, progress = $8, file_id = $9, file_hash = $10,
			file_size = $11, source_sync_id = $12, host = $13, version = $14, began_at = $15, ended_at = $16, counts = $17, totals = $18, changes = $19, changes_hash = $20,
			anomaly = $21, confirmed_by = $22, error = $23, created_at = $24, started_at = $25, uploaded_at = $26, finished_at = $27
		WHERE id = $1 AND state = $28`, append(syncValues(s), from)...)
	return n == 1, err
}

func syncByID(ctx context.Context, q db.Querier, syncID string) (Sync, error) {
	s, err := db.One(ctx, q, scanSync, `SELECT `+syncColumns+` FROM sync WHERE id = $1`, syncID)
	if errors.Is(err, sql.ErrNoRows) {
		return s, fault.New(fault.NotFound, "there is no sync %q", syncID)
	}
	return s, err
}

// syncOfTask is the sync that a task is for; nil if it is for none.
func syncOfTask(ctx context.Context, q db.Querier, taskID string) (*Sync, error) {
	return maybeSync(ctx, q, `SELECT `+syncColumns+` FROM sync WHERE task_id = $1`, taskID)
}

func maybeSync(ctx context.Context, q db.Querier, query string, args ...any) (*Sync, error) {
	s, err := db.One(ctx, q, scanSync, query, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil //nolint:nilnil // there may be none
	case err != nil:
		return nil, err
	}
	return &s, nil
}

// openSync is a connector's sync that isn't over, the one that is farthest; nil if
// none is.
func openSync(ctx context.Context, q db.Querier, connectorID string) (*Sync, error) {
	list, err := openSyncs(ctx, q, connectorID)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	for n := range list {
		if list[n].State != Waiting {
			return &list[n], nil
		}
	}
	return &list[0], nil
}

// openSyncs are a connector's syncs that aren't over, the oldest first.
func openSyncs(ctx context.Context, q db.Querier, connectorID string) ([]Sync, error) {
	args := []any{connectorID}
	for _, state := range openStates {
		args = append(args, state)
	}
	return db.All(ctx, q, scanSync, `SELECT `+syncColumns+` FROM sync WHERE connector_id = $1 AND state IN `+db.In(2, len(openStates))+` ORDER BY created_at, id`, args...)
}

func lastApplied(ctx context.Context, q db.Querier, connectorID string) (*Sync, error) {
	return maybeSync(ctx, q, `SELECT `+syncColumns+` FROM sync WHERE connector_id = $1 AND state = $2 ORDER BY created_at DESC, id DESC LIMIT 1`, connectorID, Applied)
}

// readingTimes are how long the last full syncs of a connector took to read.
func readingTimes(ctx context.Context, q db.Querier, connectorID string) ([]time.Duration, error) {
	return db.All(ctx, q, func(row db.Scanner) (time.Duration, error) {
		var micros int64
		err := row.Scan(&micros)
		return time.Duration(micros) * time.Microsecond, err
	}, `SELECT uploaded_at - started_at FROM sync
		WHERE connector_id = $1 AND state = $2 AND kind = $3 AND uploaded_at IS NOT NULL AND started_at IS NOT NULL ORDER BY created_at DESC, id DESC LIMIT 9`, connectorID, Applied, Full)
}

// SyncFilter says which syncs are asked for; its zero fields all.
type SyncFilter struct{ ConnectorID, AppID string }

// listSyncs are syncs, newest first, before one: ids tell the order of no more than
// seconds.
func listSyncs(ctx context.Context, q db.Querier, f SyncFilter, before string, limit int) ([]Sync, error) {
	where, args := []string{"1 = 1"}, []any{limit}
	add := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
	}
	if f.ConnectorID != "" {
		add("connector_id = ?", f.ConnectorID)
	}
	if f.AppID != "" {
		add("app_id = ?", f.AppID)
	}
	if before != "" {
		add("(created_at, id) < (SELECT created_at, id FROM sync WHERE id = ?)", before)
	}
	return db.All(ctx, q, scanSync, `SELECT `+syncColumns+` FROM sync WHERE `+strings.Join(where, " AND ")+` ORDER BY created_at DESC, id DESC LIMIT $1`, args...)
}

// dropSyncs deletes old syncs that are over, but for the last that was applied to
// an app.
func dropSyncs(ctx context.Context, tx *db.Tx, before time.Time, limit int) (int64, error) {
	args := []any{before, limit, Applied}
	for _, state := range openStates {
		args = append(args, state)
	}
	return tx.Exec(ctx, `DELETE FROM sync WHERE id IN (SELECT s.id FROM sync s WHERE s.created_at < $1 AND s.state NOT IN `+db.In(4, len(openStates))+`
		AND NOT EXISTS (SELECT 1 FROM app a WHERE a.sync_id = s.id)
		AND (s.state <> $3 OR EXISTS (SELECT 1 FROM sync n WHERE n.app_id = s.app_id AND n.state = $3 AND (n.created_at, n.id) > (s.created_at, s.id))) ORDER BY s.created_at LIMIT $2)`, args...)
}

const fileColumns = `id, kind, task_id, sha256, size, complete, created_at`

func scanFile(row db.Scanner) (f File, err error) {
	err = row.Scan(&f.ID, &f.Kind, &f.TaskID, &f.SHA256, &f.Size, &f.complete, db.Time(&f.CreatedAt))
	return f, err
}

func insertFile(ctx context.Context, tx *db.Tx, f File) error {
	_, err := tx.Exec(ctx, `INSERT INTO file (`+fileColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`, f.ID, f.Kind, f.TaskID, f.SHA256, f.Size, f.complete, f.CreatedAt)
	return err
}

func insertChunk(ctx context.Context, tx *db.Tx, fileID string, n int64, data []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO file_chunk (file_id, n, data) VALUES ($1, $2, $3)`, fileID, n, data)
	return err
}

func completeFile(ctx context.Context, tx *db.Tx, f File) error {
	_, err := tx.Exec(ctx, `UPDATE file SET complete = TRUE, sha256 = $2, size = $3 WHERE id = $1`, f.ID, f.SHA256, f.Size)
	return err
}

func fileByID(ctx context.Context, q db.Querier, fileID string) (File, error) {
	f, err := db.One(ctx, q, scanFile, `SELECT `+fileColumns+` FROM file WHERE id = $1 AND complete = TRUE`, fileID)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.NotFound, "there is no file %q: it may have been kept for its time", fileID)
	}
	return f, err
}

// filesOfTask are what was uploaded for a task, the last first.
func filesOfTask(ctx context.Context, q db.Querier, taskID string) ([]File, error) {
	return db.All(ctx, q, scanFile, `SELECT `+fileColumns+` FROM file WHERE task_id = $1 AND complete = TRUE ORDER BY created_at DESC, id DESC`, taskID)
}

func chunk(ctx context.Context, q db.Querier, fileID string, n int64) ([]byte, error) {
	return db.Value[[]byte](ctx, q, `SELECT data FROM file_chunk WHERE file_id = $1 AND n = $2`, fileID, n)
}

// staleFiles are the files that needn't be kept: incomplete ones of before a time,
// and complete ones of before another that no open sync needs, and that aren't
// the last that was applied to an app.
func staleFiles(ctx context.Context, q db.Querier, incomplete, complete time.Time) ([]string, error) {
	args := []any{incomplete, complete, Applied}
	for _, state := range openStates {
		args = append(args, state)
	}
	return ids(ctx, q, `SELECT f.id FROM file f WHERE f.complete = FALSE AND f.created_at < $1
		OR f.complete = TRUE AND f.created_at < $2
			AND NOT EXISTS (SELECT 1 FROM sync s WHERE s.file_id = f.id AND (s.state IN `+db.In(4, len(openStates))+` OR s.state = $3
				AND NOT EXISTS (SELECT 1 FROM sync n WHERE n.app_id = s.app_id AND n.state = $3 AND (n.created_at, n.id) > (s.created_at, s.id))))
		ORDER BY f.created_at LIMIT 100`, args...)
}

// dropChunks deletes some chunks of a file, and tells how many.
func dropChunks(ctx context.Context, tx *db.Tx, fileID string, limit int) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM file_chunk WHERE file_id = $1 AND n IN (SELECT n FROM file_chunk WHERE file_id = $1 ORDER BY n LIMIT $2)`, fileID, limit)
}

func hideFile(ctx context.Context, tx *db.Tx, fileID string) error {
	_, err := tx.Exec(ctx, `UPDATE file SET complete = FALSE WHERE id = $1`, fileID)
	return err
}

func dropFile(ctx context.Context, tx *db.Tx, fileID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM file WHERE id = $1`, fileID)
	return err
}

// appendLog adds lines to a connector's log. Whoever calls it holds the connector.
func appendLog(ctx context.Context, tx *db.Tx, connectorID string, lines []LogLine) error {
	last, err := db.Value[int64](ctx, tx, `SELECT coalesce(max(n), 0) FROM connector_log WHERE connector_id = $1`, connectorID)
	if err != nil {
		return err
	}
	rows := make([][]any, len(lines))
	for n, line := range lines {
		rows[n] = []any{connectorID, last + int64(n) + 1, line.At, line.Level, line.Message, string(line.Fields)}
	}
	return tx.Insert(ctx, "connector_log", []string{"connector_id", "n", "at", "level", "message", "fields"}, rows)
}

func scanLine(row db.Scanner) (l LogLine, err error) {
	var fields string
	err = row.Scan(&l.N, db.Time(&l.At), &l.Level, &l.Message, &fields)
	l.Fields = raw(fields)
	return l, err
}

func linesAfter(ctx context.Context, q db.Querier, connectorID string, after int64, limit int) ([]LogLine, error) {
	return db.All(ctx, q, scanLine, `SELECT n, at, level, message, fields FROM connector_log WHERE connector_id = $1 AND n > $2 ORDER BY n LIMIT $3`, connectorID, after, limit)
}

func linesBefore(ctx context.Context, q db.Querier, connectorID string, before int64, limit int) ([]LogLine, error) {
	return db.All(ctx, q, scanLine, `SELECT n, at, level, message, fields FROM connector_log WHERE connector_id = $1 AND n < $2 ORDER BY n DESC LIMIT $3`, connectorID, before, limit)
}

// logEnds are each connector's last line.
func logEnds(ctx context.Context, q db.Querier) (map[string]int64, error) {
	ends := map[string]int64{}
	return ends, db.Each(ctx, q, func(row db.Scanner) error {
		var connectorID string
		var last int64
		err := row.Scan(&connectorID, &last)
		ends[connectorID] = last
		return err
	}, `SELECT connector_id, max(n) FROM connector_log GROUP BY connector_id`)
}

// dropLines deletes lines up to a number, or of before a time, but never the last:
// it tells the number of the next.
func dropLines(ctx context.Context, tx *db.Tx, connectorID string, last, upTo int64, before time.Time, limit int) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM connector_log WHERE connector_id = $1 AND n IN (
		SELECT n FROM connector_log WHERE connector_id = $1 AND (n <= $3 OR at < $4) AND n < $2 ORDER BY n LIMIT $5)`, connectorID, last, upTo, before, limit)
}

// feed is a feed of events, and how far it was read.
type feed struct {
	connectorID string
	name        string
	cursor      string
	nextAt      time.Time
}

func scanFeed(row db.Scanner) (f feed, err error) {
	err = row.Scan(&f.connectorID, &f.name, &f.cursor, db.Time(&f.nextAt))
	return f, err
}

func feedOf(ctx context.Context, q db.Querier, connectorID, name string) (feed, error) {
	return db.One(ctx, q, scanFeed, `SELECT connector_id, feed, cursor, next_at FROM event_feed WHERE connector_id = $1 AND feed = $2`, connectorID, name)
}

// dueFeeds are the feeds to read now, of connectors that are there and in touch.
func dueFeeds(ctx context.Context, q db.Querier, now, since time.Time) ([]feed, error) {
	return db.All(ctx, q, scanFeed, `SELECT f.connector_id, f.feed, f.cursor, f.next_at FROM event_feed f JOIN connector c ON c.id = f.connector_id
		WHERE f.next_at <= $1 AND c.removed_at IS NULL AND c.paused_at IS NULL AND c.seen_at >= $2 ORDER BY f.next_at LIMIT 200`, now, since)
}

func addFeed(ctx context.Context, tx *db.Tx, f feed) error {
	_, err := tx.Exec(ctx, `INSERT INTO event_feed (connector_id, feed, cursor, next_at) VALUES ($1, $2, $3, $4) ON CONFLICT (connector_id, feed) DO NOTHING`,
		f.connectorID, f.name, f.cursor, f.nextAt)
	return err
}

func moveFeed(ctx context.Context, tx *db.Tx, f feed) error {
	_, err := tx.Exec(ctx, `UPDATE event_feed SET cursor = $3, next_at = $4 WHERE connector_id = $1 AND feed = $2`, f.connectorID, f.name, f.cursor, f.nextAt)
	return err
}

func dropFeeds(ctx context.Context, tx *db.Tx, connectorID string, but []string) error {
	args := []any{connectorID}
	for _, name := range but {
		args = append(args, name)
	}
	query := `DELETE FROM event_feed WHERE connector_id = $1`
	if len(but) > 0 {
		query += ` AND feed NOT IN ` + db.In(2, len(but))
	}
	_, err := tx.Exec(ctx, query, args...)
	return err
}

// ingesting reports whether a file of a connector is being taken in: the next sync
// begins after that.
func ingesting(ctx context.Context, q db.Querier, connectorID string) (bool, error) {
	n, err := db.Value[int64](ctx, q, `SELECT count(*) FROM sync WHERE connector_id = $1 AND state IN ($2, $3)`, connectorID, Comparing, Applying)
	return n > 0, err
}

func followTask(ctx context.Context, tx *db.Tx, taskID string, f Follow) error {
	_, err := tx.Exec(ctx, `UPDATE connector_task SET follow_kind = $2, follow_row = $3 WHERE id = $1`, taskID, f.Kind, f.Row)
	return err
}
