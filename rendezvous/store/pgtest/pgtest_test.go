package pgtest

import (
	"os"
	"testing"
)

var pg Cluster

func TestMain(m *testing.M) {
	code := m.Run()
	pg.Stop()
	os.Exit(code)
}

// A test in one database sees nothing of another's, and has no rights that a
// server's role must not have.
func TestDatabasesAreTheTestsOwn(t *testing.T) {
	a, b := pg.Fresh(t), pg.Fresh(t)
	pg.Query(t, a, `CREATE TABLE mine (n BIGINT)`)
	pg.Query(t, a, `INSERT INTO mine VALUES (1), (2)`)
	if got := pg.Query(t, a, `SELECT n, n + 1 FROM mine ORDER BY n`); got != "1|2\n2|3" {
		t.Errorf("%q", got)
	}
	if got := pg.Query(t, b, `SELECT count(*) FROM information_schema.tables WHERE table_name = 'mine'`); got != "0" {
		t.Errorf("%q tables in the other", got)
	}
	if got := pg.Query(t, b, `SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user`); got != "f" {
		t.Errorf("the role may bypass: %q", got)
	}
}

// fills counts the calls of a fill for pg, which is filled once however often its test runs.
var fills int

func TestFilledDatabasesAreCopies(t *testing.T) {
	fill := func(dsn string) error {
		fills++
		pg.Query(t, dsn, `CREATE TABLE tables (n BIGINT)`)
		pg.Query(t, dsn, `INSERT INTO tables VALUES (1)`)
		return nil
	}
	a := pg.Filled(t, fill)
	pg.Query(t, a, `INSERT INTO tables VALUES (2)`)
	b := pg.Filled(t, fill)
	if got := pg.Query(t, b, `SELECT n FROM tables`); got != "1" || fills != 1 {
		t.Errorf("the second copy holds %q after %d calls", got, fills)
	}
	if got := pg.Query(t, b, `SELECT tableowner FROM pg_tables WHERE tablename = 'tables'`); got != Role {
		t.Errorf("the table is %q's", got)
	}
}
