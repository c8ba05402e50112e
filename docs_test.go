package airlock

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/field"
	"github.com/google/go-cmp/cmp"
)

// page is a document, taken apart.
type page struct {
	name    string
	text    string
	outside string // the text without blocks of code, on the same lines
	prose   string // and without code in the lines
	spans   []string
	blocks  []block
}

// block is a fenced block of code.
type block struct {
	lang string
	line int // of its first line, from 1
	text string
}

var span = regexp.MustCompile("(?s)``[^`](.*?)``|`([^`]+)`")

func parse(name, text string) page {
	p := page{name: name, text: text}
	var outside strings.Builder
	var open *block
	for n, line := range strings.Split(text, "\n") {
		lang, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case open == nil && fence:
			open = &block{lang: lang, line: n + 2}
		case open != nil && fence && lang == "":
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimSpace(line) + "\n"
		default:
			outside.WriteString(line)
		}
		outside.WriteString("\n")
	}
	p.outside = outside.String()
	p.prose = span.ReplaceAllStringFunc(p.outside, func(code string) string {
		p.spans = append(p.spans, strings.Trim(code, "` "))
		return "`" + strings.Repeat("\n", strings.Count(code, "\n")) + "`"
	})
	return p
}

// read reads a document that must be there.
func read(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%s is missing: %v", name, err)
	}
	return parse(name, string(text))
}

// pages are all documents of the repository.
func pages(t *testing.T) []page {
	t.Helper()
	var list []page
	for _, name := range files(t) {
		if ext := path.Ext(name); ext == ".md" || ext == ".mdx" {
			list = append(list, read(t, name))
		}
	}
	return list
}

