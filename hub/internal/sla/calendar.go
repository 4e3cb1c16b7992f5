package sla

import (
	"fmt"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// Slots and days are counted from 1970 UTC, as hours are in package evidence: slot s begins at s × 300,000 ms.
const (
	SlotsPerDay = 288
	DayMS       = SlotsPerDay * evidence.SlotMS
)

// MaxMS is the last millisecond that documents may name, the end of the year 9999.
const MaxMS = 253_402_300_799_999

// DayOf returns the UTC day that a time lies in, counted from 1970. Times before that do not occur: Check refuses them.
func DayOf(ms int64) int { return int(ms / DayMS) }

// slotAtOrAfter returns the first slot that starts at or after a time: where something that begins or ends then begins or ends to count,
// because a slot belongs to whatever holds at its start.
func slotAtOrAfter(ms int64) int64 { return (ms + evidence.SlotMS - 1) / evidence.SlotMS }

// CalendarMonth is a month in UTC: months since January of the year 0.
type CalendarMonth int

// NewCalendarMonth returns the month of a year; month is 1 to 12.
func NewCalendarMonth(year, month int) CalendarMonth { return CalendarMonth(year*12 + month - 1) }

// MonthOf returns the month that a time lies in.
func MonthOf(ms int64) CalendarMonth {
	t := time.UnixMilli(ms).UTC()
	return NewCalendarMonth(t.Year(), int(t.Month()))
}

// ParseMonth reads a month like 2026-11.
func ParseMonth(s string) (CalendarMonth, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || len(s) != 7 || t.Year() < 1970 {
		return 0, fmt.Errorf("month %.20q is not a month like 2026-11", s)
	}
	return NewCalendarMonth(t.Year(), int(t.Month())), nil
}

// String returns the form that ParseMonth reads.
func (m CalendarMonth) String() string { return fmt.Sprintf("%04d-%02d", int(m)/12, int(m)%12+1) }

// MarshalText implements encoding.TextMarshaler.
func (m CalendarMonth) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *CalendarMonth) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMonth(string(b))
	return err
}

// FromMS returns the month's first millisecond.
func (m CalendarMonth) FromMS() int64 {
	return time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}

// ToMS returns the first millisecond after the month.
func (m CalendarMonth) ToMS() int64 { return (m + 1).FromMS() }

// FirstDay returns the month's first day, counted from 1970.
func (m CalendarMonth) FirstDay() int { return DayOf(m.FromMS()) }

// Days returns how many days the month has.
func (m CalendarMonth) Days() int { return int((m.ToMS() - m.FromMS()) / DayMS) }
