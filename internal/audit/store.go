package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"airlock/internal/base/db"
)

// reserve takes the next place in the log. Whoever else appends waits until the
// transaction ends, so that places have no gaps and are committed in order.
func reserve(ctx context.Context, tx *db.Tx) (seq int64, err error) {
	size, err := db.Value[int64](ctx, tx, "UPDATE audit_head SET size = size + 1 WHERE one = 1 RETURNING size")
	return size - 1, err
}

func headSize(ctx context.Context, q db.Querier) (int64, error) {
	return db.Value[int64](ctx, q, "SELECT size FROM audit_head WHERE one = 1")
}

// extent reads how many entries the log says it has, how many rows are behind
// them, and how many the last checkpoint covers.
func extent(ctx context.Context, s *db.Snapshot) (size, behind, latest int64, err error) {
	if size, err = headSize(ctx, s); err != nil {
		return 0, 0, 0, err
	}
	if behind, err = db.Value[int64](ctx, s, "SELECT COUNT(*) FROM audit_event WHERE seq >= $1", size); err != nil {
		return 0, 0, 0, err
	}
	latest, err = db.Value[int64](ctx, s, "SELECT COALESCE(MAX(size), 0) FROM audit_checkpoint")
	return size, behind, latest, err
}

const entryColumns = "seq, id, at, actor_kind, actor_id, actor_name, action, object_kind, object_id, object_name, app_id, request_id, detail"

func scanEntry(s db.Scanner) (e Entry, err error) {
	var detail string
	err = s.Scan(&e.Seq, &e.ID, db.Time(&e.At), &e.Actor.Kind, &e.Actor.ID, &e.Actor.Name, &e.Action,
		&e.Object.Kind, &e.Object.ID, &e.Object.Name, &e.AppID, &e.RequestID, &detail)
	e.Detail = []byte(detail)
	return e, err
}

func insertEntry(ctx context.Context, tx *db.Tx, e Entry) error {
	_, err := tx.Exec(ctx, "INSERT INTO audit_event ("+entryColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		e.Seq, e.ID, e.At, e.Actor.Kind, e.Actor.ID, e.Actor.Name, e.Action,
		e.Object.Kind, e.Object.ID, e.Object.Name, e.AppID, e.RequestID, string(e.Detail))
	return err
}

// insertHashes keeps hashes side by side from a place on.
func insertHashes(ctx context.Context, tx *db.Tx, place int64, list []tlog.Hash) error {
	rows := make([]string, len(list))
	args := make([]any, 0, 2*len(list))
	for n, hash := range list {
		rows[n] = fmt.Sprintf("($%d, $%d)", 2*n+1, 2*n+2)
		args = append(args, place+int64(n), hash[:])
	}
	_, err := tx.Exec(ctx, "INSERT INTO audit_hash (place, hash) VALUES "+strings.Join(rows, ", "), args...)
	return err
}

// hashes reads the kept hashes for tlog.
func hashes(ctx context.Context, q db.Querier) tlog.HashReader {
	return tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		if len(places) == 0 {
			return nil, nil
		}
		args := make([]any, len(places))
		for n, place := range places {
			args[n] = place
		}
		found := make(map[int64]tlog.Hash, len(places))
		err := db.Each(ctx, q, func(s db.Scanner) error {
			place, hash, err := scanHash(s)
			found[place] = hash
			return err
		}, "SELECT place, hash FROM audit_hash WHERE place IN "+db.In(1, len(places)), args...)
		if err != nil {
			return nil, err
		}
		list := make([]tlog.Hash, len(places))
		for n, place := range places {
			hash, ok := found[place]
			if !ok {
				level, at := tlog.SplitStoredHashIndex(place)
				return nil, tamperedf("the hash of the entries %d to %d is missing", at<<level, (at+1)<<level-1)
			}
			list[n] = hash
		}
		return list, nil
	})
}

