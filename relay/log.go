package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/pion/logging"
)

// maxLogged is how many bytes of a stranger's text go into a log record.
const maxLogged = 96

// escaped makes a stranger's text fit for a log: one line of ASCII, bounded. A
// newline or an escape sequence in a user name must not forge a record or drive
// a terminal (attack M15).
func escaped(s string) string {
	if len(s) > maxLogged {
		s = s[:maxLogged]
	}
	return strconv.QuoteToASCII(s)
}

// pionLog passes pion's errors and warnings to our debug level, escaped: they
// hold user names as they came and a stranger can cause any number of them. The
// rest is dropped unformatted.
type pionLog struct{ log *slog.Logger }

// NewLogger makes pionLog a logging.LoggerFactory.
func (p pionLog) NewLogger(string) logging.LeveledLogger { return p }

func (p pionLog) put(format string, args ...any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("turn", "detail", escaped(fmt.Sprintf(format, args...)))
	}
}

func (p pionLog) Trace(string)                  {}
func (p pionLog) Tracef(string, ...interface{}) {}
func (p pionLog) Debug(string)                  {}
func (p pionLog) Debugf(string, ...interface{}) {}
func (p pionLog) Info(string)                   {}
func (p pionLog) Infof(string, ...interface{})  {}
func (p pionLog) Warn(msg string)               { p.put("%s", msg) }
func (p pionLog) Warnf(f string, a ...interface{}) {
	p.put(f, a...)
}
func (p pionLog) Error(msg string) { p.put("%s", msg) }
func (p pionLog) Errorf(f string, a ...interface{}) {
	p.put(f, a...)
}