// files are the files of the repository that .gitignore doesn't name.
func files(t *testing.T) []string {
	t.Helper()
	ignore, err := os.ReadFile(".gitignore")
	if err != nil {
		t.Fatal(err)
	}
	patterns := append(strings.Fields(string(ignore)), "/.git")
	var list []string
	err = fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(patterns, func(pattern string) bool { return ignores(pattern, name) }):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.Type().IsRegular():
			list = append(list, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ignores reads a line of .gitignore, in the two forms used here: the path of
// a file or folder, and a file name with a star.
func ignores(pattern, name string) bool {
	if rooted, ok := strings.CutPrefix(pattern, "/"); ok {
		return strings.TrimSuffix(rooted, "/") == name
	}
	match, _ := path.Match(pattern, path.Base(name))
	return match
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	scheme  = regexp.MustCompile(`^[a-z]+:`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, p := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(p.prose, -1) {
			// A link from the root is one of the site on which connector.mdx is published.
			if scheme.MatchString(match[1]) || strings.HasPrefix(match[1], "/") {
				continue
			}
			file, anchor, _ := strings.Cut(match[1], "#")
			target := p
			if file != "" {
				name := path.Join(path.Dir(p.name), file)
				text, err := os.ReadFile(name)
				if err != nil {
					if _, err := os.Stat(name); err != nil {
						t.Errorf("%s links to %s, which isn't there", p.name, match[1])
					}
					continue
				}
				target = parse(name, string(text))
			}
			if anchor != "" && !slices.Contains(anchors(target), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", p.name, match[1], target.name)
			}
		}
	}
}

// anchors are what the headings of a page are linked by.
func anchors(p page) []string {
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	var list []string
	for _, match := range heading.FindAllStringSubmatch(p.outside, -1) {
		name := dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(match[1])), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}

func TestPathsInTheTextExist(t *testing.T) {
	for _, p := range pages(t) {
		for _, code := range p.spans {
			if !strings.ContainsAny(code, " \n*<=") && inRepository(code) && !exists(code) {
				t.Errorf("%s names `%s`, which isn't there", p.name, code)
			}
		}
	}
}

func TestMakeTargetsExist(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`).FindAllStringSubmatch(string(makefile), -1) {
		targets[match[1]] = true
	}
	read(t, "README.md")
	named := regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
	for _, p := range pages(t) {
		code := slices.Clone(p.spans)
		for _, b := range p.blocks {
			if b.lang == "sh" {
				code = append(code, b.text)
			}
		}
		for _, match := range named.FindAllStringSubmatch(strings.Join(code, "\n"), -1) {
			if !targets[match[1]] {
				t.Errorf("%s names `make %s`, which the Makefile doesn't have", p.name, match[1])
			}
		}
	}
}

// Commands that a reader can be expected to have.
var commands = []string{"cd", "curl", "git", "go", "helm", "kubectl", "make", "sudo", "systemctl"}

func TestShellBlocksUseWhatExists(t *testing.T) {
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, b := range read(t, name).blocks {
			if b.lang != "sh" {
				continue
			}
			for _, problem := range shellProblems(b.text) {
				t.Errorf("%s, block at line %d: %s", name, b.line, problem)
			}
		}
	}
}

// shellProblems names the commands and paths of a block that don't exist.
func shellProblems(text string) []string {
	var problems []string
	text = strings.ReplaceAll(text, "\\\n", " ")
	assignment := regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, " #")
		words := strings.Fields(line)
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") || words[0] == "export" {
			continue
		}
		if !slices.Contains(commands, words[0]) && words[0] != "baton-airflow" && !exists(words[0]) {
			problems = append(problems, fmt.Sprintf("there is no command %s", words[0]))
		}
		for _, word := range words[1:] {
			if inRepository(word) && !exists(word) {
				problems = append(problems, fmt.Sprintf("there is no file %s", word))
			}
		}
	}
	return problems
}

// inRepository reports whether a word of a document is meant as a path here.
func inRepository(word string) bool {
	first, _, nested := strings.Cut(word, "/")
	return nested && first != "" && exists(first)
}

// exists reports whether a path, or the folder of one that ends in "...", is
// in the repository or is made by `make build`.
func exists(name string) bool {
	name = path.Clean(strings.TrimSuffix(name, "..."))
	_, err := os.Stat(name)
	return err == nil || name == "bin/airlock" || name == "bin/connectors/baton-airflow"
}

func TestShellProblemsAreFound(t *testing.T) {
	got := shellProblems("make demo # nothing to see\nAIRFLOW_TESTS=off make test\ngo test ./airflow/...\n" +
		"frobnicate now\ngo run ./nowhere\n./nothing \\\n  --flag docs/nothing.md github.com/a/b\n")
	want := []string{
		"there is no command frobnicate", "there is no file ./nowhere",
		"there is no command ./nothing", "there is no file docs/nothing.md",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("problems (-want +got):\n" + diff)
	}
}

// The settings of the SDK that no flag sets, or that it doesn't list.
var otherSettings = []string{"BATON_HOST_ID", "--help", "--version"}

func TestSettingsAreDocumented(t *testing.T) {
	schema, err := os.ReadFile("config_schema.json")
	if err != nil {
		t.Fatalf("config_schema.json is missing: run `make generate`: %v", err)
	}
	var config struct {
		Fields []struct{ Name string }
	}
	if err := json.Unmarshal(schema, &config); err != nil {
		t.Fatalf("config_schema.json: %v", err)
	}
	known := slices.Clone(otherSettings)
	for _, f := range field.DefaultFields {
		known = append(known, "--"+f.FieldName, environment(f.FieldName))
	}
	var own []string
	for _, f := range config.Fields {
		if !slices.Contains(known, "--"+f.Name) {
			own = append(own, f.Name)
		}
	}
	if len(own) == 0 {
		t.Fatal("config_schema.json has no settings but the SDK's")
	}
	for _, name := range own {
		known = append(known, "--"+name, environment(name))
	}

	readme, connector := read(t, "README.md"), read(t, "docs/connector.mdx")
	for _, p := range []page{readme, connector} {
		for _, setting := range settings(p) {
			if !slices.Contains(known, setting) {
				t.Errorf("%s names %s, which baton-airflow doesn't have", p.name, setting)
			}
		}
		for _, name := range own {
			if !slices.Contains(settings(p), environment(name)) {
				t.Errorf("%s doesn't name %s", p.name, environment(name))
			}
		}
	}
	for _, name := range own {
		if !slices.Contains(settings(readme), "--"+name) {
			t.Errorf("README.md doesn't name --%s", name)
		}
	}
}

// environment is the variable that sets a flag.
func environment(flag string) string {
	return "BATON_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

var (
	variable = regexp.MustCompile(`\bBATON_[A-Z0-9_]+\b`)
	flag     = regexp.MustCompile(`(?:^|\s)(--[a-z][a-z0-9-]*)`)
)

// settings are the variables that a page names, and the flags that it names
// alone or in a call of baton-airflow.
func settings(p page) []string {
	list := variable.FindAllString(p.text, -1)
	code := slices.DeleteFunc(slices.Clone(p.spans), func(code string) bool {
		return !strings.HasPrefix(code, "--") && !strings.Contains(code, "baton-airflow ")
	})
	for _, b := range p.blocks {
		for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
			if strings.Contains(line, "baton-airflow --") {
				code = append(code, line)
			}
		}
	}
	for _, match := range flag.FindAllStringSubmatch(strings.Join(code, "\n"), -1) {
		list = append(list, match[1])
	}
	return list
}

func TestOwnVariablesAreUsed(t *testing.T) {
	own := regexp.MustCompile(`\bAIRLOCK_[A-Z0-9_]+\b|\bAIRFLOW_[A-Z0-9]+(?:_[A-Z0-9]+)*\b`)
	var code strings.Builder
	for _, name := range files(t) {
		if ext := path.Ext(name); ext != ".md" && ext != ".mdx" && name != "docs_test.go" {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	used := own.FindAllString(code.String(), -1)
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, variable := range own.FindAllString(read(t, name).text, -1) {
			if !slices.Contains(used, variable) {
				t.Errorf("%s names %s, which nothing reads", name, variable)
			}
		}
	}
}

func TestServerSettingsAreDocumented(t *testing.T) {
	code, err := os.ReadFile("internal/server/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`\bAIRLOCK_[A-Z0-9_]+\b`)
	known := own.FindAllString(string(code), -1)
	if len(known) == 0 {
		t.Fatal("internal/server/settings.go reads no variable")
	}
	operating := read(t, "docs/operating.md")
	var listed []string // in the first column of the table
	for _, row := range regexp.MustCompile("(?m)^\\| *`AIRLOCK_[^|]*").FindAllString(operating.text, -1) {
		listed = append(listed, own.FindAllString(row, -1)...)
	}
	for _, variable := range known {
		if !slices.Contains(listed, variable) {
			t.Errorf("the table of docs/operating.md doesn't name %s", variable)
		}
	}
	for _, name := range []string{"docs/operating.md", "docs/commands.md"} {
		for _, variable := range own.FindAllString(read(t, name).text, -1) {
			if !slices.Contains(known, variable) {
				t.Errorf("%s names %s, which `airlock serve` doesn't read", name, variable)
			}
		}
	}
}

func TestEveryReleaseIsInTheCompatibilityTable(t *testing.T) {
	releases, err := os.ReadFile("airflow/airflowtest/releases.tsv")
	if err != nil {
		t.Fatal(err)
	}
	table := read(t, "docs/compatibility.md")
	n := 0
	for line := range strings.Lines(string(releases)) {
		columns := strings.Fields(line)
		if len(columns) == 0 || strings.HasPrefix(columns[0], "#") {
			continue
		}
		n++
		row := regexp.MustCompile(`(?m)^\|.*\b` + regexp.QuoteMeta(columns[0]) + `\b.*\b` + regexp.QuoteMeta(columns[1]) + `\b.*\|`)
		if !row.MatchString(table.text) {
			t.Errorf("docs/compatibility.md has no row of Airflow %s with FAB %s: run `make compat`", columns[0], columns[1])
		}
	}
	if n == 0 {
		t.Error("releases.tsv is empty")
	}
}

func TestConnectorPageIsPublishable(t *testing.T) {
	for _, problem := range mdxProblems(read(t, "docs/connector.mdx")) {
		t.Error(problem)
	}
}

// The components that the site on which docs/connector.mdx is published knows.
var components = []string{"Tip", "Warning", "Note", "Info", "Icon", "Frame", "Card", "Check", "Tabs", "Tab", "Steps", "Step"}

var (
	module   = regexp.MustCompile(`(?m)^(?:import|export)\b`)
	brace    = regexp.MustCompile(`(?:^|[^\\])[{}]`)
	tag      = regexp.MustCompile(`^<(/?)([A-Za-z][\w.:-]*)((?:\s+[\w:-]+(?:=(?:"[^"]*"|'[^']*'))?)*)\s*(/?)>`)
	handler  = regexp.MustCompile(`(?i)\son[a-z]+=`)
	unsafe   = regexp.MustCompile(`(?i)\b(?:javascript|vbscript|data):`)
	metadata = regexp.MustCompile(`(?s)\A---\n.*?\n---\n`)
)

// mdxProblems says what the checks of the publishing site would refuse.
func mdxProblems(p page) []string {
	var problems []string
	add := func(at int, format string, args ...any) {
		line := 1 + strings.Count(p.prose[:at], "\n")
		problems = append(problems, fmt.Sprintf("%s:%d: %s", p.name, line, fmt.Sprintf(format, args...)))
	}
	if strings.TrimSpace(p.text) == "" {
		add(0, "the page is empty")
	}
	if strings.ContainsAny(p.text, "\x00\ufeff") {
		add(0, "NUL or byte order mark in the page")
	}
	body := p.prose
	if head := metadata.FindString(body); head != "" {
		// Blanked, so that the positions after it stay.
		body = regexp.MustCompile(`[^\n]`).ReplaceAllString(head, " ") + body[len(head):]
	}
	for _, at := range module.FindAllStringIndex(body, -1) {
		add(at[0], "a line must not begin with import or export")
	}
	for _, at := range brace.FindAllStringIndex(body, -1) {
		add(at[1]-1, "a brace outside code is an expression")
	}
	for _, at := range unsafe.FindAllStringIndex(body, -1) {
		add(at[0], "URL of a kind that is refused")
	}

	var open []string
	for at := range body {
		if body[at] != '<' || at > 0 && body[at-1] == '\\' {
			continue
		}
		match := tag.FindStringSubmatch(body[at:])
		if match == nil {
			add(at, "a < outside code must begin a component; an address is written as [text](address)")
			continue
		}
		closing, name, attributes, closed := match[1] != "", match[2], match[3], match[4] != ""
		switch {
		case !slices.Contains(components, name):
			add(at, "%s is none of the components known", name)
		case handler.MatchString(attributes):
			add(at, "%s has an event handler", name)
		case closing && (len(open) == 0 || open[len(open)-1] != name):
			add(at, "%s is closed but not open here", name)
		case closing:
			open = open[:len(open)-1]
		case !closed:
			open = append(open, name)
		}
	}
	for _, name := range open {
		add(len(p.prose), "%s is never closed", name)
	}
	return problems
}

func TestMDXProblemsAreFound(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"---\ntitle: {a}\n---\n\n<Steps><Step>one `{x} <br>`</Step></Steps>\n\n```yaml\na: {b}\n```\n\\{ and \\<", ""},
		{"<Icon icon=\"square\" iconType='solid' /> 1 > 0\n<Warning>\n**no**\n</Warning>", ""},
		{" \n", "x.mdx:1: the page is empty"},
		{"\ufeffa", "x.mdx:1: NUL or byte order mark in the page"},
		{"a\nimport x from 'y'", "x.mdx:2: a line must not begin with import or export"},
		{"a\n\n{/* AUTO */}", "x.mdx:3: a brace outside code is an expression"},
		{"a<br>", "x.mdx:1: br is none of the components known"},
		{"<CardGroup />", "x.mdx:1: CardGroup is none of the components known"},
		{"<Tip onClick=\"x\" />", "x.mdx:1: Tip has an event handler"},
		{"[a](javascript:alert)", "x.mdx:1: URL of a kind that is refused"},
		{"Airflow <3", "x.mdx:1: a < outside code must begin a component; an address is written as [text](address)"},
		{"<!-- a -->", "x.mdx:1: a < outside code must begin a component; an address is written as [text](address)"},
		{"<Note>\n</Tip>", "x.mdx:2: Tip is closed but not open here"},
		{"<Note>\n", "x.mdx:3: Note is never closed"},
	} {
		got := mdxProblems(parse("x.mdx", test.text))
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) == 0 || got[0] != test.want) {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}

