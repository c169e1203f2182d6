package kept

import (
	"os"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Door refuses: this system passes no descriptors, and agents here have no sessions.
type Door struct{}

func unsupported() error {
	return refusal.New(refusal.Unavailable, "shells are not kept on Windows by this version")
}

// NewDoor refuses.
func NewDoor() (*Door, *os.File, error) { return nil, nil, unsupported() }

// OpenDoor refuses.
func OpenDoor(*os.File) (*Door, error) { return nil, unsupported() }

// NewStream refuses.
func NewStream() (holder, session *os.File, err error) { return nil, nil, unsupported() }

// Pass refuses.
func (*Door) Pass(*os.File) error { return unsupported() }

// Next refuses.
func (*Door) Next() (*os.File, error) { return nil, unsupported() }

// Close does nothing.
func (*Door) Close() error { return nil }
