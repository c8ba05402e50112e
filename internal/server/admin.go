package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"airlock/internal/base/db"
	"airlock/internal/edge/admin"
	"airlock/internal/edge/admin/command"
	"airlock/internal/identity"
)

// administrators are the commands about who runs the server. They ask the server
// that runs, and else do it themselves: it is they who let somebody in.
func administrators(getenv func(string) string, read func(*cobra.Command) (Settings, error)) *cobra.Command {
	// ask calls the server, or does something without one.
	ask := func(cmd *cobra.Command, call string, request, result any, answer admin.Answer, without func(ctx context.Context, m *domain) error) error {
		dir, err := cmd.Flags().GetString("data-dir")
		if err != nil {
			return err
		}
		if dir == "" {
			dir = admin.DataDir(getenv)
		}
		if err := admin.Dial(dir).Call(cmd.Context(), call, request, result, answer); !errors.Is(err, admin.ErrNoServer) {
			return err
		}
		settings, err := read(cmd)
		if err != nil {
			return err
		}
		return directly(cmd.Context(), settings, func(ctx context.Context, _ *db.DB, m *domain) error { return without(ctx, m) })
	}

	request := admin.CreateAdmin{}
	var stdin bool
	create := &cobra.Command{
		Use: "create --email E --password-stdin", Short: "make a Super Admin, or let one in again", Args: command.Exactly(),
		Long: `Makes a Super Admin with a password: the person with that e-mail, or a new one. One
who is there gets the new password, and their sessions end. The first line of the
standard input is the password: so it is in no list of processes and no history of
a shell. The audit log tells of it. It works whether a server runs or not; without
one it makes the database if there is none.`,
		Example: "  airlock admin create --email ann@example.com --password-stdin </run/secrets/ann\n" +
			"  systemd-ask-password | airlock admin create --email ann@example.com --name \"Ann Ames\" --password-stdin",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !stdin {
				return command.Usage("the password comes by the standard input: add --password-stdin; nothing was changed")
			}
			text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 4096))
			if err != nil {
				return fmt.Errorf("read the password: %w; nothing was changed", err)
			}
			request.Password, _, _ = strings.Cut(string(text), "\n")
			request.Password = strings.TrimSuffix(request.Password, "\r")
			var made identity.Admin
			err = ask(cmd, "admin/create", request, &made, admin.Answer{}, func(ctx context.Context, m *domain) error {
				if made, err = m.signIns.AdminCreate(ctx, identity.Operator(), request.Email, request.Name, request.Password); err != nil {
					return err
				}
				return m.audit.Checkpoint(ctx)
			})
			if err != nil {
				return err
			}
			return command.Print(cmd, made, func(w io.Writer) {
				words := "is Super Admin now and signs in with the password"
				if made.Recovered {
					words = "has the new password, and is Super Admin; their sessions have ended"
				}
				fmt.Fprintf(w, "%s (%s) %s\n", made.Name, made.Email, words)
			})
		},
	}
	flags := create.Flags()
	flags.StringVar(&request.Email, "email", "", "their `e-mail` address")
	flags.StringVar(&request.Name, "name", "", "the `name` of somebody new")
	flags.BoolVar(&stdin, "password-stdin", false, "read the password from the standard input")
	if err := create.MarkFlagRequired("email"); err != nil {
		panic(err) // the flag isn't defined
	}

	list := &cobra.Command{
		Use: "list", Short: "who has which product role", Args: command.Exactly(), Example: "  airlock admin list",
		Long: "Lists who has a role beside User, which everybody has: by hand, or by the groups that\nthe sign-in provider told of. It works whether a server runs or not.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := []admin.RoleRow{}
			err := ask(cmd, "admin/list", struct{}{}, &rows, admin.Answer{}, func(ctx context.Context, m *domain) (err error) {
				rows, err = admin.Roles(ctx, m.signIns)
				return err
			})
			if err != nil {
				return err
			}
			return command.Print(cmd, rows, func(w io.Writer) {
				var lines [][]string
				for _, r := range rows {
					lines = append(lines, []string{r.Role, r.Name, r.Email, r.Status, r.Source, r.Since.UTC().Format(time.DateOnly)})
				}
				command.Table(w, "ROLE  ~NAME  ~E-MAIL  STATUS  BY  SINCE", lines)
			})
		},
	}
	group := &cobra.Command{Use: "admin", Short: "who runs the server", Args: create.Args, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	group.AddCommand(create, list)
	return group
}
