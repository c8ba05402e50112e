package command

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"airlock/internal/edge/admin"
)

func (sh *shell) grant() *cobra.Command {
	return sh.change("grant", "give an account an entitlement, through the app's connector", false)
}

func (sh *shell) revoke() *cobra.Command {
	return sh.change("revoke", "take an entitlement from an account, through the app's connector", true)
}

func (sh *shell) change(verb, short string, revoke bool) *cobra.Command {
	request := admin.ChangeAccess{Revoke: revoke}
	cmd := &cobra.Command{
		Use: verb + " ENTITLEMENT ACCOUNT --app NAME", Short: short, Args: Exactly("ENTITLEMENT", "ACCOUNT"), ValidArgsFunction: sh.inApp("entitlements", "accounts"),
		Long: `Each is named by the connector's id, such as role:Op:assigned and eve, or by a name
that is unique in the app. It is an operator's direct change: no request, no
approval; the audit log tells of it.

With --wait it ends with 0 only when a sync has seen the change; 3 says that it
failed, 5 that it wasn't over in time.`,
		Example: "  airlock " + verb + " role:Op:assigned eve --app Airflow --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Entitlement, request.Account = args[0], args[1]
			show, end := sh.progress()
			var change admin.Change
			err := sh.client().Call(cmd.Context(), "access/change", request, &change, admin.Answer{Progress: show})
			end()
			if err != nil {
				return waiting(err, "the %s, if it was taken, goes on; `airlock change list --open` shows it", verb)
			}
			return sh.changeEnded(change, request.Wait)
		},
	}
	flags := cmd.Flags()
	sh.appFlag(cmd, true, &request.App, "the app's `name`")
	flags.StringVar(&request.Why, "why", "", "the `reason`, for the audit log")
	flags.BoolVar(&request.Wait, "wait", false, "wait until a sync has seen it")
	flags.DurationVar(&request.Timeout, "timeout", 0, "with --wait: give up waiting after this time; the change goes on")
	return cmd
}

// changes are the changes of access, under way and past.
func (sh *shell) changes() *cobra.Command {
	request := admin.ShowChange{}
	show := &cobra.Command{
		Use: "show ID", Short: "how far a change of access is", Args: Exactly("ID"), Example: "  airlock change show 2oY4… --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.ID = args[0]
			progress, end := sh.progress()
			var change admin.Change
			err := sh.client().Call(cmd.Context(), "change/show", request, &change, admin.Answer{Progress: progress})
			end()
			if err != nil {
				return waiting(err, "the change goes on; `airlock change show %s --wait` follows it", args[0])
			}
			return sh.changeEnded(change, request.Wait)
		},
	}
	show.Flags().BoolVar(&request.Wait, "wait", false, "wait until it is over")
	show.Flags().DurationVar(&request.Timeout, "timeout", 0, "give up waiting after this time; the change goes on")

	filter := admin.ListChanges{}
	all := &cobra.Command{
		Use: "list", Short: "the changes of access, newest first", Args: Exactly(), Example: "  airlock change list --open",
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			return list(cmd.Context(), sh, "change/list", filter, "ID  CHANGE  ~APP  ~ENTITLEMENT  ~ACCOUNT  STATE  BEGUN", func(c admin.Change) line {
				return line{cells: []string{c.ID, c.Kind, c.App, c.Entitlement, c.Account, c.State, about(&c.Created, now)}, note: c.Error}
			})
		},
	}
	all.Flags().BoolVar(&filter.Open, "open", false, "only those that aren't over")
	all.Flags().IntVarP(&filter.Last, "last", "n", 100, "so many")
	return group("change", "changes of access: under way and past", all, show)
}

// changeEnded prints a change, and makes the exit code of it.
func (sh *shell) changeEnded(change admin.Change, waited bool) error {
	err := sh.object(change, func(w io.Writer) {
		if change.State != "failed" {
			fmt.Fprintf(w, "%s of %s for %s: %s\n", change.Kind, change.Entitlement, change.Account, change.State)
		}
	})
	switch {
	case err != nil:
		return err
	case change.State == "failed":
		return exit{ExitFailed, fmt.Errorf("the %s of %s for %s failed: %s", change.Kind, change.Entitlement, change.Account, change.Error)}
	case waited && change.State != "verified":
		return exit{ExitTimeout, fmt.Errorf("the %s of %s for %s is %s, and goes on; `airlock change show %s --wait` follows it",
			change.Kind, change.Entitlement, change.Account, change.State, change.ID)}
	}
	return nil
}

