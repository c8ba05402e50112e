package command

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"airlock/internal/edge/admin"
)

const (
	mostProposals  = 200
	completionTime = 2 * time.Second
)

var errEnough = errors.New("that is enough")

// propose completes a word by a field of the rows that a call answers, if a
// server runs.
func (sh *shell) propose(cmd *cobra.Command, call string, request any, field, begun string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	var names []string
	err := sh.client().Call(ctx, call, request, nil, admin.Answer{Row: func(text json.RawMessage) error {
		var row map[string]json.RawMessage
		var name string
		if err := json.Unmarshal(text, &row); err != nil {
			return err
		}
		if err := json.Unmarshal(row[field], &name); err != nil {
			return err
		}
		if strings.HasPrefix(name, begun) && visible(name) == name {
			names = append(names, name)
		}
		if len(names) >= mostProposals {
			return errEnough
		}
		return nil
	}})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// connectors completes the one argument by the connectors' names.
func (sh *shell) connectors(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return sh.propose(cmd, "connector/list", struct{}{}, "name", begun)
}

// kinds completes the one argument by the catalog's names.
func (sh *shell) kinds(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return sh.propose(cmd, "connector/catalog", struct{}{}, "name", begun)
}

// apps completes the one argument by the apps' names.
func (sh *shell) apps(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return sh.propose(cmd, "app/list", struct{}{}, "name", begun)
}

// inApp completes arguments by what an app has: each by the ids of one list.
func (sh *shell) inApp(lists ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		app, err := cmd.Flags().GetString("app")
		if err != nil || app == "" || len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return sh.propose(cmd, "export", admin.Export{What: lists[len(args)], App: app}, "external_id", begun)
	}
}

// appFlag adds the flag that names an app.
func (sh *shell) appFlag(cmd *cobra.Command, needed bool, app *string, usage string) {
	cmd.Flags().StringVar(app, "app", "", usage)
	if needed {
		if err := cmd.MarkFlagRequired("app"); err != nil {
			panic(err) // the flag isn't defined
		}
	}
	complete(cmd, "app", func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return sh.apps(cmd, nil, begun)
	})
}

// complete says how a flag's value is completed.
func complete(cmd *cobra.Command, flag string, by cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, by); err != nil {
		panic(err) // the flag isn't defined
	}
}

// choices completes a flag by fixed words.
func choices(cmd *cobra.Command, flag string, words ...string) {
	complete(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}
