package command

import (
	"bufio"
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

With --wait it ends with 0 only when a sync has seen the change, and says meanwhile
what it waits for; 3 says that it failed, 5 that it wasn't over in time, 7 that the
server stopped. In the last two it goes on, as ` + "`airlock change show`" + ` tells.`,
		Example: "  airlock " + verb + " role:Op:assigned eve --app Airflow --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Entitlement, request.Account = args[0], args[1]
			var change admin.Change
			progress := sh.progress()
			err := sh.client().Call(cmd.Context(), "access/change", request, &change, admin.Answer{Progress: progress.show})
			progress.end()
			if err != nil {
				return waiting(err, verb, progress.id, lookForChange(progress.id))
			}
			return sh.changeEnded(change, request.Wait)
		},
	}
	sh.appFlag(cmd, true, &request.App, "the app's `name`")
	why(cmd, &request.Why)
	waits(cmd, &request.Wait, &request.Timeout, "wait until a sync has seen it", "the change goes on")
	return cmd
}

// lookForChange is where to look for a change.
func lookForChange(id string) string {
	if id == "" {
		return "`airlock change list` shows it"
	}
	return "`airlock change show " + id + " --wait` follows it, `airlock change list` lists it"
}

// changes are the changes of access, under way and past.
func (sh *shell) changes() *cobra.Command {
	request := admin.ShowChange{}
	show := &cobra.Command{
		Use: "show ID", Short: "how far a change of access is", Args: Exactly("ID"), Example: "  airlock change show 2oY4… --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.ID = args[0]
			var change admin.Change
			progress := sh.progress()
			err := sh.client().Call(cmd.Context(), "change/show", request, &change, admin.Answer{Progress: progress.show})
			progress.end()
			if err != nil {
				return waiting(err, "change", args[0], lookForChange(args[0]))
			}
			return sh.changeEnded(change, request.Wait)
		},
	}
	waits(show, &request.Wait, &request.Timeout, "wait until it is over", "the change goes on")

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
	last(all, &filter.Last, 100, 10000, "so many")
	return group("change", "changes of access: under way and past", all, show)
}

// changeEnded prints a change, and makes the exit code of it.
func (sh *shell) changeEnded(change admin.Change, waited bool) error {
	what := fmt.Sprintf("the %s of %s for %s", change.Kind, change.Entitlement, change.Account)
	follow := fmt.Sprintf("`airlock change show %s --wait` follows it", change.ID)
	open := change.State != "verified" && change.State != "failed"
	err := sh.object(change, func(w io.Writer) {
		switch {
		case open && !waited:
			fmt.Fprintf(w, "%s of %s for %s: %s; %s\n", change.Kind, change.Entitlement, change.Account, change.Waits, follow)
		case change.State == "verified":
			fmt.Fprintf(w, "%s of %s for %s: verified\n", change.Kind, change.Entitlement, change.Account)
		}
	})
	switch {
	case err != nil:
		return err
	case change.State == "failed":
		return exit{ExitFailed, fmt.Errorf("%s failed: %s", what, change.Error)}
	case waited && open:
		return exit{ExitTimeout, fmt.Errorf("%s isn't verified yet, and goes on: %s; %s", what, change.Waits, follow)}
	}
	return nil
}

func (sh *shell) export() *cobra.Command {
	request, format := admin.Export{}, ""
	cmd := &cobra.Command{
		Use: "export {accounts,entitlements,grants,people}", Short: "the inventory as CSV or JSON",
		ValidArgs: []string{"accounts", "entitlements", "grants", "people"},
		Long: `Writes a list of the inventory to the standard output: of one app, or of all. In
CSV, what a spreadsheet would take for a formula begins with an apostrophe; on a
terminal, what would steer it is shown as \x1b or \u202e. JSON has all as it is.
Grants are direct and inherited ones; path says through what one is inherited.
Whoever holds one may be a role or a group; with --accounts it is an account.`,
		Example: "  airlock export grants --app Airflow >grants.csv\n  airlock export grants --accounts --format json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return Usage("export takes one of accounts, entitlements, grants, people")
			}
			if request.Accounts && args[0] != "grants" {
				return Usage("--accounts goes with grants: it leaves out those of other things than accounts")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			request.What = args[0]
			switch {
			case format == "json" || sh.asJSON && !cmd.Flags().Changed("format"):
				return sh.array(cmd.Context(), "export", request)
			case format != "csv":
				return Usage("--format is csv or json, not %q", format)
			case sh.asJSON:
				return Usage("--json and --format csv go against each other")
			}
			return sh.csv(cmd.Context(), request)
		},
	}
	sh.appFlag(cmd, false, &request.App, "of the app of this `name` alone")
	cmd.Flags().StringVar(&format, "format", "csv", "`csv` or json (one array)")
	cmd.Flags().BoolVar(&request.Accounts, "accounts", false, "of grants: only those that accounts hold")
	choices(cmd, "format", "csv", "json")
	return cmd
}

// csv writes rows as CSV, below a header that is there also where no row is.
// What a spreadsheet would take for a formula is quoted, so that a name from a
// connector can't run anything.
func (sh *shell) csv(ctx context.Context, request admin.Export) error {
	out := sh.out
	if terminal(out) {
		out = readable{out}
	}
	writer := csv.NewWriter(out)
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
sync: it may be held back, until ` + "`airlock connector confirm`" + ` with the app's name. Exit
codes are those of ` + "`airlock connector sync --wait`" + `.`,
		Example: "  airlock ingest sync.c1z --app Airflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := open(args[0], "nothing was sent")
			if err != nil {
				return err
			}
			defer file.Close()
			return sh.follow(request.App, true, func(result any, answer admin.Answer) error {
				return sh.client().Upload(cmd.Context(), "ingest", request, file, result, answer)
			})
		},
	}
	sh.appFlag(cmd, true, &request.App, "the app's `name`")
	cmd.Flags().Var(patience{&request.Timeout}, "timeout", "give up waiting after this time, 0 is never; it goes on")
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
				return Usage("a managed app is added with its connector, by `airlock connector add`; for one without, add --unmanaged")
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
	someOf(owner, false, "owner", "holders-of")

	var matching string
	var directory bool
	set := &cobra.Command{
		Use: "set NAME", Short: "how an app's accounts are matched to people", Args: Exactly("NAME"), ValidArgsFunction: sh.apps,
		Long: `An account becomes that of the one person who has its e-mail or employee id
(narrow); where there is none, with broad, who has its username or whose e-mail
begins with it. If two people fit, it is nobody's. That is decided when a sync is
applied, and for all accounts known already, in the background, after people
changed and after this command. ` + "`airlock export accounts`" + ` shows it: person and
matched_by. What ` + "`airlock account link`" + ` says stays.

With --directory the people are those of its accounts; ` + "`airlock export people`" + ` shows
them after the next sync, with the app as their source.`,
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
	someOf(set, false, "matching", "directory")

	return group("app", "apps and their owners",
		&cobra.Command{
			Use: "list", Short: "all apps", Args: Exactly(), Example: "  airlock app list",
			RunE: func(cmd *cobra.Command, _ []string) error {
				now := time.Now()
				return list(cmd.Context(), sh, "app/list", struct{}{}, "~NAME  MANAGED  DIRECTORY  ~OWNERS  LAST SYNC", func(a admin.App) line {
					return row(a.Name, yes(a.Managed), yes(a.Directory), dash(strings.Join(a.Owners, ", ")), about(a.Synced, now))
				})
			},
		}, addCmd, owner, set, sh.appRename(), sh.appRemove())
}

