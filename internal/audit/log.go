package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/base/trace"
)

// Topic is told of whenever the log has grown.
const Topic = "audit"

// ErrTampered is within each error that says that the log isn't what it was.
var ErrTampered = errors.New("the audit log was tampered with")

func tamperedf(format string, args ...any) error {
	return fault.New(fault.Internal, "%w: %s", ErrTampered, fmt.Sprintf(format, args...))
}

// Log is the audit log.
type Log struct {
	db      *db.DB
	vault   *seal.Vault
	clock   clock.Clock
	options Options

	checkpointing sync.Mutex // one checkpoint at a time
	outside       Checkpoint // the last one in the file; guarded by checkpointing
	read          bool       // the file was looked at; guarded by checkpointing

	keyed  sync.Mutex
	signed *key // what checkpoints are signed with, once it was needed; guarded by keyed
}

// Options are what a log has beside its database; all may be absent.
type Options struct {
	File    string            // checkpoints are appended to it, so that they lie outside of the database
	Live    *live.Hub         // is told of Topic
	Log     *slog.Logger      // gets a line with each checkpoint
	MayRead func(Actor) error // says who may read the log, as identity.Can does; without it only operator and system may
}

// New opens the log. It fails if the file of checkpoints can't be written.
func New(d *db.DB, v *seal.Vault, c clock.Clock, o Options) (*Log, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MayRead == nil {
		o.MayRead = func(a Actor) error {
			if a.Kind == "operator" || a.Kind == "system" {
				return nil
			}
			return fault.New(fault.Forbidden, "%s %q may not read the audit log", a.Kind, a.Name)
		}
	}
	if o.File != "" {
		file, err := openFile(o.File)
		if err != nil {
			return nil, fmt.Errorf("open the file of audit checkpoints: %w", err)
		}
		if err := file.Close(); err != nil {
			return nil, fmt.Errorf("open the file of audit checkpoints: %w", err)
		}
	}
	return &Log{db: d, vault: v, clock: c, options: o}, nil
}

// Append writes an event, in the transaction of the change that it tells of. A
// transaction appends last, since all others that append wait for its end.
func (l *Log) Append(ctx context.Context, tx *db.Tx, e Event) error {
	detail, err := encodeDetail(e.Detail)
	if err != nil {
		return fmt.Errorf("append %s to the audit log: %w", e.Action, err)
	}
	request := trace.ID(ctx, "request")
	if request == "" {
		request = trace.ID(ctx, "task")
	}
	seq, err := reserve(ctx, tx)
	if err != nil {
		return fmt.Errorf("append %s to the audit log: %w", e.Action, err)
	}
	entry := Entry{
		Seq: seq, ID: id.New(), At: l.clock.Now(),
		Actor:     Actor{Kind: clean(e.Actor.Kind), ID: clean(e.Actor.ID), Name: clean(e.Actor.Name)},
		Action:    clean(e.Action),
		Object:    Object{Kind: clean(e.Object.Kind), ID: clean(e.Object.ID), Name: clean(e.Object.Name)},
		AppID:     clean(e.AppID),
		RequestID: clean(request),
		Detail:    detail,
	}
	if err := insertEntry(ctx, tx, entry); err != nil {
		return fmt.Errorf("append %s to the audit log: %w", e.Action, err)
	}
	list, err := tlog.StoredHashes(seq, entry.Record(), hashes(ctx, tx))
	if err != nil {
		return fmt.Errorf("append %s to the audit log: %w", e.Action, err)
	}
	if err := insertHashes(ctx, tx, tlog.StoredHashIndex(0, seq), list); err != nil {
		return fmt.Errorf("append %s to the audit log: %w", e.Action, err)
	}
	if l.options.Live == nil {
		return nil
	}
	return l.options.Live.Publish(ctx, tx, Topic)
}

// AppendRestored writes that the database is one from an older backup. It must
// be the first entry after those of the backup: verifiers then report what came
// after the backup as a gap.
func (l *Log) AppendRestored(ctx context.Context, tx *db.Tx, actor Actor, object Object) error {
	size, err := headSize(ctx, tx)
	if err != nil {
		return fmt.Errorf("append the restore to the audit log: %w", err)
	}
	return l.Append(ctx, tx, Event{Actor: actor, Action: actionRestored, Object: object, Detail: restored{Size: size}})
}

