package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"modernc.org/sqlite"
)

// numbers is a database of one connection that keeps statements, with the numbers 1 to
// 3 in a table, and a look at the connection.
func numbers(t *testing.T) (db *sql.DB, look func(func(*keeper))) {
	t.Helper()
	db, err := sqliteDB(filepath.Join(t.TempDir(), awkward))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Exec(`CREATE TABLE numbers (n INTEGER PRIMARY KEY); INSERT INTO numbers VALUES (1), (2), (3)`); err != nil {
		t.Fatal(err)
	}
	return db, func(see func(*keeper)) {
		t.Helper()
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Raw(func(c any) error { see(c.(*keeper)); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

const someNumbers = `SELECT n FROM numbers WHERE n >= $1 ORDER BY n`

// A text whose rows are still read runs beside itself, and neither loses its place.
func TestKeptStatementInsideItself(t *testing.T) {
	db, look := numbers(t)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var got []int
	var read func(from int)
	read = func(from int) {
		rows, err := tx.Query(someNumbers, from)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
			read(n + 1)
		}
	}
	for range 2 {
		got = nil
		if read(1); fmt.Sprint(got) != "[1 2 3 3 2 3 3]" {
			t.Errorf("read %v", got)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	look(func(k *keeper) {
		if len(k.kept) != 1 || k.kept[someNumbers].reading {
			t.Errorf("%d kept, %+v", len(k.kept), k.kept[someNumbers])
		}
	})
}

// A statement outlives the transaction it was made in, one that was given up, an error
// of its own and a change of its table.
func TestKeptStatementOutlivesItsTransaction(t *testing.T) {
	db, look := numbers(t)
	const insert = `INSERT INTO numbers VALUES ($1)`
	in := func(commit bool, n int) error {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(insert, n); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if commit {
			return tx.Commit()
		}
		return tx.Rollback()
	}
	var first *kept
	for _, step := range []error{in(false, 4), in(true, 5)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	look(func(k *keeper) { first = k.kept[insert] })
	if err := in(true, 5); err == nil {
		t.Error("the same number twice")
	}
	if _, err := db.Exec(`ALTER TABLE numbers ADD COLUMN word TEXT; CREATE TABLE other (x); DROP TABLE other; ALTER TABLE numbers DROP COLUMN word`); err != nil {
		t.Fatal(err)
	}
	if err := in(true, 6); err != nil {
		t.Fatal(err)
	}
	var sum int
	if err := db.QueryRow(`SELECT sum(n) FROM numbers WHERE n > $1`, 0).Scan(&sum); err != nil || sum != 1+2+3+5+6 {
		t.Errorf("sum %d, %v", sum, err)
	}
	look(func(k *keeper) {
		if first == nil || k.kept[insert] != first {
			t.Error("the statement was made again")
		}
	})
}

// However many texts run, few are kept; the others run all the same. What has no
// parameters is not kept.
func TestKeptStatementsAreBounded(t *testing.T) {
	db, look := numbers(t)
	for range 2 {
		for i := range sqliteKept + 20 {
			var n int
			if err := db.QueryRow(fmt.Sprintf(`SELECT n + %d FROM numbers WHERE n = $1`, i), 3).Scan(&n); err != nil || n != i+3 {
				t.Fatalf("text %d: %d, %v", i, n, err)
			}
		}
	}
	if n := len(constants(t, "queries.go")); n > sqliteKept {
		t.Errorf("%d texts in queries.go", n)
	}
	look(func(k *keeper) {
		if len(k.kept) != sqliteKept {
			t.Errorf("%d kept", len(k.kept))
		}
	})
}

// A statement is gone with its connection.
func TestKeptStatementsCloseWithTheirConnection(t *testing.T) {
	base, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := keeping{base}.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	k := c.(*keeper)
	if _, err := k.ExecContext(t.Context(), `SELECT $1`, []driver.NamedValue{{Ordinal: 1, Value: int64(1)}}); err != nil || len(k.kept) != 1 {
		t.Fatalf("%d kept, %v", len(k.kept), err)
	}
	for range 2 {
		if err := k.Close(); err != nil || len(k.kept) != 0 {
			t.Errorf("%d kept, %v", len(k.kept), err)
		}
	}
}

// A query that was given up does not spoil the statement for the next.
func TestKeptStatementOfACancelledQuery(t *testing.T) {
	db, _ := numbers(t)
	const long = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < $1) SELECT count(*) FROM c`
	count := func(ctx context.Context, limit int) (n int, err error) {
		err = db.QueryRowContext(ctx, long, limit).Scan(&n)
		return n, err
	}
	if n, err := count(t.Context(), 5); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := count(ctx, 1<<40); err == nil {
		t.Error("a query without end has ended")
	}
	if n, err := count(t.Context(), 7); n != 7 || err != nil {
		t.Error(n, err)
	}
}