func scanHash(s db.Scanner) (place int64, hash tlog.Hash, err error) {
	var bytes []byte
	if err := s.Scan(&place, &bytes); err != nil {
		return 0, hash, err
	}
	if len(bytes) != tlog.HashSize {
		return 0, hash, tamperedf("the hash at %d has %d bytes", place, len(bytes))
	}
	return place, tlog.Hash(bytes), nil
}

// hashesFrom reads kept hashes by place: at least as many as asked for, if there
// are.
func hashesFrom(ctx context.Context, q db.Querier, place int64, limit int) ([]tlog.Hash, error) {
	next := place
	return db.All(ctx, q, func(s db.Scanner) (tlog.Hash, error) {
		place, hash, err := scanHash(s)
		if err == nil && place != next {
			level, at := tlog.SplitStoredHashIndex(next)
			err = tamperedf("the hash of the entries %d to %d is missing", at<<level, (at+1)<<level-1)
		}
		next++
		return hash, err
	}, "SELECT place, hash FROM audit_hash WHERE place >= $1 ORDER BY place LIMIT $2", place, limit)
}

func entryBySeq(ctx context.Context, q db.Querier, seq int64) (Entry, error) {
	return db.One(ctx, q, scanEntry, "SELECT "+entryColumns+" FROM audit_event WHERE seq = $1", seq)
}

// entriesFrom reads a page, oldest first, of the entries before a place.
func entriesFrom(ctx context.Context, q db.Querier, from, before int64, limit int) ([]Entry, error) {
	return db.All(ctx, q, scanEntry, "SELECT "+entryColumns+" FROM audit_event WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3", from, before, limit)
}

// listEntries reads a page, newest first.
func listEntries(ctx context.Context, q db.Querier, f Filter) ([]Entry, error) {
	where, args := []string{"seq >= $1"}, []any{f.From}
	add := func(condition string, value any) {
		args = append(args, value)
		where = append(where, condition+strconv.Itoa(len(args)))
	}
	if f.Before > 0 {
		add("seq < $", f.Before)
	}
	for _, by := range []struct{ condition, value string }{
		{"actor_id = $", f.ActorID},
		{"action = $", f.Action},
		{"object_kind = $", f.ObjectKind},
		{"object_id = $", f.ObjectID},
		{"app_id = $", f.AppID},
	} {
		if by.value != "" {
			add(by.condition, by.value)
		}
	}
	args = append(args, f.Limit)
	return db.All(ctx, q, scanEntry,
		"SELECT "+entryColumns+" FROM audit_event WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT $"+strconv.Itoa(len(args)), args...)
}

// restoresIn reads where older backups took over.
func restoresIn(ctx context.Context, q db.Querier) ([]restore, error) {
	entries, err := db.All(ctx, q, scanEntry, "SELECT "+entryColumns+" FROM audit_event WHERE action = $1 ORDER BY seq", actionRestored)
	var list []restore
	for _, entry := range entries {
		if restored, ok := restoreOf(entry); ok {
			list = append(list, restored)
		}
	}
	return list, err
}

// latestNote reads the latest signed checkpoint; ” if there is none.
func latestNote(ctx context.Context, q db.Querier) (string, error) {
	signed, err := db.Value[string](ctx, q, "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return signed, err
}

// keptNote is a checkpoint as it is kept. Its size is the row's, which the
// signed text may belie.
type keptNote struct {
	size   int64
	signed string
}

// notesBetween reads the checkpoints of more than from entries, and up to to.
func notesBetween(ctx context.Context, q db.Querier, from, to int64) ([]keptNote, error) {
	return db.All(ctx, q, func(s db.Scanner) (k keptNote, err error) {
		err = s.Scan(&k.size, &k.signed)
		return k, err
	}, "SELECT size, note FROM audit_checkpoint WHERE size > $1 AND size <= $2 ORDER BY size", from, to)
}

// insertCheckpoint keeps a checkpoint, unless another server has kept one of
// that size.
func insertCheckpoint(ctx context.Context, tx *db.Tx, c Checkpoint) error {
	_, err := tx.Exec(ctx, "INSERT INTO audit_checkpoint (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING", c.Size, c.Note)
	return err
}
