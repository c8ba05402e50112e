package db

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Insert adds many rows to a table: by COPY on PostgreSQL, by statements of many
// rows on SQLite. Callers hand over some thousand rows at a time, so that the
// transaction stays short. If it fails, so does the transaction.
func (tx *Tx) Insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	kept := make([][]any, len(rows))
	for n, row := range rows {
		if len(row) != len(columns) {
			return fmt.Errorf("insert into %s: a row of %d values for %d columns", table, len(row), len(columns))
		}
		kept[n] = values(row)
	}
	if tx.db.engine == Postgres {
		return tx.conn.Raw(func(conn any) error {
			_, err := conn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(kept))
			return err
		})
	}
	const parameters = 32766 // SQLITE_MAX_VARIABLE_NUMBER
	size := min(500, parameters/len(columns))
	for chunk := range slices.Chunk(kept, size) {
		// OR FAIL spares a journal of the statement: the transaction is given up anyway.
		statement := "INSERT OR FAIL INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + tuples(len(chunk), len(columns)) //nolint:gosec // names of ours
		args := make([]any, 0, len(chunk)*len(columns))
		for _, row := range chunk {
			args = append(args, row...)
		}
		if _, err := tx.tx.ExecContext(ctx, statement, args...); err != nil {
			return err
		}
	}
	return nil
}

// ExecEach runs a statement for each of some rows of arguments: on PostgreSQL all of
// them in one exchange. Callers hand over some hundred at a time.
func (tx *Tx) ExecEach(ctx context.Context, statement string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	if tx.db.engine == Postgres {
		return tx.conn.Raw(func(conn any) error {
			batch := &pgx.Batch{}
			for _, row := range rows {
				batch.Queue(statement, values(row)...)
			}
			return conn.(*stdlib.Conn).Conn().SendBatch(ctx, batch).Close()
		})
	}
	prepared, err := tx.tx.PrepareContext(ctx, tx.db.rebind(statement))
	if err != nil {
		return err
	}
	defer prepared.Close() //nolint:errcheck // it was only used
	for _, row := range rows {
		if _, err := prepared.ExecContext(ctx, values(row)...); err != nil {
			return err
		}
	}
	return nil
}

// Unhurried lets the commit of a transaction of many not wait for PostgreSQL's disk.
// What is lost if the database is killed is the last of them, never one before
// another that stays: so the transaction that says the work is done must be an
// ordinary one, and the work must be begun anew without it.
func (tx *Tx) Unhurried(ctx context.Context) error {
	if tx.db.engine != Postgres {
		return nil
	}
	_, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off")
	return err
}

// Analyze lets PostgreSQL look at tables, after much was added to them: until it does
// so by itself, within a minute, it takes them for small and reads them whole. It
// takes a while and isn't a transaction of Write: it changes nothing that is kept,
// and neither who reads nor who writes waits for it. SQLite needs none.
func (d *DB) Analyze(ctx context.Context, tables ...string) error {
	if d.engine != Postgres {
		return nil
	}
	if err := d.outside(ctx); err != nil {
		return err
	}
	if _, err := d.writer.ExecContext(ctx, "ANALYZE "+strings.Join(tables, ", ")); err != nil {
		return fmt.Errorf("analyze the tables: %w", err)
	}
	return nil
}

// tuples writes (?1, ?2), (?3, ?4) and so on.
func tuples(rows, columns int) string {
	var out strings.Builder
	for n := range rows * columns {
		switch {
		case n == 0:
			out.WriteByte('(')
		case n%columns == 0:
			out.WriteString("), (")
		default:
			out.WriteString(", ")
		}
		out.WriteByte('?')
	}
	out.WriteByte(')')
	return out.String()
}

// In writes ($3, $4, …) for a list of values whose first placeholder is given.
// A statement takes some thousand at most.
func In(first, count int) string {
	var out strings.Builder
	out.WriteByte('(')
	for n := range count {
		if n > 0 {
			out.WriteString(", ")
		}
		out.WriteByte('$')
		out.WriteString(strconv.Itoa(first + n))
	}
	out.WriteByte(')')
	return out.String()
}
