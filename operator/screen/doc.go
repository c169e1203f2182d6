// Package screen stands between what a remote program writes and the person's
// terminal. It shows typed keys before their echo can have come back, and
// notices about the connection, and takes both off again without a trace.
//
// What the program writes reaches the terminal unchanged and in order. All that
// is ours is an overlay: drawn between two writes of the program, and undone
// before the next one from a model of what the program has drawn. So the model
// decides how good this package is, and it is built to know what it does not
// know: a cell is text, erased, or unknown; the column is an interval and so is
// the row, since nobody tells us where on the screen we begin; the colours may
// be unknown. Sequences that terminals disagree on, or that we do not know,
// make things unknown, and nothing is ever drawn where we could not put back
// what was there. Erasing the screen, returning the carriage or reaching its
// last row make things known again.
//
// Emulators as libraries were looked at and turned down. The one at hand has no
// wide characters, no insert mode and no notion of doubt; the parser at hand
// ends a window title at the byte 9C, which is part of letters such as a check
// mark, and swallows an escape that follows a broken letter. Either would have
// us restore what was never there.
//
// # Prediction
//
// Keys are predicted as mosh does it. A run of keys is an epoch. Nothing of it
// is shown until the program's own output has confirmed one of its letters, so
// that a password, which is never echoed, is never shown either. A letter, a
// backspace and the arrows to both sides continue an epoch; every other key and
// every output that no key explains ends it. Output that disagrees takes the
// predictions off at once, silence does so after twice the round trip.
//
// # Notices
//
// A notice is a bar in reverse video in the first row that can be put back,
// beginning at the top, where it hides the least. While the cursor's row is not
// known, it stands at the right of the cursor's own line, if there is room.
// Otherwise it is the window's title: a line of its own would move the program's
// lines, and what a full-screen program has drawn would never fit again.
package screen
