package endtoend

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where Debian has what runs programs for Windows.
const (
	wineLoader  = "/usr/lib/wine/wine64"
	wineServer  = "/usr/lib/wine/wineserver64"
	wineModules = "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows"
)

// windowsSettings are of the registry what every installation has: where things are, the
// driver that knows the network's interfaces, and the one that knows of what kind a drive
// is. Y: is a share of another machine.
const windowsSettings = `WINE REGISTRY Version 2
;; All keys relative to REGISTRY\\Machine

#arch=win64

[System\\CurrentControlSet\\Control\\Session Manager\\Environment]
"ComSpec"=str(2):"%SystemRoot%\\system32\\cmd.exe"
"OS"="Windows_NT"
"Path"=str(2):"%SystemRoot%\\system32;%SystemRoot%;C:\\tools"
"PATHEXT"=".com;.exe;.bat;.cmd"
"TEMP"=str(2):"%SystemRoot%\\temp"
"TMP"=str(2):"%SystemRoot%\\temp"
"windir"=str(2):"%SystemRoot%"

[Software\\Wine\\Drives]
"y:"="network"

[System\\CurrentControlSet\\Services\\MountMgr]
"ErrorControl"=dword:00000001
"ImagePath"="C:\\windows\\system32\\drivers\\mountmgr.sys"
"ObjectName"="LocalSystem"
"Start"=dword:00000002
"Type"=dword:00000001

[System\\CurrentControlSet\\Services\\nsiproxy]
"ErrorControl"=dword:00000001
"ImagePath"="C:\\windows\\system32\\drivers\\nsiproxy.sys"
"ObjectName"="LocalSystem"
"Start"=dword:00000002
"Type"=dword:00000001
`

// windows is a machine with an imitation of Windows: Wine, in a folder of its own.
type windows struct {
	t     testing.TB
	dir   string // holds drive C:
	agent string // the agent for Windows, as a path of this system
	tool  string // testdata/windows likewise
}

// newWindows makes one. Setting it up as Wine does by itself takes six seconds and 700 MB;
// links to its modules and the settings above are enough for what is not graphical.
func newWindows(t testing.TB) *windows {
	t.Helper()
	for _, file := range []string{wineLoader, wineServer, wineModules} {
		if exists(file) {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("no %s: apt-get install wine64", file)
		}
		t.Skipf("no %s: apt-get install wine64", file)
	}
	w := &windows{t: t, dir: t.TempDir()}
	system := w.path("windows", "system32")
	for _, dir := range []string{filepath.Join(system, "drivers"), w.path("windows", "temp"), w.path("tools"), filepath.Join(w.dir, "dosdevices"), filepath.Join(w.dir, "share")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range must(os.ReadDir(wineModules)) {
		dir := system
		if filepath.Ext(file.Name()) == ".sys" {
			dir = filepath.Join(system, "drivers")
		}
		w.link(filepath.Join(wineModules, file.Name()), filepath.Join(dir, file.Name()))
	}
	w.link("../drive_c", filepath.Join(w.dir, "dosdevices", "c:"))
	w.link("/", filepath.Join(w.dir, "dosdevices", "z:"))
	w.link("../share", filepath.Join(w.dir, "dosdevices", "y:"))
	write(t, filepath.Join(w.dir, "share", "f"), "elsewhere")
	write(t, filepath.Join(w.dir, ".update-timestamp"), "disable\n")
	write(t, filepath.Join(w.dir, "system.reg"), windowsSettings)
	write(t, filepath.Join(system, "bcryptprimitives.dll"), string(forwarder("bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036")))
	w.agent = w.build("./cmd/tucdesk-agent", w.path("tools", "tucdesk-agent.exe"))
	w.tool = w.build("./internal/endtoend/testdata/windows", w.path("tools", "tool.exe"))
	t.Cleanup(func() {
		stop := exec.Command(wineServer, "--kill", "--wait")
		stop.Env = w.env()
		_ = stop.Run() // fails where none runs any more
	})
	return w
}

func (w *windows) link(to, name string) {
	w.t.Helper()
	if err := os.Symlink(to, name); err != nil {
		w.t.Fatal(err)
	}
}

// path is a file on drive C:.
func (w *windows) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir, "drive_c"}, parts...)...)
}