// Filter says which entries are wanted; what is empty doesn't limit.
type Filter struct {
	ActorID    string
	Action     string
	ObjectKind string
	ObjectID   string
	AppID      string
	From       int64 // place of the oldest that is wanted
	Before     int64 // only those before this place: of the last entry of the page before
	Limit      int   // 100 unless told, 1000 at most
}

// List reads entries, newest first.
func (l *Log) List(ctx context.Context, actor Actor, f Filter) ([]Entry, error) {
	if err := l.options.MayRead(actor); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	list, err := listEntries(ctx, l.db, f)
	if err != nil {
		return nil, fmt.Errorf("list the audit log: %w", err)
	}
	return list, nil
}

const pageSize = 500

// Follow hands over the entries from a place on, oldest first, and then each
// one that comes, until the context ends or a function fails.
func (l *Log) Follow(ctx context.Context, actor Actor, from int64, each func(Entry) error) error {
	if err := l.options.MayRead(actor); err != nil {
		return err
	}
	news := l.options.Live.Subscribe(Topic)
	defer news.Close()
	for {
		next, err := l.page(ctx, from, math.MaxInt64, each)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case next > from:
			from = next
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news.C():
		}
	}
}

// page hands over some entries, and returns the place behind them.
func (l *Log) page(ctx context.Context, from, before int64, each func(Entry) error) (int64, error) {
	page, err := entriesFrom(ctx, l.db, from, before, pageSize)
	if err != nil {
		return from, fmt.Errorf("read the audit log from entry %d: %w", from, err)
	}
	for _, entry := range page {
		if err := each(entry); err != nil {
			return from, err
		}
		from = entry.Seq + 1
	}
	return from, nil
}

// ProveInclusion proves that an entry is in the log of a checkpoint's size.
func (l *Log) ProveInclusion(ctx context.Context, actor Actor, seq, size int64) (Inclusion, error) {
	if err := l.options.MayRead(actor); err != nil {
		return Inclusion{}, err
	}
	proof := Inclusion{Seq: seq, Size: size}
	err := l.db.Read(ctx, func(s *db.Snapshot) error {
		head, err := headSize(ctx, s)
		if err != nil {
			return err
		}
		if seq < 0 || seq >= size || size > head {
			return fault.New(fault.NotFound, "there is no proof of entry %d in a log of %d entries: it has %d", seq, size, head)
		}
		entry, err := entryBySeq(ctx, s, seq)
		if err != nil {
			return err
		}
		proof.Record = string(entry.Record())
		proof.Path, err = tlog.ProveRecord(size, seq, hashes(ctx, s))
		return err
	})
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	return proof, nil
}

// ProveConsistency proves that the log has only grown from one size to another.
func (l *Log) ProveConsistency(ctx context.Context, actor Actor, old, grown int64) (Consistency, error) {
	if err := l.options.MayRead(actor); err != nil {
		return Consistency{}, err
	}
	proof := Consistency{Old: old, New: grown}
	err := l.db.Read(ctx, func(s *db.Snapshot) error {
		head, err := headSize(ctx, s)
		if err != nil {
			return err
		}
		if old < 1 || old > grown || grown > head {
			return fault.New(fault.NotFound, "there is no proof from %d to %d entries: the log has %d", old, grown, head)
		}
		proof.Path, err = tlog.ProveTree(grown, old, hashes(ctx, s))
		return err
	})
	if err != nil {
		return Consistency{}, fmt.Errorf("prove that the log has grown: %w", err)
	}
	return proof, nil
}

// Key is the public key of the log, name+hash+key, by which its checkpoints can
// be checked.
func (l *Log) Key(ctx context.Context) (string, error) {
	key, err := l.key(ctx)
	if err != nil {
		return "", err
	}
	return key.public, nil
}

