package airflow

import (
	"fmt"
	"time"
)

// naive is how FAB writes a time: its server's local time without a zone,
// with or without a fraction. Go's parser takes the fraction unasked.
const naive = "2006-01-02T15:04:05"

// parseTime reads a time of Airflow's. One without a zone is taken to be in
// zone. The empty string and JSON's null are the zero time.
func parseTime(s string, zone *time.Location) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	t, err := time.ParseInLocation(naive, s, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time this client knows", s)
	}
	return t.UTC(), nil
}
