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
	ExitInterrupted = 130 // by a signal, as shells have it
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return e.err.Error() }

func (e exit) Unwrap() error { return e.err }

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
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.NotReady, fault.Forbidden, fault.TooLarge:
		return ExitUsage
	case fault.Timeout, fault.Unavailable:
		return ExitTimeout
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
		sh.app(), sh.account(), sh.people(), sh.audit(), sh.key(), sh.backup(),
	)
	root.AddCommand(others...)
	root.Long = `Airlock governs who may do what. ` + "`airlock serve`" + ` runs the server; all other
commands talk to the server that runs, through a socket in its data directory.

Exit codes: 0 done · 1 error · 2 wrong usage, or it can't be done as things are ·
3 a sync or a change of access failed, or an audit log isn't sound · 4 a sync is
held back until it is confirmed · 5 not over in time, and goes on · 6 no server
runs · 130 interrupted`
	root.Version = version
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		sh.out, sh.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		// Cobra looks at these later, and its errors don't tell what they are.
		if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
			return exit{ExitUsage, fmt.Errorf("%w; `%s --help` says more", err, cmd.CommandPath())}
		}
		return nil
	}
	root.PersistentFlags().StringVar(&sh.dataDir, "data-dir", "",
		"the server's data `directory` (AIRLOCK_DATA_DIR; default /var/lib/airlock for root, ~/.local/share/airlock for others)")
	root.PersistentFlags().BoolVar(&sh.asJSON, "json", false, "print one JSON array or object")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit{ExitUsage, fmt.Errorf("%w; `%s --help` says more", err, cmd.CommandPath())}
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
			return exit{ExitUsage, fmt.Errorf("there is no command %q; `%s --help` lists them", cmd.CommandPath()+" "+args[0], cmd.CommandPath())}
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
			return exit{ExitUsage, fmt.Errorf("%s takes no argument such as %q; `%s --help` says more", cmd.CommandPath(), args[0], cmd.CommandPath())}
		}
		return exit{ExitUsage, fmt.Errorf("%s takes %s; `%s --help` says more", cmd.CommandPath(), strings.Join(names, " "), cmd.CommandPath())}
	}
}

// optional wants one argument or none.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exit{ExitUsage, fmt.Errorf("%s takes one %s or none; `%s --help` says more", cmd.CommandPath(), name, cmd.CommandPath())}
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
// that changes, elsewhere a line for each new phase.
func (sh *shell) progress() (show func(admin.Progress), end func()) {
	file, ok := sh.err.(*os.File)
	terminal := false
	if ok {
		if info, err := file.Stat(); err == nil {
			terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	last, shown := "", false
	return func(p admin.Progress) {
			words := plain(p.Words)
			switch {
			case terminal:
				if p.Detail != "" {
					words += " " + plain(p.Detail)
				}
				fmt.Fprintf(sh.err, "\r\x1b[K%s", cut(words, width))
				shown = true
			case words != last:
				fmt.Fprintln(sh.err, words)
			}
			last = words
		}, func() {
			if shown {
				fmt.Fprint(sh.err, "\r\x1b[K")
			}
			shown = false
		}
}

// waiting is what goes on when the wait for it is interrupted.
func waiting(err error, words string, args ...any) error {
	if errors.Is(err, context.Canceled) {
		return exit{ExitInterrupted, fmt.Errorf("interrupted; %s", fmt.Sprintf(words, args...))}
	}
	return err
}

// interrupted takes the end of what goes on for ever as its end, not as an error.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// when shows a time to people.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "–"
	}
	return t.Local().Format("2006-01-02 15:04:05")
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
