package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"airlock/internal/base/fault"
)

// Report is what a verification found.
type Report struct {
	Log         string    `json:"log"`
	Key         string    `json:"key"`         // public, name+hash+key
	KeyGiven    bool      `json:"key_given"`   // whoever verified knew the key; else it is the one that the log itself names
	Size        int64     `json:"size"`        // entries
	First       time.Time `json:"first"`       // time of the first entry
	Last        time.Time `json:"last"`        // time of the last entry
	Checkpoints int       `json:"checkpoints"` // of the log's own, that match
	Outside     int       `json:"outside"`     // kept outside of the database, that match
	Covered     int64     `json:"covered"`     // entries that the last matching checkpoint covers
	Gaps        []Gap     `json:"gaps"`
	Tampered    string    `json:"tampered"` // the first place where tampering is seen, in words; or ''
	Unproved    string    `json:"unproved"` // why the file of checkpoints that was given proves nothing, in words; or ''
}

// Gap is what the log lost when an older backup was restored.
type Gap struct {
	From     int64     `json:"from"`     // the first entry that was lost
	To       int64     `json:"to"`       // the last one that is known to have been there
	Restored time.Time `json:"restored"` // when the backup was restored
}

// Sound reports whether nothing was altered or taken out, as far as what was
// given can show it. A restored backup leaves a gap, which is no tampering.
func (r Report) Sound() bool { return r.Tampered == "" && r.Unproved == "" }

