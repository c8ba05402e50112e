package command_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"airlock/internal/edge/admin/command"
	"airlock/internal/server"
)

// docs/commands.md is written from the commands themselves.
func TestCommandsDocument(t *testing.T) {
	nothing := func(string) string { return "" }
	got := document(command.New("", nothing, server.Commands("", nothing)...))
	path := filepath.Join("..", "..", "..", "..", "docs", "commands.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/commands.md is out of date (-): run `go test ./internal/edge/admin/command -run TestCommandsDocument -update`\n%s", diff)
	}
}

// document is the page of all commands.
func document(root *cobra.Command) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# Commands\n\n%s\n\nEach command takes these:\n\n%s", root.Long, block("text", root.PersistentFlags().FlagUsages()))
	fmt.Fprint(&out, "With `--json` the standard output holds one array or object and nothing else; what goes\n"+
		"wrong, and how far something is, goes to the standard error. `airlock completion --help`\n"+
		"says how a shell completes commands and names.\n\n")
	var each func(cmd *cobra.Command)
	each = func(cmd *cobra.Command) {
		for _, child := range cmd.Commands() {
			if child.Hidden { // our own calls of ourselves
				continue
			}
			if child.HasSubCommands() {
				each(child)
				continue
			}
			fmt.Fprintf(&out, "## %s\n\n%s.\n\n%s", child.CommandPath(), strings.ToUpper(child.Short[:1])+child.Short[1:], block("text", child.UseLine()))
			if child.Long != "" {
				fmt.Fprintf(&out, "%s\n\n", child.Long)
			}
			if flags := child.LocalNonPersistentFlags().FlagUsages(); flags != "" {
				fmt.Fprint(&out, block("text", flags))
			}
			if child.Example != "" {
				fmt.Fprint(&out, block("sh", strings.ReplaceAll("\n"+child.Example, "\n  ", "\n")))
			}
		}
	}
	each(root)
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func block(lang, text string) string {
	return "```" + lang + "\n" + strings.Trim(text, "\n") + "\n```\n\n"
}

// Every command that people type has words and an example.
func TestEveryCommandIsExplained(t *testing.T) {
	nothing := func(string) string { return "" }
	var each func(cmd *cobra.Command)
	each = func(cmd *cobra.Command) {
		if cmd.Short == "" || !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no words or no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len(line) > 110 {
				t.Errorf("%s: a long line: %s", cmd.CommandPath(), line)
			}
		}
		for _, child := range cmd.Commands() {
			if child.Hidden {
				continue
			}
			each(child)
		}
	}
	each(command.New("", nothing, server.Commands("", nothing)...))
}
