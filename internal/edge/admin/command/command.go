// Package command is the command line that talks to a running server through
// its socket: it turns arguments into requests, and answers into tables, JSON
// and exit codes.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"airlock/internal/base/fault"
	"airlock/internal/edge/admin"
)

// Exit codes that scripts can rely on.
const (
	ExitError       = 1   // something else went wrong
	ExitUsage       = 2   // wrong usage, or it can't be done as things are
	ExitFailed      = 3   // a sync or a change of access failed, or an audit log isn't sound
	ExitHeld        = 4   // a sync is held back until it is confirmed
	ExitTimeout     = 5   // it wasn't over in time, and goes on
	ExitNoServer    = 6   // no server runs: nothing was asked of one
	ExitStopped     = 7   // the server stopped before it had answered
	ExitInterrupted = 130 // by a signal, as shells have it
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return e.err.Error() }

func (e exit) Unwrap() error { return e.err }

// Usage is an error in what was typed, with the exit code of those.
func Usage(format string, args ...any) error { return exit{ExitUsage, fmt.Errorf(format, args...)} }

// ExitCode is the code with which the process ends after an error.
func ExitCode(err error) int {
	var own exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, admin.ErrNoServer):
		return ExitNoServer
	case errors.Is(err, admin.ErrEnded):
		return ExitStopped
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.NotReady, fault.Forbidden, fault.TooLarge:
		return ExitUsage
	case fault.Timeout:
		return ExitTimeout
	case fault.Unavailable:
		return ExitStopped
	default:
		return ExitError
	}
}

// Run runs the command line, tells of an error, and returns the exit code.
func Run(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	words := err.Error()
	if errors.Is(err, context.Canceled) && !errors.As(err, new(exit)) {
		words = "interrupted"
	}
	fmt.Fprintln(root.ErrOrStderr(), "airlock:", plain(words))
	return ExitCode(err)
}

// shell is what all commands share.
type shell struct {
	getenv  func(string) string
	dataDir string
	asJSON  bool
	out     io.Writer
	err     io.Writer
}

// New makes the root command, with others that work without a server.
func New(version string, getenv func(string) string, others ...*cobra.Command) *cobra.Command {
	sh := &shell{getenv: getenv}
	root := group("airlock", "who may do what: connectors, inventory, changes of access, audit",
		sh.connector(), sh.grant(), sh.revoke(), sh.changes(), sh.export(), sh.ingest(),
		sh.app(), sh.account(), sh.people(), sh.audit(), sh.key(), sh.backup(), sh.completion(),
	)
	root.AddCommand(others...)
	root.SetHelpCommand(help(root))
	root.CompletionOptions.DisableDefaultCmd = true
	root.Long = `Airlock governs who may do what. ` + "`airlock serve`" + ` runs the server; all other
commands talk to the server that runs, through a socket in its data directory.

Exit codes: 0 done · 1 error · 2 wrong usage, or it can't be done as things are ·
3 a sync or a change of access failed, or an audit log isn't sound · 4 a sync is
held back until it is confirmed · 5 not over in time, and goes on · 6 no server
runs · 7 the server stopped before it had answered · 130 interrupted`
	root.Version = version
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		sh.out, sh.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return needed(cmd)
	}
	root.PersistentFlags().StringVar(&sh.dataDir, "data-dir", "",
		"the server's data `directory` (AIRLOCK_DATA_DIR; default /var/lib/airlock for root, ~/.local/share/airlock for others)")
	root.PersistentFlags().BoolVar(&sh.asJSON, "json", false, "print one JSON array or object")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage("%w; `%s --help` says more", err, cmd.CommandPath())
	})
	return root
}

func (sh *shell) client() *admin.Client {
	dir := sh.dataDir
	if dir == "" {
		dir = admin.DataDir(sh.getenv)
	}
	return admin.Dial(dir)
}

// group makes a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return Usage("there is no command %q; `%s --help` lists them", cmd.CommandPath()+" "+args[0], cmd.CommandPath())
		}
		return nil
	}, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(children...)
	return cmd
}

// Exactly wants so many arguments, and says which.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(names) == 0:
			return Usage("%s takes no argument such as %q; `%s --help` says more", cmd.CommandPath(), args[0], cmd.CommandPath())
		}
		return Usage("%s takes %s; `%s --help` says more", cmd.CommandPath(), strings.Join(names, " "), cmd.CommandPath())
	}
}

// optional wants one argument or none.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return Usage("%s takes one %s or none; `%s --help` says more", cmd.CommandPath(), name, cmd.CommandPath())
		}
		return nil
	}
}

