package server

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"airlock/internal/edge/admin"
	"airlock/internal/edge/admin/command"
	"airlock/internal/ingest"
)

// decodeFile is the command by which the server reads what connectors send in
// another process: a bad file may end that one.
const decodeFile = "decode-c1z"

// Commands are those that work without a server that runs: serve, doctor, restore
// and admin. The environment, as NAME=value, is looked through for settings that
// don't exist.
func Commands(version string, getenv func(string) string, environment ...string) []*cobra.Command {
	var given Settings
	read := func(cmd *cobra.Command) (Settings, error) {
		dir, err := cmd.Flags().GetString("data-dir")
		if err != nil {
			return Settings{}, err
		}
		given.DataDir, given.Version = dir, version
		settings, err := FromEnvironment(given, getenv, environment...)
		if err != nil {
			return settings, fmt.Errorf("the settings are wrong, nothing was done:\n%w", err)
		}
		return settings, nil
	}

	serve := &cobra.Command{
		Use: "serve", Short: "run the server", Args: command.Exactly(),
		Long: `Runs the server: connectors call it, commands talk to it. Without any setting it
keeps all it knows in one data directory, with SQLite, and listens at port 8443.
Each setting has a variable of the environment; docs/operating.md lists them.

A signal stops it in order, hosted connectors first; a second one at once.`,
		Example: "  airlock serve\n  AIRLOCK_DATABASE_URL=postgres://airlock@db.example.com/airlock airlock serve --listen :443",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := read(cmd)
			if err != nil {
				return err
			}
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program, which reads files in a process of its own: %w", err)
			}
			settings.Decoder = []string{program, decodeFile}
			return Run(cmd.Context(), settings, cmd.ErrOrStderr())
		},
	}
	flags := serve.Flags()
	flags.StringVar(&given.Listen, "listen", "", "`address` and port to listen at (AIRLOCK_LISTEN; default :8443)")
	flags.StringVar(&given.PublicURL, "public-url", "", "the `URL` that others call (AIRLOCK_PUBLIC_URL; default https:// and the listen address)")
	flags.StringVar(&given.DatabaseURL, "database-url", "", "the `URL` of a PostgreSQL; better by AIRLOCK_DATABASE_URL, since flags are shown to everybody (default SQLite)")
	flags.StringVar(&given.ConnectorsDir, "connectors-dir", "", "`folder` of the connectors' binaries (AIRLOCK_CONNECTORS_DIR; default connectors/ beside the program)")

	doctor := &cobra.Command{
		Use: "doctor", Short: "check settings, files, database and connectors folder", Args: command.Exactly(),
		Long: `Looks at all that a server needs, whether one runs or not, and changes nothing. A
server that runs is asked how it does. The settings of ` + "`airlock serve`" + ` come from
the same variables. It ends with 1 if something is wrong.`,
		Example: "  airlock doctor",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := read(cmd)
			if err != nil {
				return err
			}
			findings := Doctor(cmd.Context(), settings)
			err = command.Print(cmd, findings, func(w io.Writer) {
				for _, f := range findings {
					verdict := map[bool]string{true: "ok", false: "wrong"}[f.OK]
					if f.Note {
						verdict = "note"
					}
					fmt.Fprintf(w, "%-6s %-18s %s\n", verdict, f.What, strings.ReplaceAll(f.Words, "\n", " "))
				}
			})
			if err != nil {
				return err
			}
			return Wrong(findings)
		},
	}

	restore := &cobra.Command{
		Use: "restore FILE", Short: "make a new, empty server out of a backup", Args: command.Exactly("FILE"),
		Long: `Reads a backup into an empty database, before the server is started. The sealing
key of the time of the backup must be in place. Hosted connectors are paused, and
grants that were under way are given up, so that nothing is granted by
yesterday's word; the audit log tells of the restore. All of this is done, or
nothing.`,
		Example: "  AIRLOCK_KEY_FILE=/secure/airlock.key airlock restore airlock-backup.db",
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := read(cmd)
			if err != nil {
				return err
			}
			restored, err := Restore(cmd.Context(), settings, args[0])
			if err != nil {
				return err
			}
			return command.Print(cmd, restored, func(w io.Writer) {
				fmt.Fprintf(w, "restored into %s\npaused: %s; check each, then `airlock connector resume` it\ngiven up: %s that were under way\n",
					restored.Engine, admin.Count(restored.Paused, "hosted connector"), admin.Count(restored.GivenUp, "grant"))
				if restored.Aside != "" {
					fmt.Fprintln(w, "the signed checkpoints of another audit log that lay there are kept in", restored.Aside)
				}
			})
		},
	}
	decode := &cobra.Command{
		Use: decodeFile + " ORDERS", Short: "read a .c1z file, for a server that won't do so itself", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ingest.Decode(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	return []*cobra.Command{serve, doctor, restore, administrators(getenv, read), decode}
}
