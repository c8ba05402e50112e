package hosting

import (
	"context"
	"time"

	"airlock/internal/base/db"
)

// lease is that a server runs a connector.
type lease struct {
	server string
	fence  int64
	until  time.Time // zero if the server released it

	seen time.Time // when this server saw it first
}

func leases(ctx context.Context, q db.Querier) (map[string]lease, error) {
	all := map[string]lease{}
	err := db.Each(ctx, q, func(s db.Scanner) error {
		var (
			connectorID string
			l           lease
			until       int64
		)
		if err := s.Scan(&connectorID, &l.server, &l.fence, &until); err != nil {
			return err
		}
		if until > 0 {
			l.until = time.UnixMicro(until)
		}
		all[connectorID] = l
		return nil
	}, `SELECT connector_id, server, fence, until FROM hosting`)
	return all, err
}

// takeLease takes a lease that is as it was seen; the zero lease is none.
func takeLease(ctx context.Context, tx *db.Tx, connectorID string, seen lease, server string, until time.Time) (bool, error) {
	if seen.server == "" {
		n, err := tx.Exec(ctx, `INSERT INTO hosting (connector_id, server, fence, until) VALUES ($1, $2, 1, $3)
			ON CONFLICT (connector_id) DO NOTHING`, connectorID, server, until)
		return n == 1, err
	}
	before := int64(0)
	if !seen.until.IsZero() {
		before = seen.until.UnixMicro()
	}
	n, err := tx.Exec(ctx, `UPDATE hosting SET server = $1, fence = fence + 1, until = $2
		WHERE connector_id = $3 AND server = $4 AND fence = $5 AND until = $6`,
		server, until, connectorID, seen.server, seen.fence, before)
	return n == 1, err
}

// renewAll renews all leases of a server, and returns their fences.
func renewAll(ctx context.Context, tx *db.Tx, server string, until time.Time) (map[string]int64, error) {
	held := map[string]int64{}
	err := db.Each(ctx, tx, func(s db.Scanner) error {
		var (
			connectorID string
			fence       int64
		)
		err := s.Scan(&connectorID, &fence)
		held[connectorID] = fence
		return err
	}, `UPDATE hosting SET until = $1 WHERE server = $2 AND until > 0 RETURNING connector_id, fence`, until, server)
	return held, err
}

// holdLease makes sure, until the transaction ends, that a lease is still ours;
// else it fails with errLapsed.
func holdLease(ctx context.Context, tx *db.Tx, connectorID, server string, fence int64) error {
	n, err := tx.Exec(ctx, `UPDATE hosting SET until = until WHERE connector_id = $1 AND server = $2 AND fence = $3 AND until > 0`,
		connectorID, server, fence)
	if err == nil && n == 0 {
		err = errLapsed
	}
	return err
}

// release gives a lease back, so that others need not wait until it lapses.
func release(ctx context.Context, tx *db.Tx, connectorID, server string, fence int64) error {
	_, err := tx.Exec(ctx, `UPDATE hosting SET until = 0 WHERE connector_id = $1 AND server = $2 AND fence = $3`, connectorID, server, fence)
	return err
}

// releaseOf releases the leases of a server that has ended.
func releaseOf(ctx context.Context, tx *db.Tx, server string) error {
	_, err := tx.Exec(ctx, `UPDATE hosting SET until = 0 WHERE server = $1`, server)
	return err
}
