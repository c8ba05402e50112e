package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the fenced blocks of a document in one language, without the
// indentation they have in common with their fence.
func blocks(text, language string) []string {
	var found []string
	fence := regexp.MustCompile("(?ms)^( *)```" + language + "(?: [a-z]+)?\n(.*?)^ *```$")
	for _, match := range fence.FindAllStringSubmatch(text, -1) {
		indented := regexp.MustCompile("(?m)^" + match[1])
		found = append(found, indented.ReplaceAllString(match[2], ""))
	}
	return found
}

// Who copies the manifests out of the published page gets those of deploy/.
func TestConnectorPageShowsTheManifests(t *testing.T) {
	var shown []runtime.Object
	for _, block := range blocks(document(t, "connector.mdx"), "yaml") {
		objects, err := decode([]byte(block))
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, objects...)
	}
	want := slices.Concat(manifest(t, "secret.yaml"), manifest(t, "deployment.yaml"))
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Error("manifests of deploy/kubernetes (-) and those in docs/connector.mdx (+):\n", diff)
	}
}

// The recipe stands three times in docs/least-privilege.md. It is the role with
// which the connector's tests work, and so it is enough.
func TestLeastPrivilegeRecipe(t *testing.T) {
	text := document(t, "least-privilege.md")

	var byCommand []string
	command := regexp.MustCompile(`(?m)^airflow roles add-perms airlock-connector -a (.+) -r (.+)$`)
	for _, match := range command.FindAllStringSubmatch(text, -1) {
		for _, resource := range regexp.MustCompile(`"[^"]+"|\S+`).FindAllString(match[2], -1) {
			for action := range strings.FieldsSeq(match[1]) {
				byCommand = append(byCommand, action+" on "+strings.Trim(resource, `"`))
			}
		}
	}

	var byPage []string
	for _, match := range regexp.MustCompile(`(?m)\bcan (read|create|edit|delete) on ([A-Z][A-Za-z ]+)`).FindAllStringSubmatch(text, -1) {
		byPage = append(byPage, "can_"+match[1]+" on "+match[2])
	}

	type named struct{ Name string }
	var role struct {
		Name    string
		Actions []struct{ Action, Resource named }
	}
	if err := json.Unmarshal([]byte(blocks(text, "json")[0]), &role); err != nil {
		t.Fatal(err)
	}
	var byAPI []string
	for _, permission := range role.Actions {
		byAPI = append(byAPI, permission.Action.Name+" on "+permission.Resource.Name)
	}

	slices.Sort(byCommand)
	slices.Sort(byPage)
	slices.Sort(byAPI)
	if diff := cmp.Diff(byCommand, byPage); diff != "" {
		t.Error("by command line (-) and by user interface (+):\n", diff)
	}
	if diff := cmp.Diff(byCommand, byAPI); diff != "" {
		t.Error("by command line (-) and by API (+):\n", diff)
	}

	var company struct {
		Roles []struct {
			Name        string
			Permissions [][2]string
		}
	}
	file, err := os.ReadFile("../../airflow/airflowtest/company.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &company); err != nil {
		t.Fatal(err)
	}
	var tested []string
	for _, r := range company.Roles {
		if r.Name == role.Name {
			for _, permission := range r.Permissions {
				tested = append(tested, permission[0]+" on "+permission[1])
			}
		}
	}
	slices.Sort(tested)
	// Airflow adds the one by itself; nothing but a number depends on the other.
	tested = slices.DeleteFunc(tested, func(p string) bool { return p == "can_read on Website" })
	recipe := slices.DeleteFunc(byAPI, func(p string) bool { return p == "can_read on Providers" })
	if diff := cmp.Diff(recipe, tested); diff != "" {
		t.Error("the recipe (-) is not the role that the tests prove sufficient (+):\n", diff)
	}
	for _, kind := range capabilities(t) {
		for _, permission := range kind.Permissions.Permissions {
			if !slices.Contains(recipe, permission.Permission) {
				t.Errorf("resource type %s needs %s, which the recipe leaves out", kind.ResourceType.ID, permission.Permission)
			}
		}
	}
}

