package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// File is a file in the database: complete, or not there for anybody.
type File struct {
	ID        string
	Kind      FileKind
	TaskID    string // that it was uploaded for, or ""
	SHA256    string // hex
	Size      int64
	CreatedAt time.Time

	complete bool
}

// FileKind is what a file is.
type FileKind string

// The kinds of file.
const (
	FileC1Z FileKind = "c1z"
	FileLog FileKind = "log" // the debug log of a task
)

// chunkSize is how much of a file is one row: a write of it is short.
const chunkSize = 512 << 10

// KindOf tells what a file is by its first bytes: a connector doesn't say.
func KindOf(start []byte) (FileKind, bool) {
	switch {
	case bytes.HasPrefix(start, []byte("C1ZF\x00")), bytes.HasPrefix(start, []byte("C1Z3\x00")):
		return FileC1Z, true
	case bytes.HasPrefix(start, []byte("{")): // JSON lines
		return FileLog, true
	}
	return "", false
}

// StoreFile reads a file into the database, in many short transactions. Nobody
// sees it before it is complete. One that is longer than most bytes, or than
// uploads may be where that is 0, is fault.TooLarge.
func (s *Service) StoreFile(ctx context.Context, kind FileKind, taskID string, r io.Reader, most int64) (File, error) {
	if most <= 0 {
		most = s.limits.MaxUpload
	}
	file := File{ID: id.New(), Kind: kind, TaskID: taskID, CreatedAt: s.clock.Now()}
	stored := false
	defer func() {
		if !stored {
			s.forget(ctx, file.ID)
		}
	}()
	if err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return insertFile(ctx, tx, file) }); err != nil {
		return File{}, noRoom(err)
	}
	hash := sha256.New()
	buffer := make([]byte, chunkSize)
	for n := int64(0); ; n++ {
		read, err := io.ReadFull(r, buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return File{}, err
		}
		data := buffer[:read]
		hash.Write(data)
		if file.Size += int64(read); file.Size > most {
			return File{}, fault.New(fault.TooLarge, "the file has more than the %d bytes that are taken", most)
		}
		if err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return insertChunk(ctx, tx, file.ID, n, data) }); err != nil {
			return File{}, noRoom(err)
		}
	}
	if file.Size == 0 {
		return File{}, fault.New(fault.Invalid, "the file is empty")
	}
	file.SHA256, file.complete = hex.EncodeToString(hash.Sum(nil)), true
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return completeFile(ctx, tx, file) })
	if err != nil {
		return File{}, noRoom(err)
	}
	stored = true
	return file, nil
}

// forget deletes a file that isn't complete, or needn't be kept.
func (s *Service) forget(ctx context.Context, fileID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.dropFile(ctx, fileID); err != nil { // the sweep tries again
		s.log.WarnContext(ctx, "an incomplete file couldn't be deleted", "file", fileID, "error", err)
	}
}

// dropFile deletes a file piece by piece, so that no transaction is long.
func (s *Service) dropFile(ctx context.Context, fileID string) error {
	if err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return hideFile(ctx, tx, fileID) }); err != nil {
		return err
	}
	for {
		dropped := int64(0)
		err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
			if dropped, err = dropChunks(ctx, tx, fileID, 32); err != nil || dropped > 0 {
				return err
			}
			return dropFile(ctx, tx, fileID)
		})
		if err != nil || dropped == 0 {
			return err
		}
	}
}

func noRoom(err error) error {
	if db.Full(err) {
		return fault.New(fault.Exhausted, "the server's disk is full; nothing new is taken until there is room: %w", err)
	}
	return err
}

// FileByID is a complete file.
func (s *Service) FileByID(ctx context.Context, q db.Querier, fileID string) (File, error) {
	return fileByID(ctx, q, fileID)
}

// FileReader reads a complete file, chunk by chunk. Whoever calls it closes it.
func (s *Service) FileReader(ctx context.Context, fileID string) (io.ReadCloser, error) {
	file, err := fileByID(ctx, s.db, fileID)
	if err != nil {
		return nil, err
	}
	return &fileReader{ctx: ctx, q: s.db, file: file}, nil
}

// SyncFile reads what a connector sent for a sync: its .c1z, or its debug log. It
// holds all that the target system told, so that this is written into the audit
// log. Name is what to call it. Whoever calls it closes it.
func (s *Service) SyncFile(ctx context.Context, actor identity.Actor, syncID string, kind FileKind) (content io.ReadCloser, name string, err error) {
	sync, err := syncByID(ctx, s.db, syncID)
	if err != nil {
		return nil, "", err
	}
	if err := inventory.Can(ctx, s.db, actor, identity.Manage, sync.object()); err != nil {
		return nil, "", err
	}
	file, err := s.fileOf(ctx, sync, kind)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "sync_file.read", AppID: sync.AppID, Object: audit.Object{Kind: "sync", ID: sync.ID, Name: string(kind)},
			Detail: map[string]any{"file": file.ID, "sha256": file.SHA256, "connector": sync.ConnectorID},
		})
	})
	if err != nil {
		return nil, "", err
	}
	return &fileReader{ctx: ctx, q: s.db, file: file}, "sync-" + sync.ID + map[FileKind]string{FileC1Z: ".c1z", FileLog: ".log"}[kind], nil
}

