package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// Query says what somebody looks for in the log; what is empty doesn't limit.
type Query struct {
	Text       string    // part of the name of who did it, or of what it was done to; or an id of one of them, or of the request
	ActorID    string    // who did it
	Action     string    // all of it (connector.added), or what is before the dot (connector)
	ObjectKind string    //
	ObjectID   string    // with a kind
	AppID      string    //
	From, To   time.Time // from a time on, and before another
	Before     int64     // only those before this place: Found.Next of the page before
	Limit      int       // 100 unless told, 1000 at most
	Span       int64     // so many are looked at for a page at most, that what is rare doesn't hold up the database; 100,000 unless told
}

// Found is a page of what was looked for.
type Found struct {
	Entries []Entry // newest first
	Next    int64   // the next page is before this place; 0 is that there is none
	Looked  int64   // the place down to which was looked
}

// skew is how far the clocks of two servers that write one log may differ.
const skew = 10 * time.Minute

// Search looks for entries, newest first.
func (l *Log) Search(ctx context.Context, actor Actor, q Query) (Found, error) {
	if err := l.options.MayRead(actor); err != nil {
		return Found{}, err
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 1000)
	if q.Span <= 0 {
		q.Span = 100_000
	}
	var found Found
	err := l.db.Read(ctx, func(s *db.Snapshot) error {
		first, end, err := between(ctx, s, q)
		if err != nil {
			return err
		}
		found = Found{Looked: max(first, end-q.Span)}
		if found.Looked >= end {
			return nil
		}
		if found.Entries, err = search(ctx, s, q, found.Looked, end); err != nil {
			return err
		}
		switch more := len(found.Entries) > q.Limit; {
		case more:
			found.Entries = found.Entries[:q.Limit]
			found.Looked = found.Entries[q.Limit-1].Seq
			found.Next = found.Looked
		case found.Looked > first:
			found.Next = found.Looked
		}
		return nil
	})
	if err != nil {
		return Found{}, fmt.Errorf("search the audit log: %w", err)
	}
	return found, nil
}

// between finds the places that a query's times and its page limit it to: from
// the first on, and before the end.
func between(ctx context.Context, s *db.Snapshot, q Query) (first, end int64, err error) {
	size, err := headSize(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	end = size
	if !q.From.IsZero() {
		if first, err = placeAt(ctx, s, size, q.From.Add(-skew)); err != nil {
			return 0, 0, err
		}
	}
	if !q.To.IsZero() {
		if end, err = placeAt(ctx, s, size, q.To.Add(skew)); err != nil {
			return 0, 0, err
		}
	}
	if q.Before > 0 {
		end = min(end, q.Before)
	}
	return first, end, nil
}

// placeAt finds the first entry of a time or later, among so many. Their times
// rise with their places, but for what the clocks of servers differ.
func placeAt(ctx context.Context, q db.Querier, size int64, at time.Time) (int64, error) {
	low, high := int64(0), size
	for low < high {
		middle := low + (high-low)/2
		entry, err := entriesFrom(ctx, q, middle, size, 1) // or the next, should one be missing
		if err != nil {
			return 0, err
		}
		if len(entry) > 0 && entry[0].At.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// search reads one entry more than a page has, so that one sees whether there is a
// next.
func search(ctx context.Context, s *db.Snapshot, q Query, from, before int64) ([]Entry, error) {
	where, args := []string{"seq >= $1 AND seq < $2"}, []any{from, before}
	add := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "$", "$"+strconv.Itoa(len(args))))
	}
	for _, by := range []struct{ condition, value string }{
		{"actor_id = $", q.ActorID},
		{"object_kind = $", q.ObjectKind},
		{"object_id = $", q.ObjectID},
		{"app_id = $", q.AppID},
	} {
		if by.value != "" {
			add(by.condition, by.value)
		}
	}
	switch {
	case strings.Contains(q.Action, "."):
		add("action = $", q.Action)
	case q.Action != "":
		add("action LIKE $ ESCAPE '!'", db.Escape(q.Action)+".%")
	}
	if q.Text != "" {
		args = append(args, "%"+db.Escape(q.Text)+"%", q.Text)
		part, whole := "$"+strconv.Itoa(len(args)-1), "$"+strconv.Itoa(len(args))
		where = append(where, "(LOWER(actor_name) LIKE LOWER("+part+") ESCAPE '!' OR LOWER(object_name) LIKE LOWER("+part+") ESCAPE '!' OR "+
			whole+" IN (actor_id, object_id, request_id, id))")
	}
	if !q.From.IsZero() {
		add("at >= $", q.From)
	}
	if !q.To.IsZero() {
		add("at < $", q.To)
	}
	args = append(args, q.Limit+1)
	return db.All(ctx, s, scanEntry,
		"SELECT "+entryColumns+" FROM audit_event WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT $"+strconv.Itoa(len(args)), args...)
}

// Proof is an entry with what proves it.
type Proof struct {
	Entry
	Hash       string // of the record, base64
	Inclusion  Inclusion
	Checkpoint Checkpoint // the latest; its Size is 0 where none covers the entry yet
}

// Prove finds an entry, and proves it by the latest checkpoint, if that covers it.
func (l *Log) Prove(ctx context.Context, actor Actor, seq int64) (Proof, error) {
	last, err := l.LastCheckpoint(ctx, actor)
	if err != nil {
		return Proof{}, err
	}
	entry, err := entryBySeq(ctx, l.db, seq)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Proof{}, fault.New(fault.NotFound, "the audit log has no entry %d", seq)
	case err != nil:
		return Proof{}, fmt.Errorf("read entry %d: %w", seq, err)
	}
	proof := Proof{Entry: entry, Hash: tlog.RecordHash(entry.Record()).String()}
	if seq >= last.Size {
		return proof, nil
	}
	proof.Checkpoint = last
	proof.Inclusion, err = l.ProveInclusion(ctx, actor, seq, last.Size)
	return proof, err
}

// LastCheckpoint is the latest checkpoint; its Size is 0 where there is none.
func (l *Log) LastCheckpoint(ctx context.Context, actor Actor) (Checkpoint, error) {
	if err := l.options.MayRead(actor); err != nil {
		return Checkpoint{}, err
	}
	key, err := l.key(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	signed, err := latestNote(ctx, l.db)
	if err != nil || signed == "" {
		return Checkpoint{}, err
	}
	last, err := openCheckpoint(key.verifier, signed)
	if err != nil {
		return Checkpoint{}, tamperedf("its last checkpoint: %v", err)
	}
	return last, nil
}
