package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// OpenToRead opens a database, which must be there, to look at it: it can't be
// changed, and no file is made beside it. Served says that a server has it open.
func OpenToRead(ctx context.Context, where string, served bool) (*DB, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		parsed, err := url.Parse(where)
		if err != nil {
			return nil, errors.New("the database URL can't be read")
		}
		settings := parsed.Query()
		settings.Set("default_transaction_read_only", "on")
		parsed.RawQuery = settings.Encode()
		return openPostgres(ctx, parsed.String())
	}
	absolute, err := filepath.Abs(where)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	settings := url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)", "busy_timeout(10000)"}}
	// Where neither a server nor a journal is, SQLite must be told so, or it makes
	// a journal.
	if _, err := os.Stat(absolute + "-wal"); !served && errors.Is(err, os.ErrNotExist) {
		settings.Set("immutable", "1")
	}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: absolute, RawQuery: settings.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", where, err)
	}
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", where, err), pool.Close())
	}
	return &DB{engine: SQLite, where: where, writer: pool, reader: pool}, nil
}