func (l *Log) key(ctx context.Context) (*key, error) {
	l.keyed.Lock()
	defer l.keyed.Unlock()
	if l.signed != nil {
		return l.signed, nil
	}
	secret, err := l.vault.Make(ctx, "audit/key", newKey)
	if err != nil {
		return nil, fmt.Errorf("get the audit log's key: %w", err)
	}
	l.signed, err = openKey(string(secret))
	if err != nil {
		return nil, fmt.Errorf("read the audit log's key: %w", err)
	}
	return l.signed, nil
}

// Checkpoint signs what the log is now, if it has grown since the last time. It
// signs nothing that isn't a continuation of the last checkpoint, in the
// database and in the file, and then says ErrTampered.
func (l *Log) Checkpoint(ctx context.Context) error {
	l.checkpointing.Lock()
	defer l.checkpointing.Unlock()
	key, err := l.key(ctx)
	if err != nil {
		return err
	}
	if err := l.readOutside(key); err != nil {
		return err
	}
	now, last, err := l.next(ctx, key)
	if err != nil {
		return fmt.Errorf("sign no checkpoint of the audit log: %w", err)
	}
	if now.Size > last.Size {
		now, err = key.sign(now.Size, now.Root, l.clock.Now())
		if err != nil {
			return err
		}
		err = l.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := insertCheckpoint(ctx, tx, now); err != nil {
				return err
			}
			signed, err := latestNote(ctx, tx) // another server's, if it was quicker
			if err != nil {
				return err
			}
			last, err = openCheckpoint(key.verifier, signed)
			return err
		})
		if err != nil {
			return fmt.Errorf("keep a checkpoint of the audit log: %w", err)
		}
	}
	if last.Note == l.outside.Note {
		return nil
	}
	return l.writeOutside(ctx, last)
}

// next reads what the log is now, and the last checkpoint; it fails if the log
// isn't a continuation of that, or of the one in the file.
func (l *Log) next(ctx context.Context, key *key) (now, last Checkpoint, err error) {
	err = l.db.Read(ctx, func(s *db.Snapshot) error {
		if now.Size, err = headSize(ctx, s); err != nil {
			return err
		}
		signed, err := latestNote(ctx, s)
		if err != nil {
			return err
		}
		if signed != "" {
			if last, err = openCheckpoint(key.verifier, signed); err != nil {
				return tamperedf("its last checkpoint: %v", err)
			}
		}
		if now.Root, err = tlog.TreeHash(now.Size, hashes(ctx, s)); err != nil {
			return err
		}
		if err := continues(ctx, s, now, last); err != nil {
			return err
		}
		outside := continues(ctx, s, now, l.outside)
		if outside == nil {
			return nil
		}
		restores, err := restoresIn(ctx, s)
		if err != nil {
			return err
		}
		if _, ok := excuse(restores, l.outside); ok {
			return nil
		}
		return outside
	})
	return now, last, err
}

// continues fails unless the log begins with that of a checkpoint.
func continues(ctx context.Context, q db.Querier, now, last Checkpoint) error {
	if last.Size == 0 {
		return nil
	}
	if last.Size > now.Size {
		return tamperedf("it had %d entries at %s, and has %d", last.Size, last.At.Format(time.RFC3339), now.Size)
	}
	path, err := tlog.ProveTree(now.Size, last.Size, hashes(ctx, q))
	if err != nil {
		return err
	}
	if tlog.CheckTree(path, now.Size, now.Root, last.Size, last.Root) != nil {
		return tamperedf("its first %d entries aren't those of the checkpoint of %s", last.Size, last.At.Format(time.RFC3339))
	}
	return nil
}

func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600) //nolint:gosec // the operator names the file
}