// Verdict says in words what was found.
func (r Report) Verdict() string {
	switch {
	case r.Tampered != "":
		return "The log was tampered with: " + r.Tampered + "."
	case r.Unproved != "":
		return "The log wasn't checked against checkpoints from outside: " + r.Unproved + "."
	}
	if r.Size == 0 {
		return "The log is empty."
	}
	words := []string{fmt.Sprintf("The log is sound: %d entries from %s to %s, which agree with %s of its own and %s kept outside.",
		r.Size, r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), count(r.Checkpoints, "checkpoint"), count(r.Outside, "checkpoint"))}
	for _, gap := range r.Gaps {
		words = append(words, fmt.Sprintf("An older backup was restored at %s: at least the entries %d to %d as they were before are lost.",
			gap.Restored.Format(time.RFC3339), gap.From, gap.To))
	}
	if open := r.Size - r.Covered; open > 0 {
		words = append(words, fmt.Sprintf("No checkpoint covers the last %d yet.", open))
	}
	if r.Outside == 0 {
		words = append(words, "Without a checkpoint from outside, a log that was rewritten and signed again by whoever holds the server's key can't be told from this one.")
	}
	if !r.KeyGiven {
		words = append(words, "The key is the one that the log itself names; compare it with the one you know: "+r.Key+".")
	}
	return strings.Join(words, " ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// VerifyOptions is what a verification is measured by.
type VerifyOptions struct {
	Key         string    // the log's public key, where it is known
	Checkpoints io.Reader // the file of checkpoints that was kept outside, or nil
}

// actionRestored is the action of the entry that follows a restored backup.
const actionRestored = "server.restored"

// restored is the detail of such an entry.
type restored struct {
	Size int64 `json:"size"` // entries that the backup had
}

// restore is a place where an older backup took over.
type restore struct {
	size int64
	at   time.Time
}

// restoreOf reads such an entry. It counts only right behind what the backup
// had: elsewhere it could excuse what was done to earlier entries.
func restoreOf(e Entry) (restore, bool) {
	var detail restored
	if e.Action != actionRestored || json.Unmarshal(e.Detail, &detail) != nil || detail.Size != e.Seq {
		return restore{}, false
	}
	return restore{size: e.Seq, at: e.At}, true
}

// checker follows a log from its first entry, in little memory, and keeps the
// first thing that is wrong.
type checker struct {
	report   Report
	verifier note.Verifier
	tree     tree
	outside  []Checkpoint // from the file, by size; those that come are behind the tree's size
	unproved string       // why the file has none that could be compared
	restores []restore
}

// newChecker reads the checkpoints from outside. The checker's report tells if
// they are wrong.
func newChecker(verifier note.Verifier, public string, options VerifyOptions) (*checker, error) {
	c := &checker{verifier: verifier, report: Report{Log: verifier.Name(), Key: public, KeyGiven: options.Key != "", Gaps: []Gap{}}}
	if options.Checkpoints == nil {
		return c, nil
	}
	number, foreign := 0, ""
	err := readNotes(options.Checkpoints, func(signed string) error {
		number++
		checkpoint, err := openCheckpoint(verifier, signed)
		if err != nil {
			foreign = cmp.Or(foreign, fmt.Sprintf("checkpoint %d of the file from outside: %v", number, err))
			return nil
		}
		checkpoint.Note = "" // there may be very many
		c.outside = append(c.outside, checkpoint)
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch {
	case number == 0:
		c.unproved = "the file of checkpoints holds none at all; give a copy of this log's own checkpoints.txt"
	case len(c.outside) == 0: // as a file of another server's is
		c.unproved = fmt.Sprintf("none of the %d in the file is signed by the key of %s: the file is of another log, or this log isn't the one it was", number, verifier.Name())
	case foreign != "":
		c.foundf("%s", foreign)
	}
	slices.SortStableFunc(c.outside, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	c.reach()
	return c, nil
}

func (c *checker) foundf(format string, args ...any) {
	if c.report.Tampered == "" {
		c.report.Tampered = fmt.Sprintf(format, args...)
	}
}

// entry takes the next entry, and what is hashed of it. It returns the hashes
// that belong to it.
func (c *checker) entry(e Entry, record []byte) []tlog.Hash {
	if e.Seq != c.tree.size {
		c.foundf("entry %d should follow, and entry %d does: what is between was taken out or moved", c.tree.size, e.Seq)
	}
	if c.report.Size == 0 {
		c.report.First = e.At
	}
	c.report.Size, c.report.Last = c.tree.size+1, e.At
	if restored, ok := restoreOf(e); ok {
		c.restores = append(c.restores, restored)
	}
	stored := c.tree.add(tlog.RecordHash(record))
	c.reach()
	return stored
}

// reach compares those from outside that have the size that is reached.
func (c *checker) reach() {
	for len(c.outside) > 0 && c.outside[0].Size <= c.tree.size {
		c.fromOutside(c.outside[0])
		c.outside = c.outside[1:]
	}
}

// checkpoint takes a checkpoint of the log's own.
func (c *checker) checkpoint(signed string) {
	checkpoint, err := openCheckpoint(c.verifier, signed)
	switch {
	case err != nil:
		c.foundf("the checkpoint after entry %d: %v", c.tree.size-1, err)
	case checkpoint.Size != c.tree.size:
		c.foundf("the checkpoint of %d entries is where %d entries are", checkpoint.Size, c.tree.size)
	case checkpoint.Root != c.tree.root():
		c.foundf("an entry from %d to %d isn't what it was when the checkpoint of %s was signed",
			c.report.Covered, checkpoint.Size-1, checkpoint.At.Format(time.RFC3339))
	default:
		c.report.Checkpoints++
		c.report.Covered = max(c.report.Covered, checkpoint.Size)
	}
}

// fromOutside compares a checkpoint that was kept outside with the log, which
// has reached its size or ended before it.
func (c *checker) fromOutside(checkpoint Checkpoint) {
	if checkpoint.Size == c.tree.size && checkpoint.Root == c.tree.root() {
		c.report.Outside++
		c.report.Covered = max(c.report.Covered, checkpoint.Size)
		return
	}
	if from, ok := excuse(c.restores, checkpoint); ok {
		c.gap(from, checkpoint.Size-1)
		return
	}
	if checkpoint.Size > c.tree.size {
		c.foundf("a checkpoint that was kept outside says that the log had %d entries at %s, and it has %d",
			checkpoint.Size, checkpoint.At.Format(time.RFC3339), c.tree.size)
		return
	}
	c.foundf("an entry from %d to %d isn't what it was when the checkpoint of %s was signed, that was kept outside: the log was rewritten",
		c.report.Covered, checkpoint.Size-1, checkpoint.At.Format(time.RFC3339))
}

// excuse finds the restored backup because of which the log isn't as a
// checkpoint says: one that had fewer entries, and was restored later.
func excuse(restores []restore, checkpoint Checkpoint) (restore, bool) {
	for _, restored := range restores {
		if restored.size < checkpoint.Size && !checkpoint.At.After(restored.at) {
			return restored, true
		}
	}
	return restore{}, false
}

func (c *checker) gap(restored restore, to int64) {
	for n := range c.report.Gaps {
		if gap := &c.report.Gaps[n]; gap.From == restored.size && gap.Restored.Equal(restored.at) {
			gap.To = max(gap.To, to)
			return
		}
	}
	c.report.Gaps = append(c.report.Gaps, Gap{From: restored.size, To: to, Restored: restored.at})
}

// end compares what is left from outside.
func (c *checker) end() Report {
	for _, checkpoint := range c.outside {
		c.fromOutside(checkpoint)
	}
	c.outside = nil
	if c.report.Checkpoints > 0 && c.report.Size > 0 { // before the first one there is none to be kept outside
		c.report.Unproved = c.unproved
	}
	return c.report
}

// header is the first line of an export.
type header struct {
	Log  string `json:"log"`  // its name
	Key  string `json:"key"`  // its public key, name+hash+key
	Size int64  `json:"size"` // entries in the export
	At   string `json:"at"`
}

// signedLine is a line of an export that is a checkpoint.
type signedLine struct {
	Checkpoint string `json:"checkpoint"`
}

// maxLine is the most that a line of an export may have: a detail of the
// greatest size, whose escapes don't count twice, and the rest of an entry.
const maxLine = maxDetail + 1<<20

// VerifyExport checks a log that Export wrote. It needs no database: it computes
// the tree again, and compares it with every checkpoint in the file and with
// those that were kept outside, which show it where the whole database was
// rewritten and signed again. An error says that the check couldn't be made; what the
// check found is in the report.
func VerifyExport(r io.Reader, options VerifyOptions) (Report, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	if !lines.Scan() {
		if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
			return Report{}, fmt.Errorf("read the export: %w", err)
		}
		return Report{}, fault.New(fault.Invalid, "this isn't an export of an audit log: its first line should name the log and its key")
	}
	var head header
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil || head.Log == "" || head.Size < 0 {
		return Report{}, fault.New(fault.Invalid, "this isn't an export of an audit log: its first line should name the log and its key")
	}
	public := options.Key
	if public == "" {
		public = head.Key
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return Report{}, fault.New(fault.Invalid, "the key of the log isn't written name+hash+key: %q", public)
	}
	c, err := newChecker(verifier, public, options)
	if err != nil {
		return Report{}, err
	}
	if head.Key != public || head.Log != verifier.Name() {
		c.foundf("the export is of the log %q with the key %q, and the key that is known is %q", head.Log, head.Key, public)
	}
	last := int64(-1) // size of the checkpoint in the line before
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, []byte(`{"checkpoint":`)) {
			var signed signedLine
			if err := json.Unmarshal(line, &signed); err != nil {
				c.foundf("the checkpoint after entry %d can't be read", c.tree.size-1)
			}
			c.checkpoint(signed.Checkpoint)
			last = c.tree.size
			continue
		}
		entry, err := parseRecord(line)
		if err != nil {
			c.foundf("what should be entry %d can't be read: %v", c.tree.size, err)
			break
		}
		c.entry(entry, line)
		last = -1
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.foundf("what should be entry %d is too long", c.tree.size)
	} else if err != nil {
		return Report{}, fmt.Errorf("read the export: %w", err)
	}
	if c.tree.size != head.Size {
		c.foundf("the export says that it has %d entries, and it has %d", head.Size, c.tree.size)
	}
	if last != head.Size {
		c.foundf("the export was cut off: it doesn't end with the checkpoint of its %d entries", head.Size)
	}
	return c.end(), nil
}
