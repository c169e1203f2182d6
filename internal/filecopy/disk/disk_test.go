package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestALockIsThatOfOneOpenFile(t *testing.T) {
	f := create(t, "f")
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Lock(f); err != nil {
		t.Fatal(err)
	}
	if Lock(g) == nil {
		t.Error("two have it, in one process")
	}
	if err := Unlock(f); err != nil {
		t.Fatal(err)
	}
	if err := Lock(g); err != nil {
		t.Errorf("it was given back: %v", err)
	}
	_ = g.Close()
	if err := Lock(f); err != nil {
		t.Errorf("it ends with the file: %v", err)
	}
}

func TestHolesAreFoundWhereTheSystemKnowsThem(t *testing.T) {
	f := create(t, "f")
	const size = 8 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 4<<20); err != nil {
		t.Fatal(err)
	}
	found := false
	for at := int64(0); at < size; {
		r, err := NextData(f, at, size)
		if err != nil || r.Start < at || r.End < r.Start || r.End > size {
			t.Fatalf("behind %d: %+v, %v", at, r, err)
		}
		if r.Start == r.End {
			break
		}
		found = found || r.Start <= 4<<20 && r.End > 4<<20
		at = r.End
	}
	if !found {
		t.Error("the data was not found")
	}
}

func TestManyFilesAreWaitedForTogether(t *testing.T) {
	for _, n := range []int{0, 1, 3, 40} {
		var files []*os.File
		for i := range n {
			files = append(files, create(t, fmt.Sprint(i)))
		}
		for i, err := range Sync(files) {
			if err != nil {
				t.Errorf("%d of %d: %v", i, n, err)
			}
		}
	}
	gone := create(t, "gone")
	_ = gone.Close()
	if errs := Sync([]*os.File{gone}); len(errs) != 1 || errs[0] == nil {
		t.Errorf("a closed file: %v", errs)
	}
}

func TestFactsTellFilesApart(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not say")
	}
	f, g := create(t, "f"), create(t, "g")
	fi, err := f.Stat()
	gi, err2 := g.Stat()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	a, b := FactsOf(fi), FactsOf(gi)
	if a.ID == b.ID || a.ID == (ID{}) || !a.Ours || a.Links != 1 {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestThereIsRoomSomewhere(t *testing.T) {
	d, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n, ok := Free(d); !ok || n == 0 {
		t.Errorf("%d, %v", n, ok)
	}
	if m := Umask(); m != Umask() || m&^0o777 != 0 {
		t.Errorf("%v", m)
	}
}
