package policy

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func hours(t testing.TB, zone, from, to string, days ...string) *Rules {
	list := ""
	for _, d := range days {
		list += fmt.Sprintf("%q,", d)
	}
	if days != nil {
		list = "when.days=[" + list + "]\n"
	}
	return load(t, fmt.Sprintf("[[allow]]\nid='w'\nwho.roles=['operator']\nactions=['shell']\n%swhen.from=%q\nwhen.to=%q\nwhen.zone=%q\n", list, from, to, zone))
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type moment struct {
	time string
	want Effect
}

func table(t *testing.T, r *Rules, rows []moment) {
	t.Helper()
	for _, row := range rows {
		if d := r.Decide(ask(), at(t, row.time)); d.Effect != row.want {
			t.Errorf("%s: %s (%s)", row.time, d.Effect, d.Reason)
		}
	}
}

const dayMinutes = 24 * 60

func TestF3WindowAcrossMidnightIsHalfOpenAndTheStartDays(t *testing.T) {
	table(t, hours(t, "UTC", "22:00", "06:00"), []moment{
		{"2026-03-02T21:59:59Z", Deny}, {"2026-03-02T22:00:00Z", Allow}, {"2026-03-02T23:59:59Z", Allow},
		{"2026-03-03T00:00:00Z", Allow}, {"2026-03-03T05:59:59Z", Allow}, {"2026-03-03T06:00:00Z", Deny},
	})
	// 2026-03-06 is a Friday.
	table(t, hours(t, "UTC", "22:00", "06:00", "fri"), []moment{
		{"2026-03-06T00:30:00Z", Deny}, {"2026-03-06T21:59:59Z", Deny}, {"2026-03-06T22:00:00Z", Allow},
		{"2026-03-07T05:59:59Z", Allow}, {"2026-03-07T06:00:00Z", Deny}, {"2026-03-07T22:00:00Z", Deny}, {"2026-03-08T00:30:00Z", Deny},
	})
	table(t, hours(t, "UTC", "22:00", "06:00", "sat"), []moment{
		{"2026-03-07T22:00:00Z", Allow}, {"2026-03-08T05:59:59Z", Allow}, {"2026-03-09T00:00:00Z", Deny},
	})
	table(t, hours(t, "UTC", "22:00", "00:00", "fri"), []moment{
		{"2026-03-06T23:59:59Z", Allow}, {"2026-03-07T00:00:00Z", Deny},
	})
	table(t, hours(t, "UTC", "08:00", "18:00", "mon"), []moment{
		{"2026-03-02T07:59:59Z", Deny}, {"2026-03-02T08:00:00Z", Allow}, {"2026-03-02T17:59:59.999Z", Allow}, {"2026-03-02T18:00:00Z", Deny},
		{"2026-03-03T08:00:00Z", Deny},
	})
}

func TestWholeDays(t *testing.T) {
	r := load(t, "[[allow]]\nid='w'\nwho.roles=['operator']\nactions=['shell']\nwhen.days=['sun']\nwhen.zone='Asia/Tokyo'\n")
	table(t, r, []moment{
		{"2026-03-07T14:59:59Z", Deny}, {"2026-03-07T15:00:00Z", Allow}, {"2026-03-08T14:59:59Z", Allow}, {"2026-03-08T15:00:00Z", Deny},
	})
}

func TestF4DaylightSaving(t *testing.T) {
	for _, c := range []struct {
		name, zone, from, to string
		rows                 []moment
	}{
		{"a window inside the skipped hour does not open", "Europe/Berlin", "02:15", "02:45", []moment{
			{"2026-03-29T00:59:59Z", Deny}, {"2026-03-29T01:00:00Z", Deny}, {"2026-03-29T01:30:00Z", Deny},
			{"2026-03-28T01:15:00Z", Allow}, {"2026-03-30T00:15:00Z", Allow},
		}},
		{"a window that ends in the skipped hour ends where it begins", "Europe/Berlin", "01:30", "02:30", []moment{
			{"2026-03-29T00:30:00Z", Allow}, {"2026-03-29T00:59:59Z", Allow}, {"2026-03-29T01:00:00Z", Deny},
		}},
		{"a window that begins in the skipped hour begins after it", "Europe/Berlin", "02:30", "04:00", []moment{
			{"2026-03-29T00:59:59Z", Deny}, {"2026-03-29T01:00:00Z", Allow}, {"2026-03-29T01:59:59Z", Allow}, {"2026-03-29T02:00:00Z", Deny},
		}},
		{"the repeated hour is inside both times", "Europe/Berlin", "02:15", "02:45", []moment{
			{"2026-10-25T02:30:00+02:00", Allow}, {"2026-10-25T02:50:00+02:00", Deny}, {"2026-10-25T02:30:00+01:00", Allow}, {"2026-10-25T02:45:00+01:00", Deny},
		}},
		{"New York in spring", "America/New_York", "02:00", "03:00", []moment{
			{"2026-03-08T01:59:59-05:00", Deny}, {"2026-03-08T07:00:00Z", Deny}, {"2026-03-08T07:30:00Z", Deny}, {"2026-03-09T06:30:00Z", Allow},
		}},
		{"New York in autumn", "America/New_York", "01:00", "02:00", []moment{
			{"2026-11-01T00:59:59-04:00", Deny}, {"2026-11-01T01:30:00-04:00", Allow}, {"2026-11-01T01:30:00-05:00", Allow}, {"2026-11-01T02:00:00-05:00", Deny},
		}},
		{"a zone without daylight saving", "Asia/Kolkata", "02:00", "03:00", []moment{
			{"2026-03-29T02:30:00+05:30", Allow}, {"2026-10-25T02:30:00+05:30", Allow}, {"2026-03-29T03:00:00+05:30", Deny},
		}},
		{"+13:45", "Pacific/Chatham", "00:00", "00:30", []moment{
			{"2026-01-10T00:00:00+13:45", Allow}, {"2026-01-10T00:30:00+13:45", Deny}, {"2026-07-10T00:15:00+12:45", Allow},
			{"2026-01-09T10:14:59Z", Deny}, {"2026-01-09T10:15:00Z", Allow},
		}},
	} {
		t.Run(c.name, func(t *testing.T) { table(t, hours(t, c.zone, c.from, c.to), c.rows) })
	}
}

// A window and its complement never hold together and never both fail.
func TestWindowsSplitTheWeek(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(0, dayMinutes-1).Draw(t, "from"), rapid.IntRange(0, dayMinutes-1).Draw(t, "to")
		if from == to {
			t.Skip()
		}
		now := wall{time.Weekday(rapid.IntRange(0, 6).Draw(t, "day")), rapid.IntRange(0, dayMinutes-1).Draw(t, "minute")}
		a, b := window{days: 127, from: from, to: to}, window{days: 127, from: to, to: from}
		if a.contains(now) == b.contains(now) {
			t.Fatalf("%d-%d at %v", from, to, now)
		}
		open := 0
		for day := range 7 {
			if (&window{days: 1 << day, from: from, to: to}).contains(now) {
				open++
			}
		}
		if open > 1 || (open == 1) != a.contains(now) {
			t.Fatalf("%d days own one moment", open)
		}
	})
}

