// Package pgtest runs a throw-away PostgreSQL for the tests of one binary, from the
// programs that are installed on the machine. It listens on a socket in a folder of
// its own and nowhere else, and does without the durability that tests do not look
// at. Each test takes a database of its own, owned by an ordinary role, because
// row-level security does not hold for others.
//
// Only tests import it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The roles of a cluster: one that may do everything, and the one that owns the
// databases of the tests.
const (
	Boss = "boss"    // makes and drops databases
	Role = "tucdesk" // what the server connects as: no superuser, and bound by row-level security
)

// patience bounds the start of a cluster, and every command to it; our choice, far
// beyond what they take on a machine that is busy with other tests.
const patience = 2 * time.Minute

// Cluster is a PostgreSQL server that starts when a test first asks for a database.
// The zero value is ready; TestMain calls Stop at the end.
type Cluster struct {
	once   sync.Once
	bin    string
	dir    string
	server *exec.Cmd
	ended  chan struct{} // closed when the server has ended
	why    error         // why there is none
	count  atomic.Int64

	fill   sync.Once
	filled string // the database that Filled copies
}

// Fresh makes an empty database and returns its address. Without a server the test
// is skipped, and fails where CI=true promises one.
func (c *Cluster) Fresh(t testing.TB) string {
	t.Helper()
	return c.dsn(Role, c.create(t, ""))
}

// Filled makes a database with what fill has put into another one, and returns its
// address. It is for what every test begins with, such as empty tables: fill is
// called once in the life of a cluster and leaves no connection open.
func (c *Cluster) Filled(t testing.TB, fill func(dsn string) error) string {
	t.Helper()
	c.need(t)
	c.fill.Do(func() {
		name := c.create(t, "")
		if err := fill(c.dsn(Role, name)); err != nil {
			t.Fatal(err)
		}
		c.left(t, name)
		c.filled = name
	})
	if c.filled == "" {
		t.Fatal("nothing to copy: filling a database failed in another test")
	}
	return c.dsn(Role, c.create(t, ` TEMPLATE `+c.filled))
}

// left waits until nobody is connected to a database: a connection that was closed
// lasts until its process has ended, and a database in use is not copied.
func (c *Cluster) left(t testing.TB, name string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		n := c.Query(t, c.dsn(Boss, "postgres"), `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+name+`' AND backend_type = 'client backend'`)
		if n == "0" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s connections are still open to what was filled", n)
		}
	}
}

// need starts the server, or skips the test.
func (c *Cluster) need(t testing.TB) {
	t.Helper()
	c.once.Do(c.start)
	if c.why == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no PostgreSQL: %v", c.why)
	}
	t.Skipf("no PostgreSQL to test with (%v): install the package postgresql", c.why)
}

// create makes a database and returns its name; from is what its statement ends with.
func (c *Cluster) create(t testing.TB, from string) string {
	t.Helper()
	c.need(t)
	name := fmt.Sprintf("t%d", c.count.Add(1))
	if _, err := c.psql(t.Context(), c.dsn(Boss, "postgres"), `CREATE DATABASE `+name+` OWNER `+Role+from); err != nil {
		t.Fatal(err)
	}
	return name
}

// Query runs one statement beside the program under test, at an address of Fresh,
// and returns the rows, columns separated by "|".
func (c *Cluster) Query(t testing.TB, dsn, sql string) string {
	t.Helper()
	out, err := c.psql(t.Context(), dsn, sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Stop ends the server and removes its folder.
func (c *Cluster) Stop() {
	if c.server != nil {
		_ = c.server.Process.Signal(os.Interrupt) // fast shutdown
		<-c.ended
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *Cluster) start() {
	c.why = c.run()
	if c.why == nil {
		c.why = c.await()
	}
}

// run runs initdb and the server. Neither may run as root, so root takes another
// user for them.
func (c *Cluster) run() error {
	var err error
	if c.bin, err = binaries(); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("/tmp", "pg"); err != nil { // short: a socket's path has about 100 bytes
		return err
	}
	attr, err := unprivileged(c.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(c.dir, "data")
	initdb := exec.Command(filepath.Join(c.bin, "initdb"), "-D", data, "-U", Boss, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
	initdb.SysProcAttr, initdb.Dir = attr, c.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %v: %s", err, out)
	}
	server := exec.Command(filepath.Join(c.bin, "postgres"), "-D", data, "-k", c.dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "shared_buffers=16MB")
	server.SysProcAttr, server.Dir = attr, c.dir
	if err := c.keep(server); err != nil {
		return err
	}
	c.server = server
	return nil
}

// keep starts the server on a thread that lasts as long as it does: what Linux takes
// for its parent, with which it dies, is the thread.
func (c *Cluster) keep(server *exec.Cmd) error {
	started := make(chan error)
	c.ended = make(chan struct{})
	go func() {
		defer close(c.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	return <-started
}

// await asks until the server answers.
func (c *Cluster) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.psql(ctx, c.dsn(Boss, "postgres"), `CREATE ROLE `+Role+` LOGIN`)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-c.ended:
			return fmt.Errorf("the server has ended: %v", err)
		case <-tick.C:
		}
	}
}

// psql is the database's own client, so that this package needs no driver.
func (c *Cluster) psql(ctx context.Context, dsn, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(c.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", sql).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("psql: %v: %s", err, text)
	}
	return text, nil
}

func (c *Cluster) dsn(user, database string) string {
	return "postgres://" + user + "@/" + database + "?host=" + url.QueryEscape(c.dir)
}

// binaries finds the folder of the programs, newest version first.
func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) && executable(filepath.Join(dir, "psql")) {
			return dir, nil
		}
	}
	return "", errors.New("initdb, postgres and psql not found")
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && !strings.HasSuffix(path, ".bat")
}
