// Package pipe makes the pipes by which a process of ours on Windows talks to one that
// it starts. Those of the system's own are of two kinds, and neither will do: on an
// anonymous pipe no read can be given a deadline, and a named pipe stands open, by its
// default access list, for reading by everybody on the machine. These are named pipes
// for one connection, which New makes itself, under a name that nobody can guess and
// with an access list of one user.
//
// It is empty on other systems: they have socket pairs and pipes that do all that.
package pipe