// More zones than one decision caches.
func TestManyZones(t *testing.T) {
	body := ""
	for i, z := range []string{"UTC", "Asia/Tokyo", "Asia/Kolkata", "Europe/Berlin", "Europe/London", "America/New_York", "America/Denver", "Pacific/Chatham", "Asia/Kathmandu", "Australia/Perth"} {
		body += fmt.Sprintf("[[allow]]\nid='z%d'\nwho.roles=['operator']\nactions=['shell']\nwhen.from='12:00'\nwhen.to='12:01'\nwhen.zone=%q\n", i, z)
	}
	r := load(t, body)
	for i, utc := range []string{"12:00", "03:00", "06:30", "11:00", "12:00", "17:00", "19:00", "22:15", "06:15", "04:00"} {
		if d := r.Decide(ask(), at(t, "2026-01-05T"+utc+":30Z")); d.Effect != Allow {
			t.Errorf("zone %d: %s", i, d.Reason)
		}
	}
}

// A year's end and a leap day are days like others, each in its own zone: at one
// instant the two zones are in different days, months or years.
func TestF3LeapDayAndYearChangeInTwoZones(t *testing.T) {
	for _, c := range []struct {
		name, zone, from, to, day string
		rows                      []moment
	}{
		// 2028-02-29 is a Tuesday, 2027-02-28 a Sunday.
		{"leap day in Auckland", "Pacific/Auckland", "00:00", "23:59", "tue", []moment{
			{"2028-02-28T10:59:59Z", Deny}, {"2028-02-28T11:00:00Z", Allow}, {"2028-02-29T10:58:59Z", Allow},
			{"2028-02-29T10:59:00Z", Deny}, {"2028-02-29T11:00:00Z", Deny},
		}},
		{"leap day in Los Angeles", "America/Los_Angeles", "00:00", "23:59", "tue", []moment{
			{"2028-02-29T07:59:59Z", Deny}, {"2028-02-29T08:00:00Z", Allow}, {"2028-03-01T07:58:59Z", Allow}, {"2028-03-01T08:00:00Z", Deny},
		}},
		{"night into March after a leap day", "Pacific/Auckland", "22:00", "02:00", "tue", []moment{
			{"2028-02-29T22:00:00+13:00", Allow}, {"2028-03-01T01:59:59+13:00", Allow}, {"2028-03-01T02:00:00+13:00", Deny},
			{"2028-02-29T01:00:00+13:00", Deny},
		}},
		{"night into March without one", "Pacific/Auckland", "22:00", "02:00", "sun", []moment{
			{"2027-02-28T22:00:00+13:00", Allow}, {"2027-03-01T01:59:59+13:00", Allow}, {"2027-03-01T22:00:00+13:00", Deny},
		}},
		// 2026-12-31 is a Thursday.
		{"new year in Auckland", "Pacific/Auckland", "22:00", "02:00", "thu", []moment{
			{"2026-12-31T08:59:59Z", Deny}, {"2026-12-31T09:00:00Z", Allow}, {"2026-12-31T12:59:59Z", Allow}, {"2026-12-31T13:00:00Z", Deny},
			{"2027-01-01T09:00:00Z", Deny},
		}},
		{"new year in Los Angeles", "America/Los_Angeles", "22:00", "02:00", "thu", []moment{
			{"2027-01-01T05:59:59Z", Deny}, {"2027-01-01T06:00:00Z", Allow}, {"2027-01-01T09:59:59Z", Allow}, {"2027-01-01T10:00:00Z", Deny},
			{"2026-12-31T09:00:00Z", Deny},
		}},
	} {
		t.Run(c.name, func(t *testing.T) { table(t, hours(t, c.zone, c.from, c.to, c.day), c.rows) })
	}
}
