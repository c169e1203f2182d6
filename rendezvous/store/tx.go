package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// Tx is one transaction of one team. It is valid only inside the function it
// was given to and belongs to that function's goroutine.
type Tx struct {
	ctx  context.Context // ends with the call of InTx or View that made the Tx
	tx   *sql.Tx
	team principal.TeamID
	id   []byte // team's 16 bytes, $1 of nearly every query
}

// Team returns the team whose rows this transaction sees.
func (t *Tx) Team() principal.TeamID { return t.team }

// maxTries bounds how often a transaction that lost against another runs again;
// our choice.
const maxTries = 5

// InTx runs change in one transaction of the team: all of it happens, or, when
// change returns an error, nothing. change may run again after it lost against
// another transaction, so it must have no effect except through its Tx.
func (s *Store) InTx(ctx context.Context, team principal.TeamID, change func(*Tx) error) error {
	var err error
	for range maxTries {
		if err = s.once(ctx, s.write, team, change); err == nil || !s.dialect.retry(err) || ctx.Err() != nil {
			return hide(err)
		}
	}
	return hide(err)
}

// View runs look in a transaction of the team that sees one state of the
// database. look must not change anything; SQLite refuses it.
func (s *Store) View(ctx context.Context, team principal.TeamID, look func(*Tx) error) error {
	return hide(s.once(ctx, s.read, team, look))
}

func (s *Store) once(ctx context.Context, db *sql.DB, team principal.TeamID, do func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return dbError{"beginning a transaction", err}
	}
	defer tx.Rollback() // after the commit there is nothing to roll back
	if s.dialect.teams {
		if _, err := tx.ExecContext(ctx, setTeam, team.String()); err != nil {
			return dbError{"naming the team", err}
		}
	}
	id := team.Wire()
	if err := do(&Tx{ctx: ctx, tx: tx, team: team, id: id[:]}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return dbError{"committing", err}
	}
	return nil
}

// dbError is a driver's error on its way to InTx, which must see it as it is to
// know whether to try again.
type dbError struct {
	doing string
	cause error
}

func (e dbError) Error() string { return e.doing + ": " + e.cause.Error() }
func (e dbError) Unwrap() error { return e.cause }

// hide gives a driver's error, also one that the caller put into words of its
// own, the code of a fault and leaves refusals alone.
func hide(err error) error {
	var e dbError
	if errors.As(err, &e) && refusal.Of(err) == "" {
		return fault(e.doing, err)
	}
	return err
}

// exec runs query and returns how many rows it changed.
func (t *Tx) exec(doing, query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, dbError{doing, err}
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, dbError{doing, err}
	}
	return n, nil
}

// row reads one row into dest and reports whether there was one.
func (t *Tx) row(doing, query string, args []any, dest ...any) (bool, error) {
	switch err := t.tx.QueryRowContext(t.ctx, query, args...).Scan(dest...); {
	case err == nil:
		return true, nil
	case errNoRows(err):
		return false, nil
	default:
		return false, dbError{doing, err}
	}
}

// rows calls each for every row of query.
func (t *Tx) rows(doing, query string, args []any, each func(scan func(...any) error) error) error {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return dbError{doing, err}
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return dbError{doing, err}
		}
	}
	if err := rows.Err(); err != nil {
		return dbError{doing, err}
	}
	return nil
}

func millis(t time.Time) int64 { return t.UnixMilli() }