// build builds a program for Windows.
func (w *windows) build(pkg, file string) string {
	w.t.Helper()
	return w.golang(file, "run", "-ldflags=-s -w", "-exec", "cp", pkg, file)
}

// buildTest builds the tests of a package for Windows.
func (w *windows) buildTest(pkg, file string) string {
	w.t.Helper()
	return w.golang(file, "test", "-vet=off", "-ldflags=-s -w", "-c", "-o", file, pkg)
}

// golang runs the go command; never with the race detector, which needs a C compiler
// for Windows.
func (w *windows) golang(file string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("building %s for Windows: %v\n%s", filepath.Base(file), err, out)
	}
	return file
}

func (w *windows) env() []string {
	return cleanEnv("WINEPREFIX="+w.dir, "WINEDEBUG=-all", "HOME="+w.dir, "SUPERVISOR_SECRET=only-for-the-agent")
}

// wrap has cmd, which names a program of this system, run another one under Wine.
func (w *windows) wrap(cmd *exec.Cmd, program string) {
	cmd.Path, cmd.Env = wineLoader, w.env()
	cmd.Args = append([]string{wineLoader, program}, cmd.Args[1:]...)
}

// local is how a program on this Windows names a file of this system.
func (w *windows) local(path string) string {
	if rest, ok := strings.CutPrefix(path, w.path()); ok {
		return `C:` + strings.ReplaceAll(rest, "/", `\`)
	}
	return `Z:` + strings.ReplaceAll(path, "/", `\`)
}

// forwarder is a library with one function, which is another one's. The runtime of Go
// asks for one of a library that this Wine does not have yet; its only function is to
// fill memory with random bytes, as one that has been there for ever does.
//
// It is the shortest file of this kind that is loaded: headers, and one section that
// holds the table of exports. A function whose address lies in there is a name.
func forwarder(library, function, target string) []byte {
	const at = 0x1000 // where the section is in memory
	le := binary.LittleEndian
	exports := make([]byte, 40, 0x200)
	text := func(s string) uint32 {
		rva := uint32(at + len(exports))
		exports = append(append(exports, s...), 0)
		return rva
	}
	table := func(v uint32, bytes int) uint32 {
		rva := uint32(at + len(exports))
		exports = append(exports, le.AppendUint32(nil, v)[:bytes]...)
		return rva
	}
	le.PutUint32(exports[12:], text(library))
	le.PutUint32(exports[16:], 1) // number of the first function
	le.PutUint32(exports[20:], 1) // functions
	le.PutUint32(exports[24:], 1) // names
	to, name := text(target), text(function)
	le.PutUint32(exports[28:], table(to, 4))
	le.PutUint32(exports[32:], table(name, 4))
	le.PutUint32(exports[36:], table(0, 2))

	file := make([]byte, 0x400)
	copy(file, "MZ")
	le.PutUint32(file[60:], 64)
	copy(file[64:], "PE\x00\x00")
	var head bytes.Buffer
	for _, v := range []any{
		uint16(0x8664), uint16(1), uint32(0), uint32(0), uint32(0), uint16(240), uint16(0x2022), // x86-64, one section, a library
		uint16(0x20b), uint16(0), uint32(0), uint32(0x200), uint32(0), uint32(0), uint32(at), // 64 bits; no code
		uint64(0x180000000), uint32(0x1000), uint32(0x200), // where to, and how parts are aligned there and here
		uint16(6), uint16(0), uint16(0), uint16(0), uint16(6), uint16(0), uint32(0), // versions
		uint32(0x2000), uint32(0x200), uint32(0), uint16(2), uint16(0x140), // sizes; graphical; may lie anywhere
		uint64(0x100000), uint64(0x1000), uint64(0x100000), uint64(0x1000), uint32(0), uint32(16),
		uint32(at), uint32(len(exports)), [15]uint64{}, // of sixteen tables the first
		[8]byte{'.', 'e', 'd', 'a', 't', 'a'}, uint32(0x200), uint32(at), uint32(0x200), uint32(0x200), [3]uint32{}, uint32(0x40000040),
	} {
		_ = binary.Write(&head, le, v) // to memory, of fixed sizes
	}
	copy(file[68:], head.Bytes())
	copy(file[0x200:], exports)
	return file
}