// What must not be in any file: paths of one machine, and hosts of package
// registries, which everybody sets for themselves. Put together from pieces,
// so that this file has none of them.
var foreign = regexp.MustCompile(strings.Join([]string{
	`(?:^|[\s"'=(:,` + "`" + `])/(?:` + "ro" + `ot|` + "ho" + `me|` + "wo" + `rk)/\w`,
	`(?:proxy|sum)\.` + `golang\.org`,
	"py" + `pi\.org`, `python` + `hosted\.org`,
	`registry\.` + `npmjs\.org`, `cra` + `tes\.io`, `maven\.` + `org`, `deb\.` + `debian\.org`,
}, "|"))

func TestNothingIsTiedToOneMachine(t *testing.T) {
	for _, name := range files(t) {
		if path.Base(name) == "go.sum" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if match := foreign.FindString(line); match != "" {
				t.Errorf("%s:%d: %s", name, n+1, strings.TrimSpace(match))
			}
		}
	}
}

func TestForeignIsFound(t *testing.T) {
	for _, text := range []string{"see /" + "home/eve", "\"/" + "root/x\"", "GOPROXY=https://proxy." + "golang.org,direct", "/" + "work/main"} {
		if !foreign.MatchString(text) {
			t.Errorf("%q was not found", text)
		}
	}
	for _, text := range []string{"https://airflow.example.com/" + "home/", "github.com/a/" + "home/b", "strings.TrimSuffix(path, \"/home\")"} {
		if foreign.MatchString(text) {
			t.Errorf("%q was found", text)
		}
	}
}

func TestModulesAgree(t *testing.T) {
	root, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []*regexp.Regexp{
		regexp.MustCompile(`(?m)^go \S+`),
		regexp.MustCompile(`conductorone/baton-sdk v\S+`),
	} {
		version := want.FindString(string(root))
		if version == "" {
			t.Fatalf("go.mod has no %s", want)
		}
		for _, name := range files(t) {
			if path.Base(name) != "go.mod" {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if other := want.FindString(string(text)); other != "" && other != version {
				t.Errorf("%s has %q, go.mod has %q", name, other, version)
			}
		}
	}
}
