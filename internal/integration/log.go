package integration

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// LogLine is a line of a connector's log.
type LogLine struct {
	N       int64 // counts the connector's lines; set when it is kept
	At      time.Time
	Level   string // debug, info, warn, error
	Message string
	Fields  json.RawMessage // an object, or nothing
}

// How much is kept of one call, of one line and of one connector.
const (
	mostLines     = 1000
	mostMessage   = 4 << 10
	mostFields    = 8 << 10
	mostLinesKept = 20_000
)

// ours marks a line that the server wrote, not the connector.
var ours = json.RawMessage(`{"by":"airlock"}`)

// AppendLog adds lines to a connector's log; what is too long is cut, and of too
// many lines the last are kept.
func (s *Service) AppendLog(ctx context.Context, connectorID string, lines []LogLine) error {
	lines = slices.Clone(lines[max(0, len(lines)-mostLines):])
	for n, line := range lines {
		lines[n] = line.checked(s.clock.Now())
	}
	if len(lines) == 0 {
		return nil
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := holdConnector(ctx, tx, connectorID); err != nil {
			return err
		}
		if err := appendLog(ctx, tx, connectorID, lines); err != nil {
			return err
		}
		return s.live.Publish(ctx, tx, connectorTopic(connectorID))
	})
}

// checked is a line as it is kept.
func (l LogLine) checked(now time.Time) LogLine {
	if l.At.IsZero() {
		l.At = now
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		l.Level = "info"
	}
	l.Message = clean(l.Message, mostMessage)
	if len(l.Fields) > mostFields || !json.Valid(l.Fields) || string(l.Fields) != clean(string(l.Fields), mostFields) {
		l.Fields = nil
	}
	return l
}

// note adds a line of our own to a connector's log.
func (s *Service) note(ctx context.Context, tx *db.Tx, c *Connector, level, message string, fields map[string]any) error {
	all := map[string]any{"by": "airlock"}
	maps.Copy(all, fields)
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	line := LogLine{Level: level, Message: message, Fields: text}.checked(s.clock.Now())
	return appendLog(ctx, tx, c.ID, []LogLine{line})
}

// Log is a part of a connector's log, the oldest line first: the lines after one
// (after > 0), or else the last ones before one (before > 0) or at all.
func (s *Service) Log(ctx context.Context, actor identity.Actor, connectorID string, after, before int64, limit int) ([]LogLine, error) {
	c, err := connectorByID(ctx, s.db, connectorID)
	if err != nil {
		return nil, err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Read, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}); err != nil {
		return nil, err
	}
	limit = min(max(limit, 1), mostLines)
	if after > 0 {
		return linesAfter(ctx, s.db, connectorID, after, limit)
	}
	if before <= 0 {
		before = 1 << 62
	}
	list, err := linesBefore(ctx, s.db, connectorID, before, limit)
	slices.Reverse(list)
	return list, err
}
