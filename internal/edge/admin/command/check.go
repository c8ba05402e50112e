package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// check adds to what is checked of a command line before anything is done.
func check(cmd *cobra.Command, more func(cmd *cobra.Command, args []string) error) {
	before := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := before(cmd, args); err != nil {
			return err
		}
		return more(cmd, args)
	}
}

// needed finds flags that are needed and aren't there.
func needed(cmd *cobra.Command) error {
	var missing []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if len(flag.Annotations[cobra.BashCompOneRequiredFlag]) > 0 && !flag.Changed {
			value, _ := pflag.UnquoteUsage(flag)
			missing = append(missing, "--"+flag.Name+" "+strings.ToUpper(value))
		}
	})
	if len(missing) > 0 {
		return Usage("%s needs %s; `%s --help` says more", cmd.CommandPath(), strings.Join(missing, ", "), cmd.CommandPath())
	}
	return nil
}

// someOf wants at least one of some flags, or exactly one.
func someOf(cmd *cobra.Command, one bool, names ...string) {
	cmd.MarkFlagsOneRequired(names...) // shells propose them
	check(cmd, func(cmd *cobra.Command, _ []string) error {
		given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !cmd.Flags().Changed(name) })
		switch all := "--" + strings.Join(names[:len(names)-1], ", --") + " and --" + names[len(names)-1]; {
		case len(given) == 0 && one:
			return Usage("%s takes one of %s; `%s --help` says more", cmd.CommandPath(), all, cmd.CommandPath())
		case len(given) == 0:
			return Usage("%s changes nothing without one of %s; `%s --help` says more", cmd.CommandPath(), all, cmd.CommandPath())
		case len(given) > 1 && one:
			return Usage("--%s go against each other: give one of them", strings.Join(given, " and --"))
		}
		return nil
	})
}

// last adds the flag that says how many there should be at most.
func last(cmd *cobra.Command, to *int, usual, most int, usage string) {
	*to = usual
	cmd.Flags().VarP(number{to, most}, "last", "n", usage)
}

// number is a flag's value of 1 and more.
type number struct {
	to   *int
	most int
}

func (n number) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 || value > n.most {
		return fmt.Errorf("it is a number from 1 to %d", n.most)
	}
	*n.to = value
	return nil
}

func (n number) String() string {
	if n.to == nil {
		return ""
	}
	return strconv.Itoa(*n.to)
}

// Type is how the help calls the value.
func (n number) Type() string { return "number" }

// waits adds the flags that make a command wait.
func waits(cmd *cobra.Command, wait *bool, timeout *time.Duration, until, goesOn string) {
	cmd.Flags().BoolVar(wait, "wait", false, until)
	cmd.Flags().Var(patience{timeout}, "timeout", "with --wait: give up waiting after this time, 0 is never; "+goesOn)
	check(cmd, func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("timeout") && !*wait {
			return Usage("--timeout goes with --wait: without that nothing is waited for")
		}
		return nil
	})
}

// patience is a flag's value of how long to wait.
type patience struct{ to *time.Duration }

func (p patience) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil || value < 0 {
		return errors.New("it is a time such as 90s, 10m or 1h; 0 waits without end")
	}
	*p.to = value
	return nil
}

func (p patience) String() string {
	if p.to == nil || *p.to == 0 {
		return ""
	}
	return p.to.String()
}

// Type is how the help calls the value.
func (p patience) Type() string { return "duration" }

// longestWhy is how long a reason may be, in bytes.
const longestWhy = 1000

// why adds the flag that gives a reason.
func why(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "why", "", "the `reason`, for the audit log")
	check(cmd, func(*cobra.Command, []string) error {
		if len(*to) > longestWhy {
			return Usage("--why has %d bytes, and may have %d; nothing was changed", len(*to), longestWhy)
		}
		return nil
	})
}

// help says what a command does.
func help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "what a command does, and takes", Example: "  airlock help connector add",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return Usage("there is no command %q; `airlock --help` lists them", "airlock "+strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

var shells = []string{"bash", "fish", "powershell", "zsh"}

// completion writes what lets a shell complete commands and names.
func (sh *shell) completion() *cobra.Command {
	return &cobra.Command{
		Use: "completion {" + strings.Join(shells, ",") + "}", Short: "a script that lets a shell complete commands and names",
		Long:      "Names of apps, connectors, entitlements and accounts come from the server, where one\nruns.",
		Example:   "  source <(airlock completion bash)\n  airlock completion fish >~/.config/fish/completions/airlock.fish",
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return Usage("%s takes the name of a shell, one of %s", cmd.CommandPath(), strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(sh.out, true)
			case "fish":
				return root.GenFishCompletion(sh.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(sh.out)
			}
			return root.GenZshCompletion(sh.out)
		},
	}
}
