package command

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"airlock/internal/edge/admin"
)

func (sh *shell) connector() *cobra.Command {
	return group("connector", "connectors: what they are, how they do, when they sync",
		sh.connectorCatalog(), sh.connectorList(), sh.connectorShow(), sh.connectorAdd(), sh.connectorSet(),
		sh.connectorSchedule(), sh.connectorSync(), sh.connectorCancel(), sh.connectorLogs(), sh.connectorFile(), sh.connectorRotate(),
		sh.connectorPause(), sh.one("resume NAME", "let a paused connector sync again", "connector/resume", "resumed",
			"What was due meanwhile is due at once."),
		sh.connectorConfirm(),
		sh.one("discard NAME", "throw the sync away that was held back", "connector/discard", "discarded: nothing was changed",
			"The inventory stays as it is. The next sync is judged anew."),
		sh.one("remove NAME", "remove a connector; what it found stays", "connector/remove", "removed; what it found stays as it was last seen",
			"Ends its syncs and its credentials, and deletes its secrets. What it found stays in\nthe inventory, marked with its last sync."),
	)
}

// one is a command that does one thing to one connector.
func (sh *shell) one(use, short, call, done, long string) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  airlock connector " + verb + " Airflow", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.did(cmd.Context(), call, admin.Named{Name: args[0]}, done)
		},
	}
}

func (sh *shell) connectorCatalog() *cobra.Command {
	return &cobra.Command{
		Use: "catalog [CATALOG-NAME]", Short: "the connectors that can be hosted here, and their settings", Args: optional("CATALOG-NAME"), ValidArgsFunction: sh.kinds,
		Long: "Lists the connectors of the connectors folder, with the settings that each needs,\n" +
			"or all settings of one. Any Baton connector becomes one by putting its binary,\nbaton-NAME, into the folder.",
		Example: "  airlock connector catalog\n  airlock connector catalog airflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return sh.connectorForm(cmd, args[0])
			}
			return list(cmd.Context(), sh, "connector/catalog", struct{}{}, "NAME  ~TITLE  VERSION  ~NEEDS", func(e admin.CatalogEntry) line {
				l := row(e.Name, e.DisplayName, version(e.Version), "")
				if e.Problem != "" {
					l.note = "can't be used: " + e.Problem
				}
				var needs []string
				for _, s := range e.Settings {
					if s.Required {
						needs = append(needs, s.Name)
					}
				}
				l.cells[3] = dash(strings.Join(needs, " "))
				return l
			})
		},
	}
}

// connectorForm prints the settings of one connector of the catalog.
func (sh *shell) connectorForm(cmd *cobra.Command, name string) error {
	var e admin.CatalogEntry
	if err := sh.client().Call(cmd.Context(), "connector/form", admin.Named{Name: name}, &e, admin.Answer{}); err != nil {
		return err
	}
	return sh.object(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s %s\n", e.Name, e.DisplayName, version(e.Version))
		if e.Problem != "" {
			fmt.Fprintf(w, "can't be used: %s\n", e.Problem)
		}
		table := newTable("SETTING  KIND  NEEDED  DEFAULT")
		for _, s := range e.Settings {
			kind := s.Kind
			if s.Secret {
				kind += ", secret"
			}
			note := s.Title
			if s.Description != "" {
				note += ": " + s.Description
			}
			if len(s.Options) > 0 {
				note += " (" + strings.Join(s.Options, ", ") + ")"
			}
			table.add(line{cells: []string{s.Name, kind, yes(s.Required), dash(cut(s.Default, 40))}, note: note})
		}
		table.print(w)
	})
}

