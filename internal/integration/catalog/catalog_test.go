package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
)

// folder is a connectors folder whose programs are shell scripts.
type folder struct {
	*testing.T
	dir string
}

func newFolder(t *testing.T) folder {
	t.Helper()
	return folder{t, t.TempDir()}
}

func (f folder) write(name, content string, mode os.FileMode) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		f.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		f.Fatal(err)
	}
	return path
}

func (f folder) program(name, script string) string {
	f.Helper()
	return f.write(name, "#!/bin/sh\n"+script, 0o700)
}

// open opens the folder. A text file that was written for a moment by a process
// that forks can't be run (ETXTBSY), so the scripts lie there first.
func (f folder) open(o Options) *Catalog {
	o.TempDir = f.TempDir()
	return Open(f.dir, o)
}

const goodScript = `case "$1" in
config) echo '{"displayName":"Good Thing","helpUrl":"https://help.example","isDirectory":true,"futureField":1,
  "fields":[{"name":"log-level","isOps":true,"stringField":{}},{"name":"url","isRequired":true,"stringField":{}}]}' ;;
--version) echo "baton-good version v1.2.3" ;;
capabilities) echo '{"@type":"type.googleapis.com/c1.connector.v2.ConnectorCapabilities","connectorCapabilities":["CAPABILITY_SYNC"]}' ;;
esac
`

