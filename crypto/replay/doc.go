// Package replay makes sure that what was accepted once is not accepted again:
// Window for the counters of sealed datagrams, Cache for identifiers in signed
// statements.
//
// Both are an LRU with a time to live, and for both the danger is the same:
// forgetting an entry would reopen its replay. So every eviction raises a floor,
// and everything at or below the floor is refused. Memory is bounded, and its
// bound costs availability for old items, never safety (attacks A3 to A6, B10).
//
// Time is always a parameter: nothing here reads a clock or starts a goroutine.
//
// Source: protocol 2.8.
package replay
