package id

import (
	"strings"
	"testing"
)

func TestNewIDsAreValidAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		made := New()
		if !Valid(made) || len(made) != 27 || seen[made] {
			t.Fatalf("id %q", made)
		}
		seen[made] = true
	}
}

func TestWhatIsNoIDIsRefused(t *testing.T) {
	for _, wrong := range []string{
		"", "x", strings.Repeat("a", 26), strings.Repeat("a", 28), strings.Repeat("z", 27), // more than 160 bits
		"0ujsszwN8NRY24YaXiTIE2VWDT!", "../../../../../../etc/passwd", "0ujsszwN8NRY24YaXiTIE2VWDT\x00",
	} {
		if Valid(wrong) {
			t.Errorf("%q is taken for an id", wrong)
		}
	}
}

func TestIDsOfASeriesSortAfterEachOther(t *testing.T) {
	var s Series
	last := ""
	for range 200_000 { // more than a KSUID sequence holds
		next := s.Next()
		if next <= last {
			t.Fatalf("%q comes after %q", next, last)
		}
		last = next
	}
	if !Valid(last) {
		t.Errorf("id %q", last)
	}
	var other Series
	if other.Next() == (&Series{}).Next() {
		t.Error("two series begin alike")
	}
}