func TestListTellsWhatLiesInTheFolder(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.program("baton-good", goodScript)
	f.write("baton-good.svg", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`, 0o600)
	f.program("baton-shy", `case "$1" in config) echo '{"displayName":"Shy"}';; --version) echo baton-shy version dev;; *) echo 'required flag(s) "url" not set' >&2; exit 2;; esac`)
	f.program("baton-old", `echo "unknown command $1" >&2; exit 1`)
	f.program("baton-noise", `echo "<html>"`)
	f.program("baton-flood", `while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done`)
	f.write("baton-text", "no program", 0o600)
	f.write("baton-good.sig", "signature", 0o600)
	f.write("readme", "", 0o700)
	f.program("baton-odd name", "")
	f.write("baton-elf", "\x7fELF, but for another machine", 0o700)
	elsewhere := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(elsewhere, []byte("#!/bin/sh\n"+goodScript), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"baton-out": elsewhere, "baton-alias": "baton-good", "baton-dangling": "nothing"} {
		if err := os.Symlink(target, filepath.Join(f.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(f.dir, "baton-folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	icons := t.TempDir()
	if err := os.WriteFile(filepath.Join(icons, "shy.png"), []byte("\x89PNG\r\n\x1a\n…"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := f.open(Options{Icons: icons}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range list {
		got[e.Name] = fmt.Sprintf("%s|%s|%s|%s %s", e.DisplayName, e.Version, e.Problem, e.Icon.Initials, e.Icon.MediaType)
	}
	want := map[string]string{
		"good":     "Good Thing|v1.2.3||GT image/svg+xml",
		"alias":    "Good Thing|v1.2.3||GT ",
		"shy":      "Shy|dev||S image/png",
		"old":      "old||it doesn't tell its settings (`baton-old config`): exit status 1: unknown command config; …|O ",
		"noise":    "noise||it doesn't tell its settings (`baton-noise config`): what it says isn't the form of a connector: …|N ",
		"flood":    "flood||it doesn't tell its settings (`baton-flood config`): it wrote more than 4 MB; …|F ",
		"text":     "text||the file can't be run; `chmod +x " + f.dir + "/baton-text` allows it|T ",
		"odd name": `odd name||the name "baton-odd name" has characters other than …|ON `,
		"elf":      "elf||it doesn't tell its settings (`baton-elf config`): fork/exec " + f.dir + "/baton-elf: exec format error; …|E ",
		"out":      "out||it is a link to " + elsewhere + ", outside of the connectors folder; copy …|O ",
		"dangling": "dangling||stat " + f.dir + "/baton-dangling: no such file or directory| ",
	}
	for name, words := range want {
		if !matches(words, got[name]) {
			t.Errorf("%s\n got %s\nwant %s", name, got[name], words)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Error("also listed:", got)
	}
	good := list[slices.IndexFunc(list, func(e Entry) bool { return e.Name == "good" })]
	if good.HelpURL != "https://help.example" || !good.Directory || len(good.Fields) != 1 || good.Fields[0].Name != "url" {
		t.Errorf("%+v", good)
	}
	if good.Capabilities == nil || len(good.Capabilities.GetConnectorCapabilities()) != 1 {
		t.Error("its capabilities aren't known")
	}
}

// matches compares a text with one in which … stands for anything.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(text, parts[0]) || !strings.HasSuffix(text, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

func TestAFolderThatIsNotThereIsEmpty(t *testing.T) {
	t.Parallel()
	c := Open(filepath.Join(t.TempDir(), "connectors"), Options{})
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	for _, name := range []string{"airlock", "../../bin/sh", "", ".", "a/b", "-x"} {
		if _, err := c.Entry(t.Context(), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A program sees nothing of the server: not its environment, not its folder.
func TestProgramsAreAskedInAnEmptyRoom(t *testing.T) {
	t.Setenv("AIRLOCK_KEY", "very secret")
	t.Setenv("BATON_CLIENT_SECRET", "very secret")
	f := newFolder(t)
	f.program("baton-spy", `[ "$1" = config ] && echo "{\"helpUrl\":\"$(pwd) $(/bin/ls -A)\",\"fields\":[{\"name\":\"x\",\"description\":\"$(/usr/bin/env | /usr/bin/sort | /usr/bin/tr '\n' ' ')\"}]}"`)
	temp := t.TempDir()
	e, err := Open(f.dir, Options{TempDir: temp}).Entry(t.Context(), "spy")
	if err != nil || e.Problem != "" {
		t.Fatal(err, e.Problem)
	}
	room := strings.TrimSpace(e.HelpURL) // no file is in it
	if !strings.HasPrefix(room, temp+"/") || strings.Contains(room, " ") {
		t.Errorf("it works in %q", room)
	}
	var names []string
	for pair := range strings.FieldsSeq(e.Fields[0].Description) {
		name, value, _ := strings.Cut(pair, "=")
		names = append(names, name)
		if strings.Contains(name, "TMPDIR") && value != room {
			t.Error(pair)
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "PWD" || n == "_" || n == "SHLVL" || n == "OLDPWD" }) // the shell's own
	if diff := cmp.Diff([]string{"BATON_LOG_LEVEL", "BATON_TMPDIR", "HOME", "TMPDIR"}, names); diff != "" {
		t.Error(diff)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Error("it left behind", left, err)
	}
}

func TestManyWhoAskShareOneAnswer(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	count := filepath.Join(t.TempDir(), "count")
	script := "echo $1 >> " + count + "\n" + goodScript
	path := f.program("baton-good", script)
	c := f.open(Options{})
	asked := func() int {
		text, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "config")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if e, err := c.Entry(t.Context(), "good"); err != nil || e.Version != "v1.2.3" {
				t.Error(e, err)
			}
		})
	}
	all.Wait()
	if n := asked(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Entry(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if n := asked(); n != 2 {
		t.Errorf("the file changed, and it was asked %d times in all", n)
	}
}

// One who goes away doesn't spoil the answer for the others; a program that
// hangs is ended with all that it started.
func TestAProgramThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	pids := filepath.Join(t.TempDir(), "pids")
	f.program("baton-hang", "/bin/sleep 1000 & echo $! $$ > "+pids+"; wait")
	began := time.Now()
	e, err := f.open(Options{TimeLimit: 300 * time.Millisecond}).Entry(t.Context(), "hang")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(e.Problem, "it didn't end within 300ms") || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %q", time.Since(began), e.Problem)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(text)) {
		for deadline := time.Now().Add(5 * time.Second); alive(pid); {
			if time.Now().After(deadline) {
				t.Fatalf("process %s still runs", pid)
			}
		}
	}
	if err := e.Check(nil); !fault.Is(err, fault.NotReady) {
		t.Error(err)
	}
}

// alive reports whether a process runs; one that waits for its parent doesn't.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	after := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return after[0] != "Z" && after[0] != "X"
}

func TestIconsMustBeWhatTheySeem(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.program("baton-good", goodScript)
	f.write("baton-good.svg", "<html>no picture</html>", 0o600)
	f.write("baton-good.png", strings.Repeat("x", maxIcon+1), 0o600)
	e, err := f.open(Options{}).Entry(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Icon{Initials: "GT"}, e.Icon); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"": "?", "·": "?", "apache airlock": "AA", "élan": "É", "x-y-z": "XY"} {
		if got := initials(name); got != want {
			t.Errorf("%q: %q, not %q", name, got, want)
		}
	}
}
