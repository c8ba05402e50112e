package airflow_test

import (
	"testing"
	"time"

	"airlock/airflow"
)

func TestParseTime(t *testing.T) {
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		given string
		zone  *time.Location
		want  string
	}{
		// Naive: in the zone of Airflow's server, summer and winter.
		{"2026-07-01T12:00:00", vienna, "2026-07-01T10:00:00Z"},
		{"2026-01-01T12:00:00", vienna, "2026-01-01T11:00:00Z"},
		{"2026-03-29T01:59:59", vienna, "2026-03-29T00:59:59Z"},
		{"2026-03-29T03:00:00", vienna, "2026-03-29T01:00:00Z"},
		{"2026-10-25T01:59:59.999999", vienna, "2026-10-24T23:59:59.999999Z"},
		{"2026-10-25T03:00:00", vienna, "2026-10-25T02:00:00Z"},
		{"2026-07-01T12:00:00", time.UTC, "2026-07-01T12:00:00Z"},
		{"2026-07-01T00:30:00", time.FixedZone("", -5*3600), "2026-07-01T05:30:00Z"},
		// With and without a fraction.
		{"2026-02-22T10:13:13.123456", time.UTC, "2026-02-22T10:13:13.123456Z"},
		{"2026-02-22T10:13:13.1", time.UTC, "2026-02-22T10:13:13.1Z"},
		{"2026-02-22T10:13:13", time.UTC, "2026-02-22T10:13:13Z"},
		// With a zone of its own, the server's doesn't count.
		{"2026-02-22T10:13:13Z", vienna, "2026-02-22T10:13:13Z"},
		{"2026-02-22T10:13:13.5+05:30", vienna, "2026-02-22T04:43:13.5Z"},
		{"2026-02-22T10:13:13.123456+00:00", vienna, "2026-02-22T10:13:13.123456Z"},
	} {
		got, err := airflow.ParseTime(c.given, c.zone)
		if err != nil || got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s in %s: got %v, %v, want %s", c.given, c.zone, got, err, c.want)
		}
	}
	if got, err := airflow.ParseTime("", vienna); err != nil || !got.IsZero() {
		t.Errorf("none: got %v, %v", got, err)
	}
	for _, s := range []string{"yesterday", "2026-02-30T10:13:13", "2026-02-22", "1700000000", "2026-02-22T10:13"} {
		if got, err := airflow.ParseTime(s, time.UTC); err == nil {
			t.Errorf("%s: got %v", s, got)
		}
	}
}
