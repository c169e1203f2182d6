package store

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
)

// sqliteReaders is how many connections look while one writes; our choice.
const sqliteReaders = 4

// SQLite's result codes for "another connection writes", sqlite.org/rescode.html.
const (
	sqliteBusy   = 5
	sqliteLocked = 6
)

// openSQLite opens or creates the file at path. It is created by us because
// SQLite would give it the process' default mode, and the log files next to it
// take the mode of this one.
func openSQLite(path string) (*Store, error) {
	if path == "" {
		return nil, errors.New("sqlite: without a path")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// FULL syncs the write-ahead log at each commit: what was acknowledged
	// survives a power cut. Writers take the lock when they begin, so that no
	// transaction has to be given up halfway.
	write, err := sqliteDB(path, "_txlock=immediate", "_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sqliteDB(path, "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(sqliteReaders)
	return &Store{write: write, read: read, dialect: dialect{name: "sqlite", retry: sqliteRetry}}, nil
}

// sqliteDB makes a pool. The path is put into a URL so that none of its
// characters can end it and add options.
func sqliteDB(path string, options ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	slashed := filepath.ToSlash(abs)
	if slashed[0] != '/' { // a Windows drive
		slashed = "/" + slashed
	}
	query := "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)"
	for _, o := range options {
		query += "&" + o
	}
	u := url.URL{Scheme: "file", Path: slashed, RawQuery: query}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(keeping{c}), nil
}

func sqliteRetry(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqliteBusy || e.Code()&0xff == sqliteLocked)
}
