package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestATableFitsAScreen(t *testing.T) {
	table := newTable("ID  ~NAME  ~WHAT  WHEN")
	table.add(row("3MZrcPoMvjiMNQJTTfdJMcAnkgr", strings.Repeat("ä", 80), "short", "4m ago"))
	table.add(line{cells: []string{"2", "b\nc", strings.Repeat("w ", 60), "–"}, note: strings.Repeat("because ", 30)})
	var out strings.Builder
	table.print(&out)
	for text := range strings.Lines(out.String()) {
		if len([]rune(text)) > width+1 {
			t.Errorf("%d letters: %s", len([]rune(text)), text)
		}
	}
	if !strings.Contains(out.String(), "3MZrcPoMvjiMNQJTTfdJMcAnkgr") || strings.Count(out.String(), "because") != 30 {
		t.Error("an id or a part of the note is missing:\n" + out.String())
	}
}

func TestWhatSteersATerminalIsShown(t *testing.T) {
	const bad = "a\x1b[2Jb\u202ec\rd\n\te\u009bf\u200bg\u2028h\U000e0041"
	var out strings.Builder
	if _, err := (readable{&out}).Write([]byte(bad)); err != nil || out.String() != `a\x1b[2Jb\u202ec\x0dd`+"\n\t"+`e\x9bf\u200bg\u2028h\ue0041` {
		t.Errorf("%q, %v", out.String(), err)
	}
	table := newTable("~NAME  STATE")
	table.add(row(bad, "well\nforged  line"))
	out.Reset()
	table.print(&out)
	if strings.Count(out.String(), "\n") != 2 || strings.ContainsAny(out.String(), "\x1b\r\u202e\u009b\u200b\u2028") {
		t.Errorf("%q", out.String())
	}
	if plainText := "Zoë Øst, 山田\u3000太郎 – {x} \\"; visible(plainText) != plainText {
		t.Errorf("%q", visible(plainText))
	}
}

func TestCellsOfCSVRunNothing(t *testing.T) {
	for text, want := range map[string]string{
		`"=1+1"`: "'=1+1", `"+1"`: "'+1", `"-1"`: "'-1", `"@x"`: "'@x", `"\tx"`: "'\tx", `"\rx"`: "'\rx", `"\nx"`: "'\nx", `"＝1"`: "'＝1",
		`"a=b"`: "a=b", `-5`: "-5", `12345678901234567890`: "12345678901234567890", `true`: "true", `null`: "", `""`: "",
		`["=a","b"]`: "'=a; b", `[]`: "",
	} {
		got, err := flat(json.RawMessage(`{"x":` + text + `}`))
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestFilesBecomeSettings(t *testing.T) {
	for file, want := range map[string]string{
		"secret":            "secret",
		"secret\n":          "secret",
		"secret\r\n":        "secret",
		"":                  "",
		"\n":                "",
		"one\ntwo\n":        "one\ntwo\n",
		"\tkeeps its tab\t": "\tkeeps its tab\t",
		"\xff\x00":          "data:application/octet-stream;base64,/wA=",
		"a\x00b":            "data:application/octet-stream;base64,YQBi",
	} {
		if got := content([]byte(file)); got != want {
			t.Errorf("%q: %q", file, got)
		}
	}
}

func TestWhatWouldBeRemovedIsSaid(t *testing.T) {
	got := wouldRemove(json.RawMessage(`{"reasons":["it would remove 12 of 20 accounts (user)"],"gone":[
		{"kind":"accounts","type":"user","have":20,"gone":12,"alarm":true,"names":["a","b","c","d","e","f","g","h","i","j","k","l"]},
		{"kind":"grants","have":9,"gone":1,"names":["x of y"]}]}`))
	want := `it would remove 12 of 20 accounts (user)
  accounts (user), 12 of 20: a, b, c, d, e, f, g, h, i, j and 2 more
  grants, 1 of 9: x of y
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := wouldRemove(nil); got != "" {
		t.Errorf("%q", got)
	}
}

func TestChangesAreSaid(t *testing.T) {
	for text, want := range map[string]string{
		``:   "–",
		`{}`: "none",
		`{"accounts":{"added":2,"changed":0,"removed":1},"grants":{"added":0,"changed":3,"removed":0},"kept":4}`: "accounts +2 −1, grants ~3",
	} {
		if got := changes(json.RawMessage(text)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestFieldsOfLogLinesSaySomething(t *testing.T) {
	got := fields(json.RawMessage(`{"row":"","cause":"<nil>","error":null,"by":"airlock","n":3,"list":["a"],"bad":"a\n\u001b[2J"}`))
	if want := ` bad="a\n\x1b[2J" by="airlock" list=["a"] n=3`; got != want {
		t.Errorf("%s", got)
	}
	if got := fields(nil) + fields(json.RawMessage("{}")) + fields(json.RawMessage("null")); got != "" {
		t.Errorf("%q", got)
	}
}

func TestWhatIsWrittenIsForWhoseEyes(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o644: true} {
		if err := file.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		if _, open := readByOthers(file); open != want {
			t.Errorf("%s: %t", mode, open)
		}
	}
	if _, open := readByOthers(&strings.Builder{}); open {
		t.Error("what isn't a file is read by others")
	}
}

func TestAQuestionIsAnsweredByYes(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "\n": false, "": false, "no\n": false, "yesterday\n": false} {
		var asked strings.Builder
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(answer))
		got, err := (&shell{err: &asked}).ask(cmd, "Remove \x1b[2Jit?")
		if got != want || (err == nil) != want || !want && ExitCode(err) != ExitUsage {
			t.Errorf("%q: %t, %v", answer, got, err)
		}
		if asked.String() != `Remove \x1b[2Jit? [y/N] ` {
			t.Errorf("%q", &asked)
		}
	}
}
