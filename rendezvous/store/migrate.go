package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables to this program's version. On PostgreSQL an
// advisory lock lets several nodes start at once.
func (s *Store) migrate(ctx context.Context) error {
	p, err := s.steps()
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("tables are of version %d, this program knows only %d: use a newer one", have, want)
	}
	_, err = p.Up(ctx)
	return err
}

// steps are the migrations of this database's kind.
func (s *Store) steps() (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	dialect, options, err := s.gooseOptions(dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, s.write, dir, options...)
}

func (s *Store) gooseOptions(dir fs.FS) (goose.Dialect, []goose.ProviderOption, error) {
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.dialect.name == "sqlite" {
		only, err := fs.Glob(dir, "*.postgres.sql")
		return goose.DialectSQLite3, append(options, goose.WithExcludeNames(only)), err
	}
	locker, err := lock.NewPostgresSessionLocker()
	return goose.DialectPostgres, append(options, goose.WithSessionLocker(locker)), err
}

// errNoRows keeps database/sql out of the files that only ask questions.
func errNoRows(err error) bool { return errors.Is(err, errSQLNoRows) }
