package pack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnOperatorsPackAddsToThoseThatCome(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "wiki.json", `{"connector": "wiki", "totals": {"site": {"pages": "page"}}}`)
	packs, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	profile := map[string]any{"pages": 12.0, "other": 3.0}
	if diff := cmp.Diff(map[string]int64{"page": 12}, packs.Totals("wiki", "site", profile)); diff != "" {
		t.Error(diff)
	}
	if got := packs.Totals("wiki", "page", profile); len(got) > 0 {
		t.Errorf("totals of another type: %v", got)
	}
	if len(packs) < 2 {
		t.Errorf("only %v: the packs of the program are missing", packs)
	}
}

func TestTotalsThatAreNoneAreLeftOut(t *testing.T) {
	packs := Packs{"x": {Totals: map[string]map[string]string{"t": {"a": "A", "b": "B", "c": "C"}}}}
	got := packs.Totals("x", "t", map[string]any{"a": "12", "b": -1.0, "c": 1e300})
	if len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestAPackThatCantBeReadIsNamed(t *testing.T) {
	for name, text := range map[string]string{"broken.json": `{`, "nameless.json": `{}`, "huge.json": `{"connector":"` + strings.Repeat("x", mostBytes) + `"}`} {
		dir := t.TempDir()
		write(t, dir, name, text)
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "missing")); err != nil {
		t.Errorf("a folder that isn't there: %v", err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
