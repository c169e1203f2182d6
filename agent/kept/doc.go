// Package kept is a shell that outlives the sessions it is used in.
//
// It runs in a process of its own, the holder, as the target's user. The holder has
// the terminal, the program and what the program has said last. It has no key and no
// network: a session process, which has both for as long as its session lasts, is
// joined to it by a stream of the supervisor's making. Whoever holds the other end
// of such a stream has the shell; the supervisor gives one out for a signed request
// that was judged, and to nobody else. The newest stream has the shell, the one
// before is told and closed.
//
// A stream, integers big-endian, is a line of frames:
//
//	0  1  type
//	1  4  length of the body
//	5  n  body
//
//	type  name      direction    limit    body
//	1     begin     to holder    8 KiB    JSON: the terminal at the other end
//	2     input     to holder    32 KiB   bytes
//	3     resize    to holder    64       JSON: columns and rows
//	4     signal    to holder    16       name without SIG
//	16    begun     to session   0        the program runs
//	17    refused   to session   4 KiB    JSON: why it does not
//	18    output    to session   32 KiB   bytes
//	19    exited    to session   64       JSON: how the program ended; the last frame
//	20    taken     to session   0        another stream has the shell; the last frame
//
// The first frame is begin. The program starts with the first begin; each later one
// gets begun at once, then what is left of earlier output, then what comes. All of
// it is one line of output: the other end need not know where the old part ends.
//
// # Earlier output
//
// Scrollback bytes are kept as they came, older ones are gone. What is played back is
// passed through a filter first: a terminal answers some sequences, and answers to
// questions of an hour ago would be typed into the shell (attack J2). The filter
// leaves out every question, what writes to a clipboard, and device control strings.
// Modes that bytes which are gone had set, the second screen among them, are set
// before the rest. Programs that draw the whole screen are made to draw it anew.
//
// Source: issue 4, point 6; attacks H2, H4, H6, J2.
package kept
