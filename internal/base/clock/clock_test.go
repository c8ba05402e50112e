package clock

import (
	"testing"
	"time"
)

func TestTimesAreWhatTheDatabasesKeep(t *testing.T) {
	odd := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("", 3600))
	for name, now := range map[string]time.Time{"system": System{}.Now(), "fake": NewFake(odd).Now()} {
		if kept := time.UnixMicro(now.UnixMicro()).UTC(); kept != now {
			t.Errorf("%s: %v is kept as %v", name, now, kept)
		}
	}
}

func TestAFakeClockStandsStillUntilItIsMoved(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := NewFake(start)
	for range 2 {
		if c.Now() != start {
			t.Error("it moved by itself")
		}
	}
	c.Advance(time.Hour)
	if c.Now() != start.Add(time.Hour) {
		t.Errorf("it stands at %v", c.Now())
	}
}
