package sidebyside

import (
	"flag"
	"testing"
)

func TestWhoSaysParallelHasTheLastWord(t *testing.T) {
	parallel := flag.Lookup("test.parallel").Value
	before := parallel.String()
	defer func() { _ = parallel.Set(before) }()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	Tests(1234)
	if got := parallel.String(); said && got != before || !said && got != "1234" {
		t.Errorf("-parallel was %s and is %s; said on the command line: %v", before, got, said)
	}
	_ = flag.Set("test.parallel", "77") // as the command line does
	Tests(1234)
	if got := parallel.String(); got != "77" {
		t.Errorf("-parallel=77 became %s", got)
	}
}
