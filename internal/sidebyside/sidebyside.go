// Package sidebyside lets more tests of one binary run at a time than there are
// cores. It is for packages whose tests wait, for timers, packets and other
// processes: waits that overlap cost nothing. Only tests import it.
package sidebyside

import (
	"flag"
	"fmt"
)

// Tests lets n of the tests that say t.Parallel run at a time, and is called by
// TestMain before m.Run. Whoever says -parallel on the command line has the last
// word: the number is also that of a fuzz target's processes.
func Tests(n int) {
	const name = "test.parallel"
	if !flag.Parsed() {
		flag.Parse()
	}
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == name })
	if !said {
		_ = flag.Set(name, fmt.Sprint(n))
	}
}