// fileOf finds the file of a kind that belongs to a sync.
func (s *Service) fileOf(ctx context.Context, sync Sync, kind FileKind) (File, error) {
	if kind == FileC1Z && sync.FileID != "" {
		file, err := fileByID(ctx, s.db, sync.FileID)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return file, err
		}
	}
	if sync.TaskID != "" {
		files, err := filesOfTask(ctx, s.db, sync.TaskID)
		if err != nil {
			return File{}, err
		}
		if n := slices.IndexFunc(files, func(f File) bool { return f.Kind == kind }); n >= 0 {
			return files[n], nil
		}
	}
	if kind == FileLog {
		return File{}, fault.New(fault.NotFound, "the sync %s has no debug log: none was asked for, or its time to be kept (AIRLOCK_KEEP_FILES) is over", sync.ID)
	}
	return File{}, fault.New(fault.NotFound, "the sync %s has no file: none was uploaded, or its time to be kept (AIRLOCK_KEEP_FILES) is over", sync.ID)
}

type fileReader struct {
	ctx  context.Context // a Reader is given none
	q    db.Querier
	file File
	n    int64
	read int64
	data []byte
}

func (r *fileReader) Read(p []byte) (int, error) {
	for len(r.data) == 0 {
		if r.read == r.file.Size {
			return 0, io.EOF
		}
		data, err := chunk(r.ctx, r.q, r.file.ID, r.n)
		if err != nil {
			return 0, fault.New(fault.NotFound, "the file %s was deleted while it was read: %w", r.file.ID, err)
		}
		r.data = data
		r.n++
		r.read += int64(len(data))
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *fileReader) Close() error { return nil }

// BeginUpload checks that a host may upload a file for a task now: it is a sync
// that it has. It tells how long the file may be.
func (s *Service) BeginUpload(ctx context.Context, actor identity.Actor, host, taskID string) (most int64, err error) {
	stop, err := s.Beat(ctx, actor, host, []string{taskID})
	if err != nil {
		return 0, err
	}
	task, err := taskByID(ctx, s.db, taskID)
	switch {
	case err != nil:
		return 0, err
	case task.Kind != KindSync:
		return 0, fault.New(fault.Invalid, "task %s isn't a sync: there is nothing to upload for it", taskID)
	case len(stop) > 0:
		return 0, fault.New(fault.NotReady, "task %s isn't with this host any more, or was cancelled", taskID)
	}
	return s.limits.MaxUpload, nil
}

// Uploading tells how much of a file has arrived.
func (s *Service) Uploading(ctx context.Context, actor identity.Actor, taskID string, size int64) error {
	return s.serve(ctx, actor, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		if _, err := ownTask(ctx, tx, c, taskID); err != nil {
			return err
		}
		sync, err := syncOfTask(ctx, tx, taskID)
		if err != nil || sync == nil || sync.State != Reading && sync.State != Uploading {
			return err
		}
		return s.move(ctx, tx, c, *sync, func(next *Sync) { next.State, next.Progress.Bytes = Uploading, size })
	})
}

// TakeUpload keeps a file that a host has uploaded for a task. Its hash was
// checked; that the task is still the host's is checked again when it finishes.
func (s *Service) TakeUpload(ctx context.Context, actor identity.Actor, host, taskID string, r io.Reader) (File, error) {
	most, err := s.BeginUpload(ctx, actor, host, taskID)
	if err != nil {
		return File{}, err
	}
	buffered := bufio.NewReader(r)
	start, err := buffered.Peek(5)
	if err != nil && !errors.Is(err, io.EOF) {
		return File{}, err
	}
	kind, ok := KindOf(start)
	if !ok {
		return File{}, fault.New(fault.Invalid, "the file is neither a .c1z nor a debug log")
	}
	file, err := s.StoreFile(ctx, kind, taskID, buffered, most)
	if fault.Is(err, fault.Exhausted) {
		_, blamed := s.change(ctx, actor.ID, func(ctx context.Context, tx *db.Tx, c *Connector) error {
			return s.blame(ctx, tx, c, Problem{Kind: DiskFull, Words: "the server's disk is full: the connector's file couldn't be taken; make room, then sync again"})
		})
		return file, errors.Join(err, blamed)
	}
	return file, err
}
