package disk

import (
	"os"
	"sync"
)

// syncers is how many files are waited for at once, so that journals can write them
// together; our choice.
const syncers = 8

// Sync returns when what was written to all of files is on the disk, with one error
// for each of them.
func Sync(files []*os.File) []error {
	errs := make([]error, len(files))
	if done, err := syncTogether(files); done {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(syncers, len(files)-1) {
		wg.Go(func() {
			for i := range next {
				errs[i] = syncOne(files[i], false)
			}
		})
	}
	last := len(files) - 1
	for i := range last {
		next <- i
	}
	close(next)
	wg.Wait()
	if last >= 0 {
		errs[last] = syncOne(files[last], true)
	}
	return errs
}