// readOutside finds the last checkpoint in the file, once.
func (l *Log) readOutside(key *key) (err error) {
	if l.read || l.options.File == "" {
		return nil
	}
	file, err := openFile(l.options.File)
	if err != nil {
		return fmt.Errorf("read the file of audit checkpoints: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	const tail = 8 << 10 // some checkpoints
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the file of audit checkpoints: %w", err)
	}
	last := ""
	err = readNotes(io.NewSectionReader(file, max(0, end-tail), tail), func(signed string) error {
		last = signed
		return nil
	})
	if err != nil {
		return err
	}
	if last != "" {
		if l.outside, err = openCheckpoint(key.verifier, last); err != nil {
			return tamperedf("the last checkpoint in %s: %v; if the file is of another log, move it away", l.options.File, err)
		}
	}
	l.read = true
	return nil
}

// SetAside moves the file of checkpoints away if its last one is of another log,
// as where a backup of another server was restored, and tells where to; "" is
// that it stays.
func (l *Log) SetAside(ctx context.Context) (to string, err error) {
	l.checkpointing.Lock()
	defer l.checkpointing.Unlock()
	key, err := l.key(ctx)
	if err != nil {
		return "", err
	}
	if err := l.readOutside(key); !errors.Is(err, ErrTampered) {
		return "", err
	}
	to = l.options.File + ".until-" + l.clock.Now().UTC().Format("20060102T150405Z")
	if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("set the checkpoints of another log aside: %s is there already", to)
	}
	if err := os.Rename(l.options.File, to); err != nil {
		return "", fmt.Errorf("set the checkpoints of another log aside: %w", err)
	}
	return to, nil
}

