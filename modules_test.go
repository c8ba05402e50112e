package airlock

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// SQLite's translation works only with the very libc that it was made with; its
// changelog says so, and a newer one corrupts silently.
func TestLibcIsTheOneThatSQLiteNames(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.GoMod}}", "modernc.org/sqlite").Output()
	if err != nil {
		t.Fatal(err)
	}
	libc := regexp.MustCompile(`modernc\.org/libc (v\S+)`)
	var versions []string
	for _, name := range []string{"go.mod", strings.TrimSpace(string(out))} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		match := libc.FindStringSubmatch(string(text))
		if match == nil {
			t.Fatalf("%s has no modernc.org/libc", name)
		}
		versions = append(versions, match[1])
	}
	if versions[0] != versions[1] {
		t.Errorf("go.mod has modernc.org/libc %s, and SQLite wants %s", versions[0], versions[1])
	}
}
