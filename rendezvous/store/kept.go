package store

import (
	"context"
	"database/sql/driver"
	"errors"
)

// sqliteKept is how many prepared statements a connection to SQLite keeps; our choice,
// more than queries.go has. Beyond it texts are prepared each time that they run.
const sqliteKept = 128

// keeping opens connections to SQLite that keep what they prepared, as those to
// PostgreSQL do by themselves: the driver compiles the text of a query each time, which
// costs more than most queries do.
type keeping struct{ driver.Connector }

// Connect implements driver.Connector.
func (k keeping) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := k.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	whole, ok := c.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("sqlite: internal error: a connection without contexts"), c.Close())
	}
	return &keeper{sqliteConn: whole, kept: map[string]*kept{}}, nil
}

// sqliteConn is what database/sql uses of a connection and must find again on ours.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// keeper is one connection. database/sql lets one goroutine use it at a time, so there
// is no lock. A statement belongs to the connection and not to a transaction: SQLite
// runs it in whichever is open, and compiles it again when the tables have changed.
type keeper struct {
	sqliteConn
	kept map[string]*kept // by text
}

// kept is a prepared statement. It has one cursor: while rows of it are read, the same
// text runs as one that is not kept.
type kept struct {
	sqliteStmt
	reading bool
}

// sqliteStmt is what we use of a prepared statement.
type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// ExecContext implements driver.ExecerContext.
func (k *keeper) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	switch s, err := k.statement(ctx, query, args); {
	case err != nil:
		return nil, err
	case s == nil:
		return k.sqliteConn.ExecContext(ctx, query, args)
	default:
		return s.ExecContext(ctx, args)
	}
}

// QueryContext implements driver.QueryerContext.
func (k *keeper) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := k.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return k.sqliteConn.QueryContext(ctx, query, args)
	}
	rows, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.reading = true
	return &keptRows{Rows: rows, of: s}, nil
}

// statement returns the kept statement of that text, and prepares it the first time;
// nil when the text has to run by itself. One without parameters is a step of a
// migration or as rare as one, and may be several statements.
func (k *keeper) statement(ctx context.Context, query string, args []driver.NamedValue) (*kept, error) {
	if s := k.kept[query]; s != nil && !s.reading {
		return s, nil
	} else if s != nil || len(args) == 0 || len(k.kept) >= sqliteKept {
		return nil, nil
	}
	made, err := k.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	whole, ok := made.(sqliteStmt)
	if !ok {
		return nil, errors.Join(errors.New("sqlite: internal error: a statement without contexts"), made.Close())
	}
	s := &kept{sqliteStmt: whole}
	k.kept[query] = s
	return s, nil
}

// Close implements driver.Conn. database/sql has closed all rows by then.
func (k *keeper) Close() error {
	var err error
	for _, s := range k.kept {
		err = errors.Join(err, s.Close())
	}
	clear(k.kept)
	return errors.Join(err, k.sqliteConn.Close())
}

// keptRows are rows of a kept statement.
type keptRows struct {
	driver.Rows
	of *kept
}

// Close implements driver.Rows.
func (r *keptRows) Close() error {
	r.of.reading = false
	return r.Rows.Close()
}
