package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Inclusion proves that an entry is in the log of a checkpoint.
type Inclusion struct {
	Record string           `json:"record"` // the entry, as it is hashed
	Seq    int64            `json:"seq"`
	Size   int64            `json:"size"`
	Path   tlog.RecordProof `json:"path"` // base64 hashes, from the leaf up
}

// Check checks the proof against the root of a checkpoint that was opened. It
// needs no database.
func (p Inclusion) Check(checkpoint Checkpoint) error {
	if p.Size != checkpoint.Size {
		return fmt.Errorf("the proof is for a log of %d entries, and the checkpoint for one of %d", p.Size, checkpoint.Size)
	}
	entry, err := parseRecord([]byte(p.Record))
	if err != nil {
		return fmt.Errorf("the proof's entry can't be read: %w", err)
	}
	if entry.Seq != p.Seq {
		return fmt.Errorf("the proof is for entry %d, and what it holds is entry %d", p.Seq, entry.Seq)
	}
	if err := tlog.CheckRecord(p.Path, p.Size, checkpoint.Root, p.Seq, tlog.RecordHash([]byte(p.Record))); err != nil {
		return fmt.Errorf("entry %d isn't in the log of that checkpoint: %w", p.Seq, err)
	}
	return nil
}

// Consistency proves that a log has only grown from one checkpoint to another.
type Consistency struct {
	Old  int64          `json:"old"`
	New  int64          `json:"new"`
	Path tlog.TreeProof `json:"path"`
}

// Check checks the proof against two checkpoints that were opened. It needs no
// database.
func (p Consistency) Check(old, grown Checkpoint) error {
	if p.Old != old.Size || p.New != grown.Size {
		return fmt.Errorf("the proof is for sizes %d and %d, and the checkpoints have %d and %d", p.Old, p.New, old.Size, grown.Size)
	}
	if err := tlog.CheckTree(p.Path, p.New, grown.Root, p.Old, old.Root); err != nil {
		return fmt.Errorf("the log of %d entries doesn't begin with that of %d: %w", p.New, p.Old, err)
	}
	return nil
}
