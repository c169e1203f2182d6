package store

import (
	"database/sql"
	"fmt"
)

var errSQLNoRows = sql.ErrNoRows

// fixed scans a column of raw bytes into an array and refuses any other length.
type fixed []byte

// Scan implements sql.Scanner.
func (f fixed) Scan(value any) error {
	raw, ok := value.([]byte)
	if !ok || len(raw) != len(f) {
		return fmt.Errorf("reading a column: want %d bytes", len(f))
	}
	copy(f, raw)
	return nil
}

// bytesOf gives a parameter that is never NULL: nil is the empty byte string.
func bytesOf[B ~[]byte](b B) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
