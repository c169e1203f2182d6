package policy

import (
	"net/netip"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestP4GuardedAddressesInEverySpelling(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "169.254.170.2": true, "::ffff:169.254.169.254": true, "64:ff9b::a9fe:a9fe": true, "2002:a9fe:a9fe::1": true,
		"::a9fe:a9fe": true, "fd00:ec2::254": true, "fd20:ce::254": true, "fe80::1%eth0": true, "100.100.100.200": true, "168.63.129.16": true,
		"127.0.0.1": false, "10.0.0.1": false, "::1": false, "192.168.1.1": false, "2001:db8::1": false, "64:ff9b::a00:1": false, "fd00::1": false,
	} {
		if got := Guarded(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// Clouds that have their metadata service elsewhere than most, and what lies beside it:
// an address that is not in the list is open to every rule for forwards without targets.
func TestP4MetadataServicesOutsideTheLinkLocalNetworks(t *testing.T) {
	for addr, want := range map[string]bool{
		"fd00:ec2::23": true, "fd00:42::42": true, "fd00:c1::a9fe:a9fe": true, "fd00:a9fe:a9fe::1": true, "fd00:100::100:200": true, "192.0.0.192": true,
		"64:ff9b::6464:64c8": true, "2002:a83f:8110::1": true, // Alibaba's and Azure's through routers that translate
		"fd00:42::43": false, "fd00:a9fe:a9fe::2": false, "fd00:100::100:201": false, "100.100.100.201": false, "168.63.129.17": false, "192.0.0.193": false,
	} {
		if got := Guarded(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// A request that a target makes closed is denied by the policy itself, so that whoever
// asks it beforehand is told what the machine will say.
func TestP4WhatHasToBeNamedIsDeniedWhereNoRuleNamesIt(t *testing.T) {
	open := load(t, "[[allow]]\nid='all'\nwho.roles=['operator']\nactions=['forward']\n")
	named := load(t, "[[allow]]\nid='named'\nwho.roles=['operator']\nactions=['forward']\ntargets=['169.254.169.254:80', '/run/docker.sock', '0.0.0.0:80', '[fe80::1]:*']\n")
	for _, c := range []struct {
		action      Action
		text        string
		open, named Effect
	}{
		{ForwardLocal, "169.254.169.254:80", Deny, Allow},
		{ForwardLocal, "[::ffff:169.254.169.254]:80", Deny, Allow},
		{ForwardLocal, "169.254.169.254:81", Deny, Deny},
		{ForwardLocal, "[fe80::1]:80", Deny, Allow},
		{ForwardLocal, "[64:ff9b::a9fe:a9fe]:80", Deny, Deny},
		{ForwardLocal, "/run/docker.sock", Deny, Allow},
		{ForwardLocal, "db.lan:80", Allow, Deny},
		{ForwardLocal, "DB.lan.:80", Allow, Deny},
		{ForwardLocal, "localhost:80", Allow, Deny},
		{ForwardRemote, "/run/docker.sock", Deny, Allow},
		{ForwardRemote, "0.0.0.0:80", Deny, Allow},
		{ForwardRemote, "192.0.2.1:80", Deny, Deny},
		{ForwardRemote, "[::1]:80", Allow, Deny},
		{ForwardRemote, "80", Allow, Deny},
		{ForwardRemote, "0", Allow, Deny},
		{ForwardRemote, ":0", Deny, Deny},
		{ForwardRemote, ":80", Deny, Allow},
		{ForwardRemote, "*:80", Deny, Allow},
		{ForwardRemote, "[::]:80", Deny, Deny},
	} {
		target, err := ReadTarget(c.action, c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		q := Request{Action: c.action, Target: target, Role: Operator, Agent: "web-1"}
		for rules, want := range map[*Rules]Effect{open: c.open, named: c.named} {
			if d := rules.Decide(&q, noon); d.Effect != want || d.Effect == Deny && d.Code != refusal.PolicyDenied {
				t.Errorf("%s %s: %v (%s), want %v", c.action, c.text, d.Effect, d.Reason, want)
			}
		}
	}
}

func TestTargetsOfPeopleThatAreNone(t *testing.T) {
	for action, list := range map[Action][]string{
		ForwardLocal:  {"", "80", ":80", "db", "db:0", "db:x", "db:65536", "::1:80", "[::1:80", "::1]:80", "[db]:80", "a b:80", "/run/../x", "web/x"},
		ForwardRemote: {"", "x", "65536", "::1:80", "[::1:80", "[]:80", "/run//x", "[*]:80"},
	} {
		for _, text := range list {
			if got, err := ReadTarget(action, text); refusal.Of(err) != refusal.BadArgument {
				t.Errorf("%s %q: %q, %v", action, text, got, err)
			}
		}
	}
}

// What the policy takes for loopback is what the machine listens at without a rule that
// names it, however the operator wrote it: else one of the two says yes and the other no.
func TestLoopbackInEverySpelling(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost.": true, "127.0.0.1": true, "127.0.0.1.": true, "::1": true, "0:0:0:0:0:0:0:1": true, "::ffff:127.0.0.1": true,
		"127.0.0.2": false, "0.0.0.0": false, "::": false, "localhost.lan": false, "::ffff:0.0.0.0": false, "*": false, "*.": false, ".": false, "::1%lo": false,
	} {
		text, ok := Target(host, 80)
		if here := ok && (text == "localhost:80" || text == "127.0.0.1:80" || text == "[::1]:80"); here != want {
			t.Errorf("%q is %q, %v", host, text, ok)
		}
		if got := Loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
		if text, _ := ListenTarget(host, 80); (text == "localhost:80") != want {
			t.Errorf("to listen at %q is to listen at %q", host, text)
		}
	}
}

func FuzzReadTarget(f *testing.F) {
	for _, s := range []string{"db.lan:5432", "[::1]:80", "/run/x.sock", "8080", ":0", "*:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range []Action{ForwardLocal, ForwardRemote} {
			got, err := ReadTarget(a, s)
			if err != nil {
				continue
			}
			if again, err := ReadTarget(a, got); err != nil || again != got {
				t.Errorf("%s %q is %q, and that is %q, %v", a, s, got, again, err)
			}
		}
	})
}
