package rate

import (
	"testing"
	"time"
)

func TestLimiterForgetsWhoIsQuiet(t *testing.T) {
	l := New[int](Rate{PerSecond: 1, Burst: 2})
	now := time.Unix(1_700_000_000, 0)
	for i, want := range []bool{true, true, false} {
		if l.Allow(1, now) != want {
			t.Fatalf("call %d of a burst of two", i+1)
		}
	}
	if l.Allow(1, now.Add(-time.Hour)) {
		t.Fatal("a clock that went back gave a token")
	}
	if !l.Allow(1, now.Add(time.Second)) || l.Allow(1, now.Add(time.Second)) {
		t.Fatal("filling")
	}
	if !l.Allow(2, now.Add(time.Hour)) || len(l.buckets) != 1 {
		t.Fatalf("%d buckets", len(l.buckets))
	}
	for i := range maxBuckets + 10 {
		l.Allow(i, now.Add(time.Hour))
	}
	if len(l.buckets) > maxBuckets || !l.Allow(2, now.Add(time.Hour+time.Second)) {
		t.Fatal("not bounded, or an old caller was forgotten")
	}
}

func TestAskingTakesNothingAndRemembersNobody(t *testing.T) {
	l := New[int](Rate{PerSecond: 1, Burst: 1})
	now := time.Unix(1_700_000_000, 0)
	if l.Spent(1, now) || len(l.buckets) != 0 {
		t.Fatal("somebody new")
	}
	for _, want := range []bool{true, false} {
		if l.Allow(1, now) != want {
			t.Fatal("asking took a token")
		}
	}
	if !l.Spent(1, now) || !l.Spent(1, now.Add(-time.Hour)) || l.Spent(1, now.Add(time.Second)) {
		t.Fatal("filling")
	}
}

func TestSourcesAreCountedByNetwork(t *testing.T) {
	for a, b := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1:2",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1:2",
		"[2001:db8:1:2::1]:1":      "[2001:db8:1:3::9]:2",
		"[2001:db8:1:2::1%eth0]:1": "[2001:db8:1:2::2]:1",
	} {
		if Source(a) != Source(b) {
			t.Errorf("%s and %s differ", a, b)
		}
	}
	if Source("192.0.2.1:1") == Source("192.0.2.2:1") || Source("x") != Source("") {
		t.Error("sources")
	}
}
