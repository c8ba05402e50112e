package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"airlock/internal/edge/admin"
)

func (sh *shell) people() *cobra.Command {
	return group("people", "the people", &cobra.Command{
		Use: "import FILE.csv", Short: "take people from a CSV file", Args: Exactly("FILE.csv"), Example: "  airlock people import people.csv",
		Long: `Reads people from CSV in UTF-8: a row of headings, then one person a row, separated
by commas or semicolons. - is the standard input. Headings count in any case:

    email, username, employee_id   of these three each row has one
    name                           else one of these three stands for it
    department, job_title
    manager                        e-mail of somebody in the file, or known already
    status                         enabled (as who is new), disabled or deleted
    kind                           human (as who is new), service or system

Other columns are kept with the person. A row is about the person who has its
employee id, else its e-mail, else its username, or about somebody new. What it
says replaces what was known; an empty cell empties that, but for name, status and
kind. A column that isn't there changes nothing, nor does a person who isn't there:
one who left is a row with status deleted. Whom a directory tells of, the file only
adds to. An error changes nothing; all errors are told, by line.

Then all accounts, unless they were linked by hand, are matched to people anew, in
the background; ` + "`airlock export accounts`" + ` shows it: person and matched_by.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file := cmd.InOrStdin()
			if args[0] != "-" {
				opened, err := open(args[0], "nobody was imported")
				if err != nil {
					return err
				}
				defer opened.Close()
				file = opened
			}
			var result struct{ Added, Changed, Unchanged int }
			if err := sh.client().Upload(cmd.Context(), "people/import", struct{}{}, file, &result, admin.Answer{}); err != nil {
				return err
			}
			return sh.object(map[string]int{"added": result.Added, "changed": result.Changed, "unchanged": result.Unchanged}, func(w io.Writer) {
				fmt.Fprintf(w, "%d added, %d changed, %d as they were\n", result.Added, result.Changed, result.Unchanged)
			})
		},
	})
}

func (sh *shell) audit() *cobra.Command {
	request := admin.AuditTail{}
	tail := &cobra.Command{Use: "tail", Short: "the last events of the audit log", Args: Exactly(), Example: "  airlock audit tail -f", RunE: func(cmd *cobra.Command, _ []string) error {
		if sh.asJSON && !request.Follow {
			return sh.array(cmd.Context(), "audit/tail", request)
		}
		return interrupted(sh.client().Call(cmd.Context(), "audit/tail", request, nil, admin.Answer{Row: func(text json.RawMessage) error {
			if sh.asJSON {
				_, err := fmt.Fprintf(sh.out, "%s\n", text)
				return err
			}
			var e struct {
				Seq    int64
				At     time.Time
				Actor  struct{ Kind, Name string }
				Action string
				Object struct{ Kind, ID, Name string }
				Detail json.RawMessage
			}
			if err := json.Unmarshal(text, &e); err != nil {
				return err
			}
			w := readable{sh.out}
			fmt.Fprintf(w, "%6d  %s  %s %s %s\n", e.Seq, when(&e.At), visible(e.Actor.Name), e.Action, visible(e.Object.Name))
			if detail := string(e.Detail); detail != "" && detail != "null" && detail != "{}" {
				fmt.Fprintf(w, "        %s\n", cut(detail, width-8))
			}
			return nil
		}}))
	}}
	last(tail, &request.Last, 50, 1000, "so many events from the end")
	tail.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on with what happens from now (with --json: one object a line)")

	var output string
	export := &cobra.Command{
		Use: "export", Short: "the whole audit log, which `airlock audit verify` can check anywhere", Args: Exactly(),
		Long:    "Writes one JSON object a line: the log's key, then each entry and each signed\ncheckpoint. With -o, --json tells of the file that was written; without, it is refused.",
		Example: "  airlock audit export -o audit.jsonl\n  airlock audit verify audit.jsonl --checkpoints checkpoints.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sh.toFile(cmd.Context(), output, "audit/export", struct{}{})
		},
	}
	export.Flags().StringVarP(&output, "output", "o", "-", "the `file`; - is the standard output")
	return group("audit", "the audit log", tail, export, sh.auditVerify())
}

// open opens a file to read it, or says why it can't, and what wasn't done.
func open(name, undone string) (io.ReadCloser, error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return nil, Usage("%s is a folder, and a file is needed; %s", name, undone)
	}
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, Usage("%w; %s", unopened(name, err), undone)
	}
	return file, nil
}

// unopened says why a file can't be opened.
func unopened(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not open %s", name)
	}
	return err
}

// toFile writes what a call answers into a file, which is there only when it is
// whole; - is the standard output.
func (sh *shell) toFile(ctx context.Context, name, call string, request any) error {
	show := sh.progress()
	defer show.end()
	to := func(w io.Writer) error {
		return sh.client().Call(ctx, call, request, nil, admin.Answer{File: w, Progress: show.show})
	}
	if name == "-" {
		if sh.asJSON {
			return Usage("what this writes has a form of its own: leave --json away, or name a file, of which --json then tells")
		}
		return to(sh.out)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return Usage("%s is a folder: name the file to write; nothing was written", name)
	}
	part := name + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		return Usage("there is no folder %s; nothing was written", filepath.Dir(name))
	}
	if err != nil {
		return Usage("%w; nothing was written", unopened(part, err))
	}
	err = errors.Join(to(file), file.Sync())
	info, failed := file.Stat()
	if err = errors.Join(err, failed, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, name); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	show.end()
	return sh.object(map[string]any{"file": name, "bytes": info.Size()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d KB written\n", name, (info.Size()+1023)>>10)
	})
}

func (sh *shell) key() *cobra.Command {
	return group("key", "the key that seals secrets", &cobra.Command{
		Use: "rotate", Short: "seal all secrets with a new key", Args: Exactly(), Example: "  airlock key rotate",
		Long: `Makes a new key, seals every secret anew with it, and drops the old one. Where the
key comes from the environment, put the new key before the old one there, start
the servers anew, run this, and then take the old one away.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var result struct {
				Sealed int    `json:"sealed"`
				Words  string `json:"words"`
			}
			progress := sh.progress()
			err := sh.client().Call(cmd.Context(), "key/rotate", struct{}{}, &result, admin.Answer{Progress: progress.show})
			progress.end()
			if err != nil {
				return err
			}
			return sh.object(result, func(w io.Writer) {
				fmt.Fprintf(w, "%s sealed anew. %s\n", admin.Count(result.Sealed, "secret"), result.Words)
			})
		},
	})
}

func (sh *shell) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "write all there is into one file", Args: Exactly("FILE"), Example: "  airlock backup airlock-backup.db",
		Long: `Writes the whole database into one file that ` + "`airlock restore`" + ` reads, on SQLite and
PostgreSQL alike, while the server runs. Secrets in it stay sealed, and the key
isn't in it: keep a copy of the key elsewhere.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.toFile(cmd.Context(), args[0], "backup", struct{}{})
		},
	}
}
