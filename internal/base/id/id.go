// Package id makes the ids of everything Airlock keeps: KSUIDs, 27 letters and
// digits that sort by the second they were made in. The Baton protocol asks for
// this form in task ids (baton.proto, task_id).
package id

import "github.com/segmentio/ksuid"

// New makes an id.
func New() string { return ksuid.New().String() }

// Valid reports whether s has the form of an id.
func Valid(s string) bool {
	parsed, err := ksuid.Parse(s)
	return err == nil && parsed.String() == s // Parse takes any 27 bytes
}

// Series makes ids for many rows: each sorts after the one before, so that they
// go to the end of an index. It isn't for use by several goroutines.
type Series struct{ last ksuid.KSUID }

// Next makes the next id of the series.
func (s *Series) Next() string {
	if s.last.IsNil() {
		s.last = ksuid.New()
	} else {
		s.last = s.last.Next()
	}
	return s.last.String()
}
