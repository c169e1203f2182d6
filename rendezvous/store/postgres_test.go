package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// cluster is a throw-away PostgreSQL of this test binary, or why there is none.
type cluster struct {
	dir     string
	server  *exec.Cmd
	missing error
	count   atomic.Int64
}

func TestMain(m *testing.M) {
	if dsn := os.Getenv(writerEnv); dsn != "" {
		writeUntilKilled(dsn)
		return
	}
	pg.start()
	code := m.Run()
	pg.stop()
	os.Exit(code)
}

// pg is shared by the tests of this binary; each takes a database of its own.
var pg = &cluster{}

// start runs initdb and the server, without the durability that no test of
// ours looks at. Neither may run as root, so root takes another user for them.
func (c *cluster) start() {
	bin, err := binaries()
	if err != nil {
		c.missing = err
		return
	}
	dir, err := os.MkdirTemp("/tmp", "pg") // short: a socket's path has about 100 bytes
	if err != nil {
		c.missing = err
		return
	}
	c.dir = dir
	attr, err := unprivileged(dir)
	if err != nil {
		c.missing = err
		return
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "boss", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		c.missing = fmt.Errorf("initdb: %v: %s", err, out)
		return
	}
	c.server = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "shared_buffers=16MB")
	c.server.SysProcAttr, c.server.Dir = attr, dir
	if err := c.server.Start(); err != nil {
		c.server, c.missing = nil, err
		return
	}
	c.missing = c.await()
}

// await asks until the server answers.
func (c *cluster) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", c.dsn("boss", "postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err = db.ExecContext(ctx, `CREATE ROLE tucdesk LOGIN`)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (c *cluster) stop() {
	if c.server != nil {
		_ = c.server.Process.Signal(os.Interrupt) // fast shutdown
		_ = c.server.Wait()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *cluster) dsn(user, database string) string {
	return "postgres://" + user + "@/" + database + "?host=" + url.QueryEscape(c.dir)
}

// fresh makes a database that an ordinary role owns and returns its address.
func (c *cluster) fresh(t testing.TB) string {
	t.Helper()
	if c.missing != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no PostgreSQL: %v", c.missing)
		}
		t.Skipf("no PostgreSQL to test with (%v): install the package postgresql", c.missing)
	}
	db, err := sql.Open("pgx", c.dsn("boss", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("t%d", c.count.Add(1))
	if _, err := db.Exec(`CREATE DATABASE ` + name + ` OWNER tucdesk`); err != nil {
		t.Fatal(err)
	}
	return c.dsn("tucdesk", name)
}

// binaries finds the folder of initdb and postgres, newest version first.
func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errors.New("initdb and postgres not found")
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && !strings.HasSuffix(path, ".bat")
}
