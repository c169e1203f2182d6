package policy

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones must mean the same on a server and on a bare host without zone files
)

// window is a weekly time window, read off the wall clock of its zone.
//
// It is half open: from belongs to it, to does not. One that crosses midnight
// belongs to the day it starts on: days = ["fri"], from = "22:00", to = "06:00"
// ends on Saturday at 06:00.
//
// Because the wall clock decides, a change of daylight saving needs no rule of
// its own: in spring the skipped hour never occurs, so a window inside it does
// not open that day; in autumn the repeated hour occurs twice and is inside (or
// outside) both times.
type window struct {
	days     uint8 // bit per time.Weekday
	from, to int   // minutes since midnight; both 0 is the whole day
	zone     int   // index into Rules.zones
}

// wall is a point of the weekly clock.
type wall struct {
	day    time.Weekday
	minute int
}

func wallAt(t time.Time, zone *time.Location) wall {
	t = t.In(zone)
	return wall{t.Weekday(), t.Hour()*60 + t.Minute()}
}

func (w *window) contains(at wall) bool {
	today := w.days&(1<<at.day) != 0
	switch {
	case w.from == w.to:
		return today
	case w.from < w.to:
		return today && w.from <= at.minute && at.minute < w.to
	}
	yesterday := w.days&(1<<((at.day+6)%7)) != 0
	return today && at.minute >= w.from || yesterday && at.minute < w.to
}

// weekday is a day's name in the file.
type weekday time.Weekday

// UnmarshalText takes mon to sun.
func (d *weekday) UnmarshalText(text []byte) error {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.ToLower(day.String()[:3]) == string(text) {
			*d = weekday(day)
			return nil
		}
	}
	return fmt.Errorf("%q is not a day: write mon, tue, wed, thu, fri, sat or sun", text)
}

// clockTime is "HH:MM" in the file, in minutes since midnight.
type clockTime int

// UnmarshalText takes 00:00 to 23:59, with two digits each.
func (c *clockTime) UnmarshalText(text []byte) error {
	t, err := time.Parse("15:04", string(text))
	if err != nil || len(text) != len("15:04") {
		return fmt.Errorf("%q is not a time of day from 00:00 to 23:59: the end of the day is \"00:00\"", text)
	}
	*c = clockTime(t.Hour()*60 + t.Minute())
	return nil
}

// zone is a time zone of the IANA database.
type zone struct{ *time.Location }

// UnmarshalText takes a name that means the same on every machine.
func (z *zone) UnmarshalText(text []byte) error {
	s := string(text)
	// "Local" and "" are names to the library, but mean another time on each machine.
	loc, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		return fmt.Errorf("%q is not a time zone: write \"UTC\" or one such as \"Europe/Berlin\"", text)
	}
	z.Location = loc
	return nil
}

// instant is a point in time with its offset, so that it means the same everywhere.
type instant struct{ time.Time }

// UnmarshalText takes RFC 3339.
func (i *instant) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a point in time: write for example 2026-03-02T12:00:00+01:00", text)
	}
	i.Time = t
	return nil
}
