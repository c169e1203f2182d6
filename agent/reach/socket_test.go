//go:build unix

package reach

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// greeter is a socket of the test that says text to whoever connects, until the test's end.
func greeter(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // some of these tests have exchanged what it would take
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
}

// greeting is what the socket at a path says, through a rule that names the path.
func greeting(t *testing.T, path string) (string, error) {
	t.Helper()
	c, err := DialSocket(t.Context(), path, true)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

// sockets is a folder with a socket that a rule names, and another one that none does.
func sockets(t *testing.T) (dir, named string) {
	dir = t.TempDir()
	named = dir + "/run/web.sock"
	greeter(t, named, "web")
	greeter(t, dir+"/priv/web.sock", "supervisor")
	return dir, named
}

// Who may write in a folder on the way to a socket that a rule names puts a link there, as
// sftp lets them: what it leads to is another socket, which no rule names.
func TestP4ANamedSocketIsNoLinkToAnotherOne(t *testing.T) {
	for what, exchange := range map[string]func(dir, named string) error{
		"link":           func(dir, named string) error { return os.Symlink(dir+"/priv/web.sock", named) },
		"relative":       func(_, named string) error { return os.Symlink("../priv/web.sock", named) },
		"link to itself": func(_, named string) error { return os.Symlink("old/web.sock", named) },
		"loop":           func(_, named string) error { return os.Symlink("web.sock", named) },
		"folder":         func(dir, _ string) error { return moveTo(dir+"/run", dir+"/old", "priv") },
		"folder above":   func(dir, _ string) error { return moveTo(dir, dir+".old", filepath.Base(dir)+".old") },
	} {
		t.Run(what, func(t *testing.T) {
			dir, named := sockets(t)
			if got, err := greeting(t, named); got != "web" {
				t.Fatalf("at first: %q, %v", got, err)
			}
			if what != "folder" && what != "folder above" {
				if err := os.MkdirAll(dir+"/run/old", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(named, dir+"/run/old/web.sock"); err != nil {
					t.Fatal(err)
				}
			}
			if err := exchange(dir, named); err != nil {
				t.Fatal(err)
			}
			if got, err := greeting(t, named); refusal.Of(err) != refusal.PolicyDenied {
				t.Errorf("reaches %q, %v", got, err)
			}
			_ = os.RemoveAll(dir + ".old")
		})
	}
}

// moveTo gives a folder another name, and its own to a link.
func moveTo(folder, name, target string) error {
	if err := os.Rename(folder, name); err != nil {
		return err
	}
	return os.Symlink(target, folder)
}

func TestSocketsThatAreNotThereOrNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]refusal.Code{
		dir + "/none": refusal.Unreachable, dir + "/none/s": refusal.Unreachable, dir + "/file": refusal.Unreachable, dir + "/file/s": refusal.Unreachable, dir: refusal.Unreachable, "/": refusal.Unreachable,
		"relative": refusal.BadArgument, dir + "/../s": refusal.BadArgument, dir + "//s": refusal.BadArgument, dir + "/./s": refusal.BadArgument, "@abstract": refusal.BadArgument, "": refusal.BadArgument,
	} {
		if c, err := DialSocket(t.Context(), path, true); refusal.Of(err) != want {
			t.Errorf("%q: %v, %v", path, c, err)
		}
	}
}

// Systems have links of their own, in the root of the disk and at /var/run, by which many
// name the sockets of services. They are followed, as far as to what is not there.
func TestSocketsBehindTheSystemsOwnLinksAreLookedFor(t *testing.T) {
	for _, at := range []string{"/var/run", "/bin", "/tmp"} {
		if to, err := os.Readlink(at); err == nil {
			if _, err := DialSocket(t.Context(), at+"/none/of/these.sock", true); refusal.Of(err) != refusal.Unreachable {
				t.Errorf("%s, which is %s: %v", at, to, err)
			}
		}
	}
}