// writeOutside appends a checkpoint to the file, and puts a line about it into
// the server's log.
func (l *Log) writeOutside(ctx context.Context, c Checkpoint) (err error) {
	if l.options.File != "" {
		if err := durable(ctx, l.db); err != nil {
			return err
		}
		file, err := openFile(l.options.File)
		if err != nil {
			return fmt.Errorf("write the file of audit checkpoints: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if _, err := file.WriteString("\n" + c.Note); err != nil {
			return fmt.Errorf("write the file of audit checkpoints: %w", err)
		}
		if err := file.Sync(); err != nil {
			return fmt.Errorf("write the file of audit checkpoints: %w", err)
		}
	}
	level := slog.LevelDebug // one each minute tells nobody anything
	if l.outside.Size == 0 {
		level = slog.LevelInfo
	}
	l.outside = c
	if l.options.Live != nil {
		l.options.Live.Tell(ctx, Topic)
	}
	l.options.Log.Log(ctx, level, "audit checkpoint", "entries", c.Size, "root", c.Root.String())
	return nil
}

// durable waits until what is committed is on the disk. SQLite, as we open it,
// may lose the last transactions when the machine loses its power; a checkpoint
// outside that covers entries which are then gone would read as tampering. What
// isn't in the database's own file, which SQLite syncs, is in the one beside it.
func durable(ctx context.Context, d *db.DB) error {
	if d.Engine() != db.SQLite {
		return nil
	}
	path, err := db.Value[string](ctx, d, "SELECT file FROM pragma_database_list WHERE name = 'main'")
	if err != nil {
		return fmt.Errorf("bring the audit log to the disk: %w", err)
	}
	log, err := os.OpenFile(path+"-wal", os.O_RDWR, 0) //nolint:gosec // our own database
	if err != nil {
		return fmt.Errorf("bring the audit log to the disk: %w", err)
	}
	if err := errors.Join(log.Sync(), log.Close()); err != nil {
		return fmt.Errorf("bring the audit log to the disk: %w", err)
	}
	return nil
}

// Export writes the whole log as one file of JSON lines: a header that names the log
// and its public key, each entry in the form that is hashed, and each checkpoint
// behind the entries that it covers; the last line is a fresh one. VerifyExport
// checks it.
func (l *Log) Export(ctx context.Context, actor Actor, w io.Writer) error {
	if err := l.options.MayRead(actor); err != nil {
		return err
	}
	key, err := l.key(ctx)
	if err != nil {
		return err
	}
	l.checkpointing.Lock()
	err = l.readOutside(key)
	var now Checkpoint
	if err == nil {
		now, _, err = l.next(ctx, key)
	}
	l.checkpointing.Unlock()
	if err != nil {
		return fmt.Errorf("export nothing of the audit log: %w", err)
	}
	end, err := key.sign(now.Size, now.Root, l.clock.Now())
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	line := func(text []byte) error {
		_, err := out.Write(append(text, '\n'))
		return err
	}
	if err := line(encode(header{Log: key.signer.Name(), Key: key.public, Size: end.Size, At: end.At.Format(stamp)})); err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	err = l.walk(ctx, end.Size, func(e Entry) error { return line(e.Record()) }, func(signed string) error {
		return line(encode(signedLine{signed}))
	})
	if err == nil {
		err = line(encode(signedLine{end.Note}))
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	return nil
}

// walk hands over the first entries, and each kept checkpoint behind those that
// it covers.
func (l *Log) walk(ctx context.Context, size int64, entry func(Entry) error, checkpoint func(signed string) error) error {
	for from := int64(0); from < size; from += pageSize {
		to := min(from+pageSize, size)
		notes, err := notesBetween(ctx, l.db, from, to)
		if err != nil {
			return err
		}
		upTo := func(size int64) error {
			for len(notes) > 0 && notes[0].size <= size {
				if err := checkpoint(notes[0].signed); err != nil {
					return err
				}
				notes = notes[1:]
			}
			return nil
		}
		_, err = l.page(ctx, from, to, func(e Entry) error {
			if err := upTo(e.Seq); err != nil {
				return err
			}
			return entry(e)
		})
		if err != nil {
			return err
		}
		if err := upTo(to); err != nil {
			return err
		}
	}
	return nil
}

// Verify checks the log itself: every entry against its kept hash, the tree,
// every checkpoint, and those in the file outside.
func (l *Log) Verify(ctx context.Context, actor Actor) (report Report, err error) {
	return l.verify(ctx, actor, func(int64, int64) {})
}

// verify tells how many entries of how many it has checked, now and then.
func (l *Log) verify(ctx context.Context, actor Actor, tell func(done, of int64)) (report Report, err error) {
	if err := l.options.MayRead(actor); err != nil {
		return Report{}, err
	}
	key, err := l.key(ctx)
	if err != nil {
		return Report{}, err
	}
	options := VerifyOptions{Key: key.public}
	if l.options.File != "" {
		file, err := openFile(l.options.File)
		if err != nil {
			return Report{}, fmt.Errorf("read the file of audit checkpoints: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		options.Checkpoints = file
	}
	c, err := newChecker(key.verifier, key.public, options)
	if err != nil {
		return Report{}, err
	}
	var size, behind, latest int64
	err = l.db.Read(ctx, func(s *db.Snapshot) error {
		size, behind, latest, err = extent(ctx, s)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("verify the audit log: %w", err)
	}
	kept := &keptHashes{log: l}
	err = l.walk(ctx, size, func(e Entry) error {
		if e.Seq%pageSize == 0 {
			tell(e.Seq, size)
		}
		return kept.compare(ctx, c, e)
	}, func(signed string) error {
		c.checkpoint(signed)
		return nil
	})
	if errors.Is(err, ErrTampered) {
		c.foundf("%v", err)
	} else if err != nil {
		return Report{}, fmt.Errorf("verify the audit log: %w", err)
	}
	switch {
	case c.tree.size < size:
		c.foundf("the entries from %d to %d are missing", c.tree.size, size-1)
	case behind > 0:
		c.foundf("%d entries are behind the end of the log, which has %d", behind, size)
	case latest > size:
		c.foundf("its last checkpoint is of %d entries, and it has %d", latest, size)
	}
	return c.end(), nil
}

// keptHashes reads the kept hashes beside the entries.
type keptHashes struct {
	log   *Log
	place int64 // of the first of the page
	page  []tlog.Hash
}

// compare gives an entry to the checker, and compares its hashes with the kept
// ones.
func (k *keptHashes) compare(ctx context.Context, c *checker, e Entry) error {
	for _, hash := range c.entry(e, e.Record()) {
		if len(k.page) == 0 {
			page, err := hashesFrom(ctx, k.log.db, k.place, 2*pageSize)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return tamperedf("the hash of entry %d is missing", e.Seq)
			}
			k.page = page
		}
		if k.page[0] != hash {
			c.foundf("entry %d isn't what it was when it was written", e.Seq)
		}
		k.page, k.place = k.page[1:], k.place+1
	}
	return nil
}
