package command

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"airlock/internal/audit"
	"airlock/internal/edge/admin"
)

func (sh *shell) auditVerify() *cobra.Command {
	var key, checkpoints string
	cmd := &cobra.Command{
		Use: "verify [FILE]", Short: "check that nothing was altered in the audit log, or taken out of it", Args: optional("FILE"),
		Example: "  airlock audit verify\n  airlock audit verify audit.jsonl --checkpoints checkpoints.txt --key airlock.example.com+1a2b3c4d+AQ…",
		Long: `Without a file it checks the live log. With a file that ` + "`airlock audit export`" + ` wrote it
needs no server and no network: it builds the log's tree anew and holds it
against the signed checkpoints in the file and, better, against those that were
kept elsewhere (--checkpoints) and the key that is known from before (--key).

It ends with 0 when the log is sound, and with 3 when it was tampered with.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var report audit.Report
			if len(args) == 0 {
				if key != "" || checkpoints != "" {
					return Usage("--key and --checkpoints go with a file; the live log is checked against the server's own")
				}
				progress := sh.progress()
				err := sh.client().Call(cmd.Context(), "audit/verify", struct{}{}, &report, admin.Answer{Progress: progress.show})
				progress.end()
				if err != nil {
					return err
				}
				return sh.verdict(report)
			}
			options := audit.VerifyOptions{Key: key}
			if checkpoints != "" {
				file, err := open(checkpoints, "nothing was checked")
				if err != nil {
					return err
				}
				defer file.Close()
				options.Checkpoints = file
			}
			file, err := open(args[0], "nothing was checked")
			if err != nil {
				return err
			}
			defer file.Close()
			if report, err = audit.VerifyExport(file, options); err != nil {
				return err
			}
			return sh.verdict(report)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the log's public `key`, as it is known from before")
	cmd.Flags().StringVar(&checkpoints, "checkpoints", "", "a `file` of checkpoints that was kept elsewhere, such as a copy of checkpoints.txt")
	return cmd
}

func (sh *shell) verdict(report audit.Report) error {
	if err := sh.object(report, func(w io.Writer) {
		if report.Sound() {
			fmt.Fprintln(w, report.Verdict())
		}
	}); err != nil {
		return err
	}
	if !report.Sound() {
		return exit{ExitFailed, errors.New(report.Verdict())}
	}
	return nil
}
