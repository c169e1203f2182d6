// Package sshfront is the SSH server that stock OpenSSH talks to: it runs on the
// operator's own machine, on the two pipes of a ProxyCommand, and turns every SSH
// channel into one channel of a sealed session.
//
// No SSH leaves the machine. The machine at the other end has no SSH server, and
// what is typed is plain only here and there (design 4.4).
//
// # Who may come in
//
// Nobody is asked for a password or a key. The two pipes were made by the ssh
// that started us and nobody else holds an end of them; whoever could write to
// them runs as the same user and can read the operator's key as well. So there is
// nothing that a proof could add, and the user name of the SSH login is no claim:
// it says which user of the machine is wanted, and the signed request carries it.
//
// The host key authenticates nothing either, for the same reason. It is made per
// state folder and shown to ssh by KnownHostsCommand, so that ssh has no question
// to ask, and so that a key of ours never gets into anybody's known_hosts.
//
// # What maps to what
//
//	SSH                              session
//	session, shell                   a request of action shell
//	session, exec LINE               a request of action shell with that line, as "tucdesk ssh HOST LINE"
//	session, subsystem sftp          a request of action copy, for the user's files
//	direct-tcpip, direct-streamlocal, tcpip-forward, streamlocal-forward
//	                                 one request of action forward for all of a connection
//	auth-agent-req@openssh.com       the client's agent, lent to that program
//	env                              signed variables; names that the policy does not allow are left out, as AcceptEnv does it
//	pty-req, window-change, signal   the same
//
// An SSH connection says what it wants only when it opens a channel, so requests
// are signed then: one for each program, with its exact command line. A policy, an
// approver and the log judge the same thing as with the client of our own
// (docs/decisions/0016-openssh-front.md). What is waited for, and why something is
// refused, is told on the channel's standard error, which OpenSSH shows also
// behind a ControlMaster.
package sshfront