// capability is a resource type and what the connector can do with it.
type capability struct {
	ResourceType struct{ ID string }
	Capabilities []string
	Permissions  struct{ Permissions []struct{ Permission string } }
}

func capabilities(t *testing.T) []capability {
	t.Helper()
	var told struct{ ResourceTypeCapabilities []capability }
	if err := json.Unmarshal([]byte(image(t).capabilities), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.ResourceTypeCapabilities) == 0 {
		t.Fatal("the connector tells no capabilities")
	}
	return told.ResourceTypeCapabilities
}

func TestConnectorPageTellsTheCapabilities(t *testing.T) {
	words := []struct{ word, user, other string }{
		{"Grant", "", "CAPABILITY_PROVISION"},
		{"Revoke", "", "CAPABILITY_PROVISION"},
		{"Create", "CAPABILITY_ACCOUNT_PROVISIONING", "CAPABILITY_RESOURCE_CREATE"},
		{"Delete", "CAPABILITY_RESOURCE_DELETE", "CAPABILITY_RESOURCE_DELETE"},
		{"Rotate password", "CAPABILITY_CREDENTIAL_ROTATION", ""},
	}
	want := map[string]string{}
	for _, kind := range capabilities(t) {
		var can []string
		for _, w := range words {
			needs := w.other
			if kind.ResourceType.ID == "user" {
				needs = w.user
			}
			if slices.Contains(kind.Capabilities, needs) {
				can = append(can, w.word)
			}
		}
		want[kind.ResourceType.ID] = strings.Join(can, ", ")
	}
	shown := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| [^|]*\\(`([a-z]+)`\\)[^|]*\\| <Icon [^>]*/> \\| (?:<Icon [^>]*/> )?([^|]*?) ?\\|$")
	for _, match := range row.FindAllStringSubmatch(document(t, "connector.mdx"), -1) {
		shown[match[1]] = match[2]
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Error("what the connector can do (-) and what its page says (+):\n", diff)
	}
}

// Messages in docs/troubleshooting.md that come from elsewhere.
var foreign = []string{
	"certificate signed by unknown authority", "startup Hello failed: context deadline exceeded", "startup Hello failed",
	"Unauthenticated", "Invalid JWT token", "status 500", "cannot unmarshal bool", "read-only file system",
	"pebble: not found", "runner: error", "c1z-pebble…",
}

// A message that was reworded is looked up in vain.
func TestTroubleshootingQuotesTheConnector(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"../../airflow/*.go", "../../connector/*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(source)
		}
	}
	quotes := 0
	for line := range strings.Lines(document(t, "troubleshooting.md")) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		symptom, _, _ := strings.Cut(line[2:], " | ")
		for _, quote := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(symptom, -1) {
			if slices.Contains(foreign, quote[1]) || strings.HasPrefix(quote[1], "--") {
				continue
			}
			quotes++
			for part := range strings.SplitSeq(quote[1], "…") {
				if !strings.Contains(sources.String(), strings.TrimSpace(part)) {
					t.Errorf("no message says %q", quote[1])
					break
				}
			}
		}
	}
	if quotes == 0 {
		t.Error("no message of the connector is quoted")
	}
}

// Every setting that a document names exists.
func TestDocumentedSettings(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md*")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text := document(t, filepath.Base(page))
		for _, name := range regexp.MustCompile(`\bBATON_[A-Z_]+\b`).FindAllString(text, -1) {
			if name != "BATON_HOST_ID" { // read, but told of nowhere
				checkVariable(t, name)
			}
		}
		if filepath.Base(page) == "commands.md" { // there --set is airlock's own
			continue
		}
		for _, value := range regexp.MustCompile(`--set ([\w.]+)=`).FindAllStringSubmatch(text, -1) {
			if !hasValue(loadChart(t).Values, strings.Split(value[1], ".")) {
				t.Errorf("%s sets %s, which the chart doesn't have", page, value[1])
			}
		}
	}
}

func hasValue(values any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	table, ok := values.(map[string]any)
	if !ok {
		return false
	}
	next, ok := table[path[0]]
	return ok && hasValue(next, path[1:])
}