func (sh *shell) export() *cobra.Command {
	request, format := admin.Export{}, ""
	cmd := &cobra.Command{
		Use: "export {accounts,entitlements,grants,people}", Short: "the inventory as CSV or JSON",
		ValidArgs: []string{"accounts", "entitlements", "grants", "people"},
		Long: `Writes a list of the inventory to the standard output: of one app, or of all. In
CSV, what a spreadsheet would take for a formula begins with an apostrophe.
Grants are direct and inherited ones; path says through what one is inherited.`,
		Example: "  airlock export grants --app Airflow >grants.csv\n  airlock export accounts --format json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return exit{ExitUsage, errors.New("export takes one of accounts, entitlements, grants, people")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			request.What = args[0]
			switch {
			case format == "json" || sh.asJSON && !cmd.Flags().Changed("format"):
				return sh.array(cmd.Context(), "export", request)
			case format != "csv":
				return exit{ExitUsage, fmt.Errorf("--format is csv or json, not %q", format)}
			case sh.asJSON:
				return exit{ExitUsage, errors.New("--json and --format csv go against each other")}
			}
			return sh.csv(cmd.Context(), request)
		},
	}
	sh.appFlag(cmd, false, &request.App, "of the app of this `name` alone")
	cmd.Flags().StringVar(&format, "format", "csv", "`csv` or json (one array)")
	choices(cmd, "format", "csv", "json")
	return cmd
}

// csv writes rows as CSV, below a header that is there also where no row is.
// What a spreadsheet would take for a formula is quoted, so that a name from a
// connector can't run anything.
func (sh *shell) csv(ctx context.Context, request admin.Export) error {
	writer := csv.NewWriter(sh.out)
	if err := writer.Write(admin.Columns(request.What)); err != nil {
		return err
	}
	err := sh.client().Call(ctx, "export", request, nil, admin.Answer{Row: func(text json.RawMessage) error {
		values, err := flat(text)
		if err != nil {
			return err
		}
		return writer.Write(values)
	}})
	if err != nil {
		return err
	}
	writer.Flush()
	return writer.Error()
}

// flat is what a flat JSON object holds, in its order.
func flat(text json.RawMessage) (values []string, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	for decoder.More() {
		if _, err := decoder.Token(); err != nil { // its name
			return nil, err
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		values = append(values, cell(value))
	}
	return values, nil
}

func cell(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		if first, _ := utf8.DecodeRuneInString(value); strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
			return "'" + value
		}
		return value
	case []any:
		var parts []string
		for _, part := range value {
			parts = append(parts, fmt.Sprint(part))
		}
		return cell(strings.Join(parts, "; "))
	}
	return fmt.Sprint(value)
}

func (sh *shell) ingest() *cobra.Command {
	request := admin.Ingest{Wait: true}
	cmd := &cobra.Command{
		Use: "ingest FILE.c1z --app NAME", Short: "take an app's inventory from a file", Args: Exactly("FILE.c1z"),
		Long: `Takes what a connector wrote into a .c1z file where there is no way between it and
the server, and waits until it is in the inventory. The file is judged like any
sync: it may be held back. Exit codes are those of ` + "`airlock connector sync --wait`" + `.`,
		Example: "  airlock ingest sync.c1z --app Airflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			sync, err := sh.follow(func(result any, answer admin.Answer) error {
				return sh.client().Upload(cmd.Context(), "ingest", request, file, result, answer)
			})
			if err != nil {
				return waiting(err, "if the file was taken whole, it goes on")
			}
			return sh.ended(sync, request.App, request.Wait)
		},
	}
	sh.appFlag(cmd, true, &request.App, "the app's `name`")
	cmd.Flags().DurationVar(&request.Timeout, "timeout", 0, "give up waiting after this time; it goes on")
	return cmd
}

