package store

import (
	"context"
	"database/sql"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// crossTeam are the queries that may look at teams' tables without one team.
var crossTeam = map[string]bool{"selectTeams": true}

// K11: each query on a team's table names team_id, as a predicate or as a
// column that is inserted.
func TestK11QueriesNameTheirTeam(t *testing.T) {
	tables := teamTables(t)
	queries := constants(t, "queries.go")
	if len(tables) < 10 || len(queries) < 30 {
		t.Fatalf("found only %d tables and %d queries", len(tables), len(queries))
	}
	named := regexp.MustCompile(`\bteam_id = \$1\b|INSERT INTO \w+ \(team_id, [^)]*\)\s+VALUES \(\$1,`)
	for name, text := range queries {
		if crossTeam[name] || strings.HasSuffix(name, "Columns") {
			continue
		}
		for _, table := range tables {
			if regexp.MustCompile(`\b`+table+`\b`).MatchString(text) && !named.MatchString(text) {
				t.Errorf("query %s on %s does not name team_id:\n%s", name, table, text)
			}
		}
	}
}

// teamTables reads the migrations for tables that have a team.
func teamTables(t *testing.T) (names []string) {
	t.Helper()
	raw, err := os.ReadFile("migrations/00001_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?s)CREATE TABLE (\w+) \((.*?)\n\);`).FindAllStringSubmatch(string(raw), -1) {
		if strings.Contains(m[2], "team_id") {
			names = append(names, m[1])
		}
	}
	return names
}

// constants returns the string constants of a file, with those they are made of.
func constants(t *testing.T, file string) map[string]string {
	t.Helper()
	tree, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var value func(e ast.Expr) string
	value = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			return s
		case *ast.BinaryExpr:
			return value(e.X) + value(e.Y)
		case *ast.Ident:
			return all[e.Name]
		}
		t.Fatalf("%s: a query that is not made of constants", file)
		return ""
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, name := range spec.Names {
				all[name.Name] = value(spec.Values[i])
			}
		}
		return true
	})
	return all
}

var looksLikeSQL = regexp.MustCompile(`(?i)^\s*(select|insert|update|delete|create|alter|drop|with)\s`)

// K7, K11: no SQL outside of queries.go, none made at run time, and the simple
// protocol is never asked for.
func TestK7NoSQLIsBuilt(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"SimpleProtocol", "QueryExecModeExec", "default_query_exec_mode"} {
			if strings.Contains(string(raw), bad) {
				t.Errorf("%s mentions %s", file, bad)
			}
		}
		if file == "queries.go" {
			continue
		}
		tree, err := parser.ParseFile(gotoken.NewFileSet(), file, raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
				if s, _ := strconv.Unquote(lit.Value); looksLikeSQL.MatchString(s) {
					t.Errorf("%s: SQL outside of queries.go: %s", file, lit.Value)
				}
			}
			return true
		})
	}
}

