package seal

import (
	"context"
	"time"

	"airlock/internal/base/db"
)

type secret struct {
	name   string
	sealed []byte
}

func scanSecret(row db.Scanner) (s secret, err error) {
	err = row.Scan(&s.name, &s.sealed)
	return s, err
}

func secretByName(ctx context.Context, q db.Querier, name string) ([]byte, error) {
	return db.Value[[]byte](ctx, q, `SELECT sealed FROM secret WHERE name = $1`, name)
}

// secretPage is some secrets in the order of their names, from the one after.
func secretPage(ctx context.Context, q db.Querier, after string, limit int) ([]secret, error) {
	return db.All(ctx, q, scanSecret, `SELECT name, sealed FROM secret WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// secretHeads is what the sealed values begin with, each once.
func secretHeads(ctx context.Context, q db.Querier) ([][]byte, error) {
	return db.All(ctx, q, func(row db.Scanner) (head []byte, err error) {
		err = row.Scan(&head)
		return head, err
	}, `SELECT DISTINCT substr(sealed, 1, $1) FROM secret`, headSize)
}

func insertSecret(ctx context.Context, tx *db.Tx, s secret, at time.Time, conflict string) (int64, error) {
	return tx.Exec(ctx, `INSERT INTO secret (name, sealed, updated_at) VALUES ($1, $2, $3) `+conflict, s.name, s.sealed, at)
}

// updateSecret changes a secret unless somebody else did.
func updateSecret(ctx context.Context, tx *db.Tx, was secret, sealed []byte) error {
	_, err := tx.Exec(ctx, `UPDATE secret SET sealed = $1 WHERE name = $2 AND sealed = $3`, sealed, was.name, was.sealed)
	return err
}

func deleteSecret(ctx context.Context, tx *db.Tx, name string) error {
	_, err := tx.Exec(ctx, `DELETE FROM secret WHERE name = $1`, name)
	return err
}

func deleteSecrets(ctx context.Context, tx *db.Tx, prefix string) error {
	_, err := tx.Exec(ctx, `DELETE FROM secret WHERE substr(name, 1, $1) = $2`, len([]rune(prefix)), prefix)
	return err
}

// On PostgreSQL whoever drops old keys waits for those who put secrets, and they
// for it. On SQLite there is one writer anyway.
func lockToPut(ctx context.Context, tx *db.Tx) error {
	return lock(ctx, tx, `LOCK TABLE secret IN ROW EXCLUSIVE MODE`)
}

func lockToDrop(ctx context.Context, tx *db.Tx) error {
	return lock(ctx, tx, `LOCK TABLE secret IN SHARE ROW EXCLUSIVE MODE`)
}

func lock(ctx context.Context, tx *db.Tx, statement string) error {
	if tx.Engine() != db.Postgres {
		return nil
	}
	_, err := tx.Exec(ctx, statement)
	return err
}