func (sh *shell) app() *cobra.Command {
	add := admin.AddApp{}
	unmanaged := false
	addCmd := &cobra.Command{
		Use: "add NAME --unmanaged", Short: "add an app that has no connector", Args: Exactly("NAME"),
		Long:    "For what no connector reports: its access is known by `airlock ingest`, and may get a\nconnector later, by `airlock connector add`.",
		Example: "  airlock app add Payroll --unmanaged --owner ann@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !unmanaged {
				return exit{ExitUsage, errors.New("a managed app is added with its connector, by `airlock connector add`; for one without, add --unmanaged")}
			}
			add.Name = args[0]
			return sh.printApp(cmd.Context(), "app/add", add, "added")
		},
	}
	addCmd.Flags().BoolVar(&unmanaged, "unmanaged", false, "it has no connector")
	addCmd.Flags().StringVar(&add.Description, "description", "", "what it is")
	addCmd.Flags().StringArrayVar(&add.Owners, "owner", nil, "a person that owns it, by `e-mail`; may be repeated")

	var people, entitlements []string
	owner := &cobra.Command{
		Use: "owner NAME --owner E-MAIL | --holders-of ENTITLEMENT", Short: "say who owns an app", Args: Exactly("NAME"), ValidArgsFunction: sh.apps,
		Long:    "Sets the owners, instead of those there are: people, or whoever holds an\nentitlement of the app.",
		Example: "  airlock app owner Airflow --owner ann@example.com\n  airlock app owner Airflow --holders-of role:Admin:assigned",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.printApp(cmd.Context(), "app/set", admin.SetApp{Name: args[0], Owners: &people, OwnerEntitlements: &entitlements}, "owners set")
		},
	}
	owner.Flags().StringArrayVar(&people, "owner", nil, "a person, by `e-mail`; may be repeated")
	owner.Flags().StringArrayVar(&entitlements, "holders-of", nil, "an `entitlement` of the app; may be repeated")
	owner.MarkFlagsOneRequired("owner", "holders-of")

	var matching string
	var directory bool
	set := &cobra.Command{
		Use: "set NAME", Short: "how an app's accounts are matched to people", Args: Exactly("NAME"), ValidArgsFunction: sh.apps,
		Example: "  airlock app set Airflow --matching broad",
		RunE: func(cmd *cobra.Command, args []string) error {
			request := admin.SetApp{Name: args[0]}
			if cmd.Flags().Changed("matching") {
				request.Matching = &matching
			}
			if cmd.Flags().Changed("directory") {
				request.Directory = &directory
			}
			return sh.printApp(cmd.Context(), "app/set", request, "set")
		},
	}
	set.Flags().StringVar(&matching, "matching", "narrow", "narrow (e-mail, employee id) or broad (username too)")
	set.Flags().BoolVar(&directory, "directory", true, "its accounts are the people")
	choices(set, "matching", "narrow", "broad")
	set.MarkFlagsOneRequired("matching", "directory")

	return group("app", "apps and their owners",
		&cobra.Command{
			Use: "list", Short: "all apps", Args: Exactly(), Example: "  airlock app list",
			RunE: func(cmd *cobra.Command, _ []string) error {
				now := time.Now()
				return list(cmd.Context(), sh, "app/list", struct{}{}, "~NAME  MANAGED  DIRECTORY  ~OWNERS  LAST SYNC", func(a admin.App) line {
					return row(a.Name, yes(a.Managed), yes(a.Directory), dash(strings.Join(a.Owners, ", ")), about(a.Synced, now))
				})
			},
		}, addCmd, owner, set)
}

func (sh *shell) printApp(ctx context.Context, call string, request any, done string) error {
	var app admin.App
	if err := sh.client().Call(ctx, call, request, &app, admin.Answer{}); err != nil {
		return err
	}
	return sh.object(app, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", app.Name, done) })
}

func (sh *shell) account() *cobra.Command {
	var request admin.LinkAccount
	run := func(call, done string) func(cmd *cobra.Command, args []string) error {
		return func(cmd *cobra.Command, args []string) error {
			request.Account = args[0]
			if len(args) > 1 {
				request.Person = args[1]
			}
			var row json.RawMessage
			if err := sh.client().Call(cmd.Context(), call, request, &row, admin.Answer{}); err != nil {
				return err
			}
			return sh.object(row, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", request.Account, done) })
		}
	}
	link := &cobra.Command{
		Use: "link ACCOUNT PERSON --app NAME", Short: "say by hand whose an account is",
		Long:    "Whatever syncs find later, the account stays this person's. A person is named by\ne-mail, employee id, username or name.",
		Example: "  airlock account link svc-etl ann@example.com --app Airflow",
		Args:    Exactly("ACCOUNT", "PERSON"), ValidArgsFunction: sh.inApp("accounts"), RunE: run("account/link", "linked"),
	}
	unlink := &cobra.Command{
		Use: "unlink ACCOUNT --app NAME", Short: "say by hand that an account is nobody's",
		Example: "  airlock account unlink svc-etl --app Airflow",
		Args:    Exactly("ACCOUNT"), ValidArgsFunction: sh.inApp("accounts"), RunE: run("account/unlink", "is nobody's"),
	}
	for _, cmd := range []*cobra.Command{link, unlink} {
		sh.appFlag(cmd, true, &request.App, "the app's `name`")
	}
	return group("account", "whose accounts are", link, unlink)
}