// raw is a connection of the application's role, without any of our code.
func raw(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// The second wall: even a query that forgets team_id sees one team, and without
// a team nothing.
func TestK11RowLevelSecurity(t *testing.T) {
	t.Parallel()
	dsn := pg.Fresh(t)
	s := open(t, dsn)
	mine, theirs := newLedger(t, s), newLedger(t, s)
	for _, l := range []*books{mine, theirs} {
		k := token4(t, s, l)
		a := agent(t, k, "web")
		join(t, s, l.team, a, "")
		r := put(t, s, l.team)
		in(t, s, l.team, "", func(tx *Tx) error {
			_, err := tx.AddApproval(decision(t, r, "ann", "approve"), now)
			return err
		})
		if _, err := l.checkpoint(t, s); err != nil {
			t.Fatal(err)
		}
	}
	db := raw(t, dsn)
	for _, table := range teamTables(t) {
		visible := func(setting string) (n int) {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if setting != "" {
				if _, err := tx.Exec(setTeam, setting); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		all := 0
		if table == "teams" {
			all = 2
		}
		own, other := visible(mine.team.String()), visible(theirs.team.String())
		if own == 0 || other == 0 {
			t.Errorf("%s: the test left it empty", table)
		}
		if n := visible(""); n != 0 {
			t.Errorf("%s: %d rows without a team", table, n)
		}
		if n := visible("*"); n != all {
			t.Errorf("%s: %d rows for the list of teams", table, n)
		}
		if n := visible(wire.NewTeamID().String()); n != 0 {
			t.Errorf("%s: %d rows of a team that is not there", table, n)
		}
	}
	id := theirs.team.Wire()
	err := s.InTx(t.Context(), mine.team, func(tx *Tx) error {
		_, err := tx.exec("writing across", insertPolicy, id[:], id[:], []byte("x"))
		return err
	})
	if refusal.Of(err) != refusal.Unavailable || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("wrote into another team: %v", err)
	}
	in(t, s, mine.team, "", func(tx *Tx) error {
		n, err := tx.exec("changing across", useToken, id[:], id[:], int64(0))
		if n != 0 {
			t.Errorf("changed %d rows of another team", n)
		}
		return err
	})
}

func token4(t *testing.T, s *Store, l *books) Token {
	k := token(t, 4)
	publish(t, s, l.team, k)
	return k
}

// Every table with a team is behind the wall, also those of later migrations.
func TestK11NoTableIsForgotten(t *testing.T) {
	dsn := pg.Fresh(t)
	open(t, dsn)
	rows, err := raw(t, dsn).Query(`SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relkind = 'r' AND a.attname = 'team_id' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		t.Errorf("table %s has no row-level security", name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestSuperuserIsRefused(t *testing.T) {
	dsn := pg.Fresh(t)
	boss := strings.Replace(dsn, "tucdesk@", "boss@", 1)
	if s, err := Open(t.Context(), boss); err == nil || !strings.Contains(err.Error(), "BYPASSRLS") {
		t.Errorf("opened as a superuser: %v", err)
		if s != nil {
			_ = s.Close()
		}
	}
}

// Whatever the address asks for, parameters are never put into the SQL text.
func TestSimpleProtocolCannotBeAskedFor(t *testing.T) {
	dsn := pg.Fresh(t) + "&default_query_exec_mode=simple_protocol"
	s := open(t, dsn)
	conn, err := s.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(driver any) error {
		if mode := driver.(*stdlib.Conn).Conn().Config().DefaultQueryExecMode; mode != pgx.QueryExecModeCacheStatement {
			t.Errorf("mode %v", mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, "sqlite:"+path)
	found(t, s)
	for query, want := range map[string]string{
		"PRAGMA journal_mode": "wal", "PRAGMA synchronous": "2", "PRAGMA foreign_keys": "1", "PRAGMA busy_timeout": "5000",
	} {
		var got string
		if err := s.write.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v", query, got, err)
		}
	}
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 && os.PathSeparator == '/' {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
}

// A database of a newer program is left alone.
func TestNewerTablesAreRefused(t *testing.T) {
	bothFresh(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		if _, err := s.write.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`); err != nil {
			t.Fatal(err)
		}
		if again, err := Open(t.Context(), dsn); err == nil {
			t.Error("opened")
			_ = again.Close()
		}
	})
}

// Several nodes start on an empty database at once.
func TestNodesMigrateAtOnce(t *testing.T) {
	dsn := pg.Fresh(t)
	for _, err := range race(4, func(int) error {
		s, err := Open(context.Background(), dsn)
		if err != nil {
			return err
		}
		return s.Close()
	}) {
		if err != nil {
			t.Error(err)
		}
	}
}

// K18: the disk is full, then there is room again. Nothing half-done stays.
func TestK18DiskFullRecovers(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	l := newLedger(t, s)
	var pages int
	if err := s.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec("PRAGMA max_page_count = " + strconv.Itoa(pages)); err != nil {
		t.Fatal(err)
	}
	var err error
	done := 0
	for err == nil {
		if err = l.record(t, s); err == nil {
			done++
		}
	}
	want(t, err, refusal.Unavailable)
	if _, err := s.write.Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := l.record(t, s); err != nil {
		t.Fatal(err)
	}
	if _, err := l.checkpoint(t, s); err != nil {
		t.Fatal(err)
	}
	if r := l.verify(t, s); r.Size != int64(done)+2 {
		t.Errorf("%d entries, %d acknowledged", r.Size, done+2)
	}
}