func (sh *shell) connectorList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "all connectors and how they do", Args: Exactly(), Example: "  airlock connector list",
		Long: "Each is Not connected, Syncing, Connected, Error or Paused; below stands more of it:\nthe cause and what to do, or how far a sync is.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			return list(cmd.Context(), sh, "connector/list", struct{}{}, "~NAME  ~APP  ~CONNECTOR  STATUS  LAST SYNC  NEXT SYNC", func(c admin.Connector) line {
				kind := c.Catalog
				if !c.Hosted {
					kind += ", elsewhere"
				}
				return line{cells: []string{c.Name, c.App, kind, c.Status, about(c.LastSync, now), about(c.NextSync, now)}, note: detail(c)}
			})
		},
	}
}

// detail says more of a connector's status.
func detail(c admin.Connector) string {
	if c.Next == "" {
		return c.Detail
	}
	return c.Detail + "; " + c.Next
}

// version is that of a program; one that was built without says so.
func version(text string) string {
	if text == "(devel)" {
		return "development"
	}
	return dash(text)
}

func (sh *shell) connectorShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "all about one connector", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "Shows a connector's status, settings and last syncs, and of a sync that is held back\nwhat it would remove. Secrets are named, never shown.",
		Example: "  airlock connector show Airflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			var c admin.Connector
			if err := sh.client().Call(cmd.Context(), "connector/show", admin.Named{Name: args[0]}, &c, admin.Answer{}); err != nil {
				return err
			}
			return sh.object(c, func(w io.Writer) { showConnector(w, c) })
		},
	}
}

func showConnector(w io.Writer, c admin.Connector) {
	field := func(name, value string) {
		for n, part := range wrap(value, width-16) {
			if n > 0 {
				name = ""
			}
			fmt.Fprintf(w, "%-14s  %s\n", name, part)
		}
	}
	field("name", c.Name)
	field("app", c.App)
	field("connector", c.Catalog+map[bool]string{true: ", hosted here", false: ", runs elsewhere"}[c.Hosted])
	field("status", c.Status)
	field("", detail(c))
	field("schedule", c.Schedule)
	field("last sync", when(c.LastSync))
	field("next sync", when(c.NextSync))
	field("seen", when(c.Seen))
	field("host", dash(c.Host))
	field("version", version(c.Version))
	field("owners", dash(strings.Join(c.Owners, ", ")))
	field("anomaly stop", map[bool]string{true: "on", false: "off"}[c.AnomalyStop])
	field("id", c.ID)
	for _, client := range c.Clients {
		field("client", client)
	}
	settings := map[string]string{}
	for _, name := range c.Secrets {
		settings[name] = "(secret)"
	}
	for name, value := range c.Settings {
		settings[name] = visible(cut(value, width))
	}
	for n, name := range slices.Sorted(maps.Keys(settings)) {
		if n == 0 {
			fmt.Fprintln(w, "settings")
		}
		fmt.Fprintf(w, "  %s = %s\n", name, settings[name])
	}
	if len(c.Syncs) == 0 {
		return
	}
	fmt.Fprintln(w)
	table := newTable("SYNC  ASKED FOR  STATE  CAUSE  TOOK")
	for _, s := range c.Syncs {
		l := row(s.ID, when(&s.Created), s.State, s.Cause, "–")
		if s.Kind != "full" {
			l.cells[2] += ", " + s.Kind
		}
		if s.Started != nil && s.Finished != nil {
			l.cells[4] = s.Finished.Sub(*s.Started).Round(10 * time.Millisecond).String()
		}
		if l.note = s.Error; l.note == "" && len(s.Changes) > 0 {
			l.note = "changes: " + changes(s.Changes)
		}
		table.add(l)
	}
	table.print(w)
	for _, s := range c.Syncs {
		if s.State == "held" {
			fmt.Fprintf(w, "\nThe sync of %s is held back.\n%s", when(&s.Created), wouldRemove(s.Anomaly))
			fmt.Fprintf(w, "`airlock connector confirm %q` applies it, `airlock connector discard %q` doesn't.\n", c.Name, c.Name)
		}
	}
}

