package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Store is an open database. It is safe for concurrent use; several processes
// may open the same PostgreSQL database.
type Store struct {
	write   *sql.DB
	read    *sql.DB // for SQLite a second pool, so that readers never wait for the writer; else write
	dialect dialect
}

// dialect says where the two databases differ; the queries do not.
type dialect struct {
	name  string
	teams bool             // transactions name their team for row-level security
	retry func(error) bool // whether a transaction that failed so may be run again
}

// Open opens the database that dsn names ("sqlite:PATH" or "postgres://…"), and
// creates or migrates its tables. Passwords in dsn never appear in an error.
func Open(ctx context.Context, dsn string) (*Store, error) {
	var s *Store
	var err error
	switch path, ok := strings.CutPrefix(dsn, "sqlite:"); {
	case ok:
		s, err = openSQLite(path)
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		s, err = openPostgres(ctx, dsn)
	default:
		err = errors.New("write sqlite:PATH or postgres://…")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the database: %v", err)
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %v", err), s.Close())
	}
	return s, nil
}

// Close waits for running queries and closes all connections. It may be called
// again.
func (s *Store) Close() error {
	if s.read == s.write {
		return s.write.Close()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}

// Ping reports whether the database answers, for the health page.
func (s *Store) Ping(ctx context.Context) error {
	return fault("asking whether the database is there", s.write.PingContext(ctx))
}

// fault gives a database error the code unavailable: the request failed for a
// reason of ours, nothing was decided and nothing was changed.
func fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %v", doing, refusal.New(refusal.Unavailable, "the database did not answer"), err)
}
