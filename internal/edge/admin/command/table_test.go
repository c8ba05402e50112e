package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestWhatSteersATerminalIsTakenOut(t *testing.T) {
	var out strings.Builder
	if _, err := (readable{&out}).Write([]byte("a\x1b[2Jb\u202ec\rd\n\te\u009b")); err != nil || out.String() != "a\uFFFD[2Jb\uFFFDc\uFFFDd\n\te\uFFFD" {
		t.Errorf("%q, %v", out.String(), err)
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
