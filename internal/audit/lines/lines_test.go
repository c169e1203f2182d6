package lines

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestNextTellsWholeLinesFromTornOnes(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader("one\n\n"+strings.Repeat("x", 100)+"\ntorn"), 16)
	for _, want := range []struct {
		line  string
		whole bool
	}{{"one", true}, {"", true}, {strings.Repeat("x", 100), true}, {"torn", false}, {"", false}} {
		line, whole, err := Next(r, 100)
		if err != nil || string(line) != want.line || whole != want.whole {
			t.Errorf("%q, %v, %v; want %+v", line, whole, err, want)
		}
	}
}

func TestNextGivesUpOnAnEndlessLine(t *testing.T) {
	for _, end := range []string{"", "\n"} {
		if line, _, err := Next(bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 200)+end), 16), 100); err == nil {
			t.Errorf("%d bytes of a line of at most 100", len(line))
		}
	}
	disk := errors.New("disk")
	if _, _, err := Next(bufio.NewReader(broken{disk}), 100); !errors.Is(err, disk) {
		t.Errorf("a read error became %v", err)
	}
}