// wouldRemove says what a sync that is held back would remove, in lines.
func wouldRemove(anomaly json.RawMessage) string {
	var held struct {
		Reasons []string
		Gone    []struct {
			Kind, Type string
			Have, Gone int64
			Names      []string
		}
	}
	if len(anomaly) == 0 || json.Unmarshal(anomaly, &held) != nil {
		return ""
	}
	var out strings.Builder
	for _, reason := range held.Reasons {
		for _, part := range wrap(reason, width) {
			fmt.Fprintln(&out, part)
		}
	}
	const mostNames = 10
	for _, g := range held.Gone {
		what := g.Kind
		if g.Type != "" {
			what += " (" + g.Type + ")"
		}
		words := fmt.Sprintf("%s, %d of %d: ", what, g.Gone, g.Have) + strings.Join(g.Names[:min(len(g.Names), mostNames)], ", ")
		if more := g.Gone - int64(min(len(g.Names), mostNames)); more > 0 && len(g.Names) > 0 {
			words += fmt.Sprintf(" and %d more", more)
		}
		for n, part := range wrap(words, width-4) {
			fmt.Fprintln(&out, map[bool]string{true: "  ", false: "    "}[n == 0]+part)
		}
	}
	return out.String()
}

// changes says in a few words what a sync changed.
func changes(text json.RawMessage) string {
	var all map[string]json.RawMessage
	if len(text) == 0 || json.Unmarshal(text, &all) != nil {
		return "–"
	}
	var parts []string
	for _, kind := range []string{"accounts", "resources", "entitlements", "grants", "types", "edges"} {
		var c struct{ Added, Changed, Removed int64 }
		if json.Unmarshal(all[kind], &c) != nil {
			continue
		}
		words := kind
		for _, one := range []struct {
			sign string
			n    int64
		}{{"+", c.Added}, {"~", c.Changed}, {"−", c.Removed}} {
			if one.n > 0 {
				words += fmt.Sprintf(" %s%d", one.sign, one.n)
			}
		}
		if words != kind {
			parts = append(parts, words)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (sh *shell) connectorAdd() *cobra.Command {
	request := admin.AddConnector{}
	var set, setFile []string
	cmd := &cobra.Command{
		Use: "add CATALOG-NAME --app NAME", Short: "add a connector, hosted here or elsewhere", Args: Exactly("CATALOG-NAME"), ValidArgsFunction: sh.kinds,
		Long: `Adds a connector and the app whose access it reports. CATALOG-NAME is the
binary's name without baton-.

With --hosted the server runs the connector itself, from the connectors folder;
its settings are given by --set, secrets better by --set-file, which reads the
value from a file (- is the standard input) and so keeps it out of the process
list and the shell's history. A setting of the kind file is the file's content:
it is given by --set-file too. ` + "`airlock connector catalog CATALOG-NAME`" + ` lists the
settings.

Without --hosted it prints the Client ID and the Client Secret with which the
connector is started elsewhere. The secret is shown this once: let the file that
takes it be yours alone, by umask 077.`,
		Example: `  airlock connector add airflow --app Airflow --hosted \
    --set airflow-base-url=https://airflow.example.com --set airflow-username=airlock \
    --set-file airflow-password=/run/secrets/airflow
  (umask 077; airlock connector add airflow --app "Airflow, Oslo" >oslo.env)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Catalog = args[0]
			settings, err := settings(set, setFile, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if len(settings) > 0 && !request.Hosted {
				return Usage("--set is for connectors that are hosted here: add --hosted, or give the settings to the connector where it runs")
			}
			request.Settings = settings
			var answer admin.Credentials
			if err := sh.client().Call(cmd.Context(), "connector/add", request, &answer, admin.Answer{}); err != nil {
				return err
			}
			if request.Hosted {
				return sh.object(answer.Connector, func(w io.Writer) {
					fmt.Fprintf(w, "%s: added; `airlock connector sync %q --wait` waits for its first sync\n", answer.Connector.Name, answer.Connector.Name)
				})
			}
			return sh.credentials(answer)
		},
	}
	flags := cmd.Flags()
	sh.appFlag(cmd, true, &request.App, "the app: a new one by its `name`, or one that has no connector yet")
	flags.StringVar(&request.Name, "name", "", "the connector's `name`, if not the app's")
	flags.StringArrayVar(&request.Owners, "owner", nil, "a person that owns it, by `e-mail`; may be repeated")
	flags.BoolVar(&request.Hosted, "hosted", false, "let this server run it")
	flags.BoolVar(&request.Directory, "directory", false, "its accounts are the people")
	flags.StringArrayVar(&set, "set", nil, "`key=value`, a setting by the connector's own flag name; may be repeated")
	flags.StringArrayVar(&setFile, "set-file", nil, "`key=file`, a setting whose value is read from a file; may be repeated")
	return cmd
}

// credentials prints what a self-hosted connector is started with, as lines that
// a shell, systemd and Kubernetes read.
func (sh *shell) credentials(answer admin.Credentials) error {
	err := sh.object(answer, func(w io.Writer) {
		fmt.Fprintf(w, "BATON_CLIENT_ID=%s\nBATON_CLIENT_SECRET=%s\n", answer.ClientID, answer.ClientSecret)
		if answer.CADir != "" {
			fmt.Fprintf(w, "SSL_CERT_DIR=%s\n", answer.CADir)
		}
	})
	if err != nil || sh.asJSON {
		return err
	}
	name := answer.Connector.Name
	fmt.Fprintf(sh.err, "The secret is shown this once. `airlock connector rotate %q` makes another.\n", name)
	if answer.CADir != "" {
		fmt.Fprintf(sh.err, "The server's CA is its own: on other machines SSL_CERT_DIR is a folder that holds %s alone.\n", answer.CADir+"/ca.pem")
	}
	if mode, open := readByOthers(sh.out); open {
		fmt.Fprintf(sh.err, "Others can read the file that this was written to (%s): chmod 600 it.\n", mode)
	}
	_, host, _ := strings.Cut(answer.ClientID, "@")
	host, _, _ = strings.Cut(host, "/")
	if admin.Local(host) {
		fmt.Fprintf(sh.err, "The Client ID names %s, which connectors on other machines can't reach: for one there, start the server\n"+
			"with AIRLOCK_PUBLIC_URL=https://… and make a new one by `airlock connector rotate %q`.\n", host, name)
	}
	return nil
}

// readByOthers reports whether what is written goes into a file that others can
// read.
func readByOthers(out any) (fs.FileMode, bool) {
	file, ok := out.(*os.File)
	if !ok {
		return 0, false
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&0o077 != 0
}

// settings reads key=value and key=file.
func settings(set, setFile []string, in io.Reader) (map[string]string, error) {
	all := map[string]string{}
	for _, pair := range set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, Usage("--set takes key=value, not %q", pair)
		}
		all[key] = value
	}
	for _, pair := range setFile {
		key, name, ok := strings.Cut(pair, "=")
		if !ok || key == "" || name == "" {
			return nil, Usage("--set-file takes key=file, not %q", pair)
		}
		value, err := readFile(name, in)
		if err != nil {
			return nil, Usage("--set-file %s: %w", key, err)
		}
		all[key] = content(value)
	}
	return all, nil
}

// readFile reads a file, or the standard input for -.
func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	file, err := open(name, "nothing was set")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// content is a file as the value of a setting: one line without its end, longer
// texts as they are, and what isn't text as a data URL, as the catalog has it.
func content(file []byte) string {
	if !utf8.Valid(file) || bytes.IndexByte(file, 0) >= 0 {
		return "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(file)
	}
	if end := bytes.IndexByte(file, '\n'); end == len(file)-1 && end >= 0 {
		return strings.TrimSuffix(string(file[:end]), "\r")
	}
	return string(file)
}

func (sh *shell) connectorSet() *cobra.Command {
	request := admin.SetConnector{}
	var set, setFile, owners []string
	var rename string
	var anomaly, debug bool
	cmd := &cobra.Command{
		Use: "set NAME --set key=value", Short: "change a connector's settings", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long: "Changes settings; what isn't named stays. A hosted connector is started anew with\n" +
			"its settings, and syncs. An --owner stands in place of all owners there are; with \"\"\nthere is none.",
		Example: "  airlock connector set Airflow --set-file airflow-password=/run/secrets/airflow\n  airlock connector set Airflow --rename Production --owner ann@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			var err error
			if request.Settings, err = settings(set, setFile, cmd.InOrStdin()); err != nil {
				return err
			}
			flags := cmd.Flags()
			if flags.Changed("rename") {
				request.Rename = &rename
			}
			if flags.Changed("owner") {
				owners = slices.DeleteFunc(owners, func(owner string) bool { return owner == "" })
				request.Owners = &owners
			}
			if flags.Changed("debug-log") {
				request.Debug = &debug
			}
			if flags.Changed("anomaly-stop") {
				request.AnomalyStop = &anomaly
			}
			return sh.did(cmd.Context(), "connector/set", request, "set")
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&set, "set", nil, "`key=value`; may be repeated")
	flags.StringArrayVar(&setFile, "set-file", nil, "`key=file`, the value is read from a file (- is the standard input); may be repeated")
	flags.StringArrayVar(&request.Unset, "unset", nil, "`key`, back to its default; may be repeated")
	flags.StringVar(&rename, "rename", "", "a new `name`")
	flags.StringArrayVar(&owners, "owner", nil, "the people that own it, by `e-mail`, instead of those that do; may be repeated")
	flags.BoolVar(&anomaly, "anomaly-stop", true, "hold back syncs that would remove much")
	flags.BoolVar(&debug, "debug-log", true, "take the connector's debug log with each sync")
	someOf(cmd, false, "set", "set-file", "unset", "rename", "owner", "anomaly-stop", "debug-log")
	return cmd
}

// did asks for a change of a connector, and says of it what was done.
func (sh *shell) did(ctx context.Context, call string, request any, done string) error {
	var connector admin.Connector
	if err := sh.client().Call(ctx, call, request, &connector, admin.Answer{}); err != nil {
		return err
	}
	return sh.object(connector, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", connector.Name, done) })
}

func (sh *shell) connectorSchedule() *cobra.Command {
	request := admin.ScheduleConnector{}
	cmd := &cobra.Command{
		Use: "schedule NAME --every 1h | --cron '0 3 * * *' --zone Europe/Oslo", Short: "when a connector syncs", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "Sets the interval, of half an hour or more, or a cron expression (minute hour\nday month weekday) with the zone its times are meant in.",
		Example: "  airlock connector schedule Airflow --every 30m\n  airlock connector schedule Airflow --cron '0 3 * * *' --zone Europe/Oslo",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			var connector admin.Connector
			if err := sh.client().Call(cmd.Context(), "connector/schedule", request, &connector, admin.Answer{}); err != nil {
				return err
			}
			return sh.object(connector, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s, next on %s\n", connector.Name, connector.Schedule, when(connector.NextSync))
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&request.Every, "every", 0, "interval, such as 30m or 24h")
	flags.StringVar(&request.Cron, "cron", "", "cron `expression` of five fields")
	flags.StringVar(&request.Zone, "zone", "", "the `zone` of --cron, such as Europe/Oslo (default UTC)")
	someOf(cmd, true, "every", "cron")
	return cmd
}

func (sh *shell) connectorPause() *cobra.Command {
	request := admin.PauseConnector{}
	cmd := &cobra.Command{
		Use: "pause NAME", Short: "stop a connector's syncs", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "Stops its syncs until `airlock connector resume`. Changes of access still go through\nit, and are verified by the sync after that.",
		Example: "  airlock connector pause Airflow --why \"upgrade on Sunday\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			return sh.did(cmd.Context(), "connector/pause", request, "paused")
		},
	}
	why(cmd, &request.Why)
	return cmd
}

func (sh *shell) connectorRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate NAME", Short: "make a new Client ID and Secret; the old ones end at once", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "For a connector that runs elsewhere: it is to be started anew with what this prints.\nA hosted one gets new credentials at each start by itself.",
		Example: "  (umask 077; airlock connector rotate \"Airflow, Oslo\" >oslo.env)",
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer admin.Credentials
			if err := sh.client().Call(cmd.Context(), "connector/rotate", admin.Named{Name: args[0]}, &answer, admin.Answer{}); err != nil {
				return err
			}
			return sh.credentials(answer)
		},
	}
}

func (sh *shell) connectorSync() *cobra.Command {
	request := admin.SyncConnector{}
	cmd := &cobra.Command{
		Use: "sync NAME", Short: "sync now", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long: `Asks for a sync, or joins the one under way. With --wait it follows the sync, also
while the connector hasn't called yet, and ends with 0 only when its result is in
the inventory: 3 says that it failed, 4 that it is held back, 5 that it wasn't over
in time.`,
		Example: "  airlock connector sync Airflow --wait --timeout 10m",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			return sh.follow(args[0], request.Wait, func(result any, answer admin.Answer) error {
				return sh.client().Call(cmd.Context(), "connector/sync", request, result, answer)
			})
		},
	}
	waits(cmd, &request.Wait, &request.Timeout, "wait until it is applied", "the sync goes on")
	return cmd
}

func (sh *shell) connectorConfirm() *cobra.Command {
	request := admin.Decide{}
	cmd := &cobra.Command{
		Use: "confirm NAME", Short: "apply the sync that was held back", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long: `Applies exactly the file that was held back, as ` + "`airlock connector show`" + ` tells of
it; what the target system holds by now comes with the next sync. NAME is the
connector's, or that of the app for which a file was brought by hand. Exit codes of
--wait are those of ` + "`airlock connector sync --wait`" + `.`,
		Example: "  airlock connector confirm Airflow --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			if !request.Wait {
				return sh.did(cmd.Context(), "connector/confirm", request, "confirmed: it is being applied")
			}
			return sh.follow(args[0], true, func(result any, answer admin.Answer) error {
				return sh.client().Call(cmd.Context(), "connector/confirm", request, result, answer)
			})
		},
	}
	waits(cmd, &request.Wait, &request.Timeout, "wait until it is applied", "the sync goes on")
	return cmd
}

func (sh *shell) connectorCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel NAME", Short: "cancel the sync under way", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "Cancels a sync that waits for the connector or that it still reads. What is being\napplied can't be cancelled any more.",
		Example: "  airlock connector cancel Airflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			var sync admin.Sync
			if err := sh.client().Call(cmd.Context(), "connector/cancel", admin.Named{Name: args[0]}, &sync, admin.Answer{}); err != nil {
				return err
			}
			return sh.object(sync, func(w io.Writer) { fmt.Fprintf(w, "%s: the sync is %s\n", args[0], sync.State) })
		},
	}
}

// follow calls for a sync, shows its progress, and tells how it ended.
func (sh *shell) follow(name string, wait bool, call func(result any, answer admin.Answer) error) error {
	var sync admin.Sync
	progress := sh.progress()
	err := call(&sync, admin.Answer{Progress: progress.show})
	progress.end()
	if err != nil {
		return waiting(err, "sync of "+name, progress.id, fmt.Sprintf("`airlock connector show %q` tells how it ended, `airlock connector sync %q --wait` joins it", name, name))
	}
	return sh.ended(sync, name, wait)
}

// ended prints how a sync ended, and makes the exit code of it.
func (sh *shell) ended(sync admin.Sync, name string, waited bool) error {
	err := sh.object(sync, func(w io.Writer) {
		switch {
		case sync.State == "applied":
			fmt.Fprintf(w, "%s: applied, changes: %s\n", name, changes(sync.Changes))
		case !waited:
			fmt.Fprintf(w, "%s: the sync is %s\n", name, sync.State)
		}
	})
	if err != nil || !waited {
		return err
	}
	switch sync.State {
	case "applied":
		return nil
	case "held":
		return exit{ExitHeld, fmt.Errorf("the sync of %s is held back, nothing was changed yet\n%s"+
			"`airlock connector confirm %q` applies it, `airlock connector discard %q` doesn't", name, wouldRemove(sync.Anomaly), name, name)}
	case "failed", "cancelled", "discarded":
		words := fmt.Sprintf("the sync of %s %s", name, map[string]string{
			"failed": "failed", "cancelled": "was cancelled", "discarded": "was discarded",
		}[sync.State])
		if sync.Error != "" {
			words += ": " + sync.Error
		}
		if !strings.Contains(sync.Error, "nothing was changed") {
			words += "; nothing was changed"
		}
		if sync.Next != "" {
			words += "; " + sync.Next
		}
		return exit{ExitFailed, errors.New(words)}
	}
	return exit{ExitTimeout, fmt.Errorf("the sync of %s is still %s, and goes on", name, sync.State)}
}

func (sh *shell) connectorLogs() *cobra.Command {
	request := admin.Logs{}
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "what a connector logged", Args: Exactly("NAME"), ValidArgsFunction: sh.connectors,
		Long:    "Shows the last lines that a hosted connector logged, the debug log of one that sends\nit, and what the server noted of either.",
		Example: "  airlock connector logs Airflow -f",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			if sh.asJSON && !request.Follow {
				return sh.array(cmd.Context(), "connector/logs", request)
			}
			return interrupted(sh.client().Call(cmd.Context(), "connector/logs", request, nil, admin.Answer{Row: func(text json.RawMessage) error {
				if sh.asJSON {
					_, err := fmt.Fprintf(sh.out, "%s\n", text)
					return err
				}
				var line admin.LogLine
				if err := json.Unmarshal(text, &line); err != nil {
					return err
				}
				words := fmt.Sprintf("%s %-5s %s%s", when(&line.At), line.Level, line.Message, fields(line.Fields))
				_, err := fmt.Fprintln(sh.out, visible(words))
				return err
			}}))
		},
	}
	cmd.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on with what it logs from now (with --json: one object a line)")
	last(cmd, &request.Last, 200, 1000, "so many lines from the end")
	return cmd
}

func (sh *shell) connectorFile() *cobra.Command {
	request := admin.SyncFile{}
	cmd := &cobra.Command{
		Use: "file NAME [SYNC] FILE", Short: "write what a connector sent for a sync into a file", ValidArgsFunction: sh.connectors,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return Usage("%s takes NAME FILE or NAME SYNC FILE; `%s --help` says more", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		Long: `Writes the .c1z file of a sync, as the connector uploaded it, or with --log its debug
log: of the SYNC with that id, or else of the newest that has one. - is the standard
output. The file holds all that the target system told: it is written for its owner
alone, and the audit log tells who took it. ` + "`airlock connector show`" + ` lists the syncs.`,
		Example: "  airlock connector file Airflow airflow.c1z\n  airlock connector file Airflow --log - | less",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Name = args[0]
			if len(args) == 3 {
				request.Sync = args[1]
			}
			return sh.toFile(cmd.Context(), args[len(args)-1], "connector/file", request)
		},
	}
	cmd.Flags().BoolVar(&request.Log, "log", false, "the debug log, which comes with --debug-log of connector set")
	return cmd
}

// fields are those of a log line that say something.
func fields(text json.RawMessage) string {
	var all map[string]any
	if json.Unmarshal(text, &all) != nil {
		return ""
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch value := all[name].(type) {
		case nil:
		case string:
			if value != "" && value != "<nil>" {
				fmt.Fprintf(&out, " %s=%q", name, value)
			}
		default:
			if short, err := json.Marshal(value); err == nil {
				fmt.Fprintf(&out, " %s=%s", name, short)
			}
		}
	}
	return out.String()
}