func (sh *shell) appRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename NAME NEW", Short: "give an app another name", Args: Exactly("NAME", "NEW"), ValidArgsFunction: sh.apps,
		Long:    "Its connector keeps its own name; `airlock connector set --rename` changes that.",
		Example: "  airlock app rename Airflow \"Airflow, Oslo\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.printApp(cmd.Context(), "app/rename", admin.RenameApp{Name: args[0], New: args[1]}, "renamed, it was "+args[0])
		},
	}
}

func (sh *shell) appRemove() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "remove an app that has no connector", Args: Exactly("NAME"), ValidArgsFunction: sh.apps,
		Long: `Says in numbers what would go with the app, and asks before it is removed; where
nobody can be asked, --yes says so. Its past grants, to which its present ones are
added, stay on record, and so do people that it told of as a directory. A connector
is removed before its app, by ` + "`airlock connector remove`" + `.`,
		Example: "  airlock app remove Payroll\n  airlock app remove Payroll --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			var held admin.Held
			if err := sh.client().Call(cmd.Context(), "app/held", admin.Named{Name: args[0]}, &held, admin.Answer{}); err != nil {
				return err
			}
			goes := fmt.Sprintf("with %q would go %s, %s, %s and %s", held.App, admin.Count(held.Accounts, "account"), admin.Count(held.Resources, "resource"),
				admin.Count(held.Entitlements, "entitlement"), admin.Count(held.Grants, "direct grant"))
			switch {
			case yes:
			case !terminal(cmd.InOrStdin()):
				return Usage("%s; nothing was removed: --yes removes it where nobody can be asked", goes)
			default:
				if ok, err := sh.ask(cmd, goes+". Remove it?"); err != nil || !ok {
					return err
				}
			}
			return sh.printApp(cmd.Context(), "app/remove", admin.Named{Name: args[0]}, "removed")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return cmd
}

// ask asks a question whose answer is yes or no.
func (sh *shell) ask(cmd *cobra.Command, question string) (bool, error) {
	fmt.Fprintf(sh.err, "%s [y/N] ", plain(question))
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return true, nil
	}
	return false, Usage("it was not confirmed: nothing was removed")
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
