// Package fleet is one command on many machines: which ones a person means, and
// what becomes of all they print at once.
//
// What machines print is shown with the name of its machine in front of every line.
// There a byte that moves a cursor could write over another machine's lines or in
// its name (attack J1), so control characters are shown in place of being passed
// on. Files and JSON have every byte.
package fleet
