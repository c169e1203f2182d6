package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresConns = 16              // per process; our choice, well under a small server's 100
	postgresIdle  = 5 * time.Minute // then a connection is given back; our choice
)

// PostgreSQL's codes for a transaction that lost against another and may be run
// again (appendix A of its manual).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// openPostgres opens the database that dsn names. Whatever dsn says, queries go
// through the extended protocol: the simple one puts parameters into the SQL
// text, which is where pgx had its injections.
func openPostgres(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the postgres:// address cannot be read") // the cause quotes the password
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	for name, value := range map[string]string{
		"statement_timeout": "15s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "30s",
	} {
		if cfg.RuntimeParams[name] == "" {
			cfg.RuntimeParams[name] = value
		}
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxIdleTime(postgresIdle)
	var bypasses int
	if err := db.QueryRowContext(ctx, roleBypasses).Scan(&bypasses); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if bypasses != 0 {
		return nil, errors.Join(errors.New("the PostgreSQL role is a superuser or has BYPASSRLS: "+
			"use an ordinary role that owns the database"), db.Close())
	}
	return &Store{write: db, read: db, dialect: dialect{name: "postgres", teams: true, retry: postgresRetry}}, nil
}

func postgresRetry(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == serializationFailure || e.Code == deadlockDetected)
}
