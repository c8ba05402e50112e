package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/trace"
)

// say writes a line about a connector into the server's log, once what it tells
// of is committed.
func (s *Service) say(ctx context.Context, tx *db.Tx, level slog.Level, connectorID, message string, attrs ...any) {
	if connectorID != "" {
		ctx = trace.With(ctx, "connector", connectorID)
	}
	tx.AfterCommit(func() { s.log.Log(ctx, level, message, attrs...) })
}

// saySync tells of the new state of a sync.
func (s *Service) saySync(ctx context.Context, tx *db.Tx, sync Sync) {
	attrs := []any{"sync", sync.ID, "app", sync.AppID, "kind", string(sync.Kind), "cause", sync.Cause}
	since := sync.StartedAt
	if since.IsZero() { // a file brought by hand
		since = sync.CreatedAt
	}
	took := func(until time.Time) { attrs = append(attrs, "took", until.Sub(since).Round(time.Millisecond)) }
	switch sync.State {
	case Reading:
		s.say(ctx, tx, slog.LevelInfo, sync.ConnectorID, "sync started", append(attrs, "host", sync.Host)...)
	case HeldBack:
		took(s.clock.Now())
		s.say(ctx, tx, slog.LevelWarn, sync.ConnectorID, "sync held back until somebody confirms or discards it", append(attrs, "changes", changesIn(sync.Changes))...)
	case Applied:
		took(sync.FinishedAt)
		s.say(ctx, tx, slog.LevelInfo, sync.ConnectorID, "sync applied", append(attrs, "changes", changesIn(sync.Changes), "bytes", sync.FileSize)...)
	case Failed:
		took(sync.FinishedAt)
		s.say(ctx, tx, slog.LevelWarn, sync.ConnectorID, "sync failed", append(attrs, "error", sync.Error)...)
	case Cancelled, Discarded:
		s.say(ctx, tx, slog.LevelInfo, sync.ConnectorID, "sync "+string(sync.State), append(attrs, "why", sync.Error)...)
	case Waiting, Uploading, Comparing, Applying:
	}
}

// changesIn sums up what a sync changed in a few words, such as "accounts: 6
// added; grants: 2 added, 1 removed".
func changesIn(changes json.RawMessage) string {
	var all map[string]json.RawMessage
	if json.Unmarshal(changes, &all) != nil {
		return ""
	}
	var parts []string
	for kind, text := range all {
		var n struct{ Added, Changed, Removed int64 }
		if json.Unmarshal(text, &n) != nil { // a number of something else
			continue
		}
		var words []string
		for _, one := range []struct {
			n    int64
			verb string
		}{{n.Added, "added"}, {n.Changed, "changed"}, {n.Removed, "removed"}} {
			if one.n > 0 {
				words = append(words, fmt.Sprint(one.n, " ", one.verb))
			}
		}
		if len(words) > 0 {
			parts = append(parts, kind+": "+strings.Join(words, ", "))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
