// Package cgroup puts each session into a control group of its own, so that its
// end is the end of everything it started, also of what has left its process
// group and its terminal (attack H2).
//
// A process can leave its session with setsid and its parent by dying first, but
// without root it cannot leave a control group that root made. What root runs, or
// what another service starts on request, is outside of this.
//
// Groups are made below the one in which the agent itself runs, of the unified
// hierarchy (cgroup v2). Under systemd the unit needs Delegate=yes, which says that
// this part of the tree is the service's own.
//
//	<the agent's group>/tucdesk-<owner>-<session>/cgroup.kill
//
// A session that forks until nothing more can be forked must not lock everybody out,
// so its processes are counted, and those of all sessions, where the agent's unit has a
// group for the agent itself (DelegateSubgroup=agent, systemd 254 and newer):
//
//	<unit>/agent
//	<unit>/sessions/pids.max
//	<unit>/sessions/tucdesk-<owner>-<session>/pids.max
//
// or where the hierarchy that counts is one of its own (cgroup v1), in which a group of
// the same name stands beside the one above. Elsewhere nothing is limited, and
// Unlimited says why.
//
// A group whose programs may outlive their session gets an empty group inside it, whose
// name says whose they are. It is there as long as they are, whatever becomes of the
// agent:
//
//	<the agent's group>/tucdesk-<owner>-<session>/left-<mark>
//
// Source: cgroups(7), Linux 5.14 and newer.
package cgroup

// Group is the group of one session. The one that made it ends it.
type Group struct {
	dir     string
	counted string // the one of the same name in a hierarchy that counts processes only; "" for none
}

// Left is a group that was left running, and the mark that Leave gave it.
type Left struct {
	Group *Group
	Mark  string
}
