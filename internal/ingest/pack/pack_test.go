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

func TestTheMostExactWordsCount(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "mine.json", `{"connector": "airflow", "words": [
		{"type": "resource", "id": "Connections", "slug": "can_read", "says": "see the vault's doors", "risk": "medium"},
		{"type": "resource", "id": "Ours", "says": "use what is ours", "risk": "low"}]}`)
	packs, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kind, id, slug, risk, says string }{
		{"resource", "Connections", "can_read", "medium", "see the vault's doors"}, // the operator's
		{"resource", "Users", "can_edit", "critical", "give any role to any account, their own too"},
		{"resource", "Ours", "can_edit", "low", "use what is ours"}, // the id before the slug
		{"resource", "Unheard of", "can_edit", "medium", "change {name}"},
		{"dag", "payroll", "can_delete", "high", "delete {which}, with the history of its runs"},
	} {
		w, ok := packs.Words("airflow", c.kind, c.id, c.slug)
		if !ok || w.Risk != c.risk || w.Says != c.says {
			t.Errorf("%s %s %s: %+v, want %s: %s", c.kind, c.id, c.slug, w, c.risk, c.says)
		}
	}
	for _, c := range [][4]string{{"wiki", "resource", "Users", "can_edit"}, {"airflow", "user", "ann", "x"}, {"airflow", "resource", "Users", "fly"}} {
		if w, ok := packs.Words(c[0], c[1], c[2], c[3]); ok {
			t.Errorf("%v: %+v, want none", c, w)
		}
	}
	if packs.Totals("airflow", "instance", map[string]any{"users_total": 3.0})["user"] != 3 {
		t.Error("the operator's pack took the totals of the program's")
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
	for name, text := range map[string]string{"broken.json": `{`, "nameless.json": `{}`, "riskless.json": `{"connector":"x","words":[{"type":"t","says":"do"}]}`, "wordless.json": `{"connector":"x","words":[{"type":"t","risk":"low"}]}`, "huge.json": `{"connector":"` + strings.Repeat("x", mostBytes) + `"}`} {
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
