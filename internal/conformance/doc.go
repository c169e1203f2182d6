// Package conformance runs the real tools that people use over SSH, as they are
// installed on the machine, against our client's proxy, a server with its relay and
// agents. The agents are on a network host of their own (internal/netlab), so that a
// forward's far end is another place than its near one.
//
// Each case is a few lines of shell as a person would type them, with what they must
// print and how they must end. docs/SSH-COMPAT.md is made of the same table:
//
//	go test ./internal/conformance -update
//
// The tests need ssh, scp, sftp, rsync, git and script (Debian: openssh-client rsync
// git bsdutils), root for the hosts, and single cases ansible-core, sshfs and mosh.
// Without them they are skipped; with CI=true they fail.
package conformance
