// Package repotest holds the rules of this repository as tests: which package may
// import which, which library belongs to which package, and what must not appear
// in the sources. It has no code of its own.
//
// The tests read the sources; they do not run the go command. A test's result is
// cached with the files it opened, so a new or changed file is noticed, while
// the output of a child process would be believed again although it is stale.
package repotest