// Print prints one JSON value, if --json is given, or what a function writes for
// people.
func Print(cmd *cobra.Command, value any, people func(w io.Writer)) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	return (&shell{asJSON: asJSON, out: cmd.OutOrStdout()}).object(value, people)
}

func (sh *shell) object(value any, people func(w io.Writer)) error {
	if !sh.asJSON {
		people(readable{sh.out})
		return nil
	}
	encoder := json.NewEncoder(sh.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// list calls the server for rows and prints them: as one JSON array, or as a
// table.
func list[Row any](ctx context.Context, sh *shell, call string, request any, columns string, cells func(Row) line) error {
	if sh.asJSON {
		return sh.array(ctx, call, request)
	}
	table := newTable(columns)
	err := sh.client().Call(ctx, call, request, nil, admin.Answer{Row: func(text json.RawMessage) error {
		var row Row
		if err := json.Unmarshal(text, &row); err != nil {
			return err
		}
		table.add(cells(row))
		return nil
	}})
	if err != nil {
		return err
	}
	if len(table.lines) == 0 {
		fmt.Fprintln(sh.err, "none")
		return nil
	}
	table.print(readable{sh.out})
	return nil
}

// array writes the rows of an answer as one JSON array, as they come.
func (sh *shell) array(ctx context.Context, call string, request any) error {
	separator := "["
	err := sh.client().Call(ctx, call, request, nil, admin.Answer{Row: func(text json.RawMessage) error {
		_, err := fmt.Fprintf(sh.out, "%s\n%s", separator, text)
		separator = ","
		return err
	}})
	if err != nil {
		return err
	}
	if separator == "[" {
		_, err = fmt.Fprintln(sh.out, "[]")
	} else {
		_, err = fmt.Fprintln(sh.out, "\n]")
	}
	return err
}

// progress shows how far it is on the error stream: on a terminal on one line
// that changes, elsewhere a line for each new phase. A problem has lines of its
// own.
type progress struct {
	sh      *shell
	id      string // of the sync or change
	last    string
	problem string
	shown   bool
}

func (sh *shell) progress() *progress { return &progress{sh: sh} }

func (p *progress) show(now admin.Progress) {
	p.id = now.ID
	if now.Problem != p.problem && now.Problem != "" {
		p.end()
		lines := []string{now.Problem}
		if terminal(p.sh.err) {
			lines = wrap(now.Problem, width)
		}
		for _, part := range lines {
			fmt.Fprintln(p.sh.err, visible(part))
		}
		p.problem = now.Problem
	}
	words := visible(now.Words)
	switch {
	case terminal(p.sh.err):
		if now.Detail != "" {
			words += " " + visible(now.Detail)
		}
		fmt.Fprintf(p.sh.err, "\r\x1b[K%s", cut(words, width))
		p.shown = true
	case words != p.last:
		fmt.Fprintln(p.sh.err, words)
	}
	p.last = words
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.sh.err, "\r\x1b[K")
	}
	p.shown = false
}

// terminal reports whether a person reads what is written.
func terminal(out any) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// waiting says of a wait that was cut off what goes on, by its id as far as that
// is known, and where to look for it.
func waiting(err error, what, id, look string) error {
	interrupted := errors.Is(err, context.Canceled)
	ended := "the server ended"
	if fault.Is(err, fault.Unavailable) {
		ended = "the server stops"
	} else if !interrupted && !errors.Is(err, admin.ErrEnded) {
		return err
	}
	switch {
	case interrupted && id == "":
		return exit{ExitInterrupted, fmt.Errorf("interrupted; the %s, if it was taken, goes on: %s", what, look)}
	case interrupted:
		return exit{ExitInterrupted, fmt.Errorf("interrupted; the %s (%s) goes on: %s", what, id, look)}
	case id == "":
		return exit{ExitStopped, fmt.Errorf("%s; whether the %s was taken isn't known: once a server runs again, %s", ended, what, look)}
	}
	return exit{ExitStopped, fmt.Errorf("%s; the %s (%s) goes on once one runs again: %s", ended, what, id, look)}
}

// interrupted takes the end of what goes on for ever as its end, not as an error.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// when shows a time to people, in UTC.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// about shows a time as how far away it is.
func about(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return "–"
	}
	span := t.Sub(now)
	if span < 0 {
		return short(-span) + " ago"
	}
	return "in " + short(span)
}

func short(span time.Duration) string {
	switch {
	case span < time.Minute:
		return fmt.Sprintf("%ds", int(span.Seconds()))
	case span < time.Hour:
		return fmt.Sprintf("%dm", int(span.Minutes()))
	case span < 48*time.Hour:
		return fmt.Sprintf("%dh", int(span.Hours()))
	}
	return fmt.Sprintf("%dd", int(span.Hours()/24))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// dash shows that there is nothing.
func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
