package ingest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"airlock/internal/base/fault"
)

// fetch copies a file out of the database into a folder, and checks its hash.
func fetch(from io.Reader, dir, wantHash string) (path string, err error) {
	path = filepath.Join(dir, "upload.c1z")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return "", fmt.Errorf("fetch the file: %w", err)
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, hash), from)
	if err = errors.Join(err, to.Close()); err != nil {
		return "", fmt.Errorf("fetch the file: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); wantHash != "" && got != wantHash {
		return "", refuse("the file's SHA-256 is %s, and that of what was sent is %s: it was damaged here", got, wantHash)
	}
	return path, nil
}

// source is a file as it is told, in records. Who tells it is another process of
// ours: the readers of .c1z files weren't made for what a stranger sends. A bad
// block in the newer form, for one, ends the whole process.
type source struct {
	from    *bufio.Reader
	tag     byte
	payload []byte
	list    [][]byte     // its fields
	unread  bool         // the record was looked at, and is to be read yet
	copies  *copies      // where what is read again goes, or nil
	ended   func() error // why there are no more records
	stop    func()
}

// longestRecord is more than any record has that we write.
const longestRecord = 4 * longestMessage

// orders are what the other process is told.
type orders struct {
	Path   string `json:"path"`
	Limits Limits `json:"limits"`
}

// Decode is what the command in Config.Decoder does: it reads the file that its
// argument speaks of, and tells it in records.
func Decode(ctx context.Context, argument string, to io.Writer) error {
	var o orders
	if err := json.Unmarshal([]byte(argument), &o); err != nil {
		return fmt.Errorf("read what to decode: %w", err)
	}
	return tell(ctx, o.Path, o.Limits, to)
}

// read begins to read a file. The command, if there is one, is run with the
// orders as its last argument and in the file's folder.
func read(ctx context.Context, command []string, o orders) (*source, error) {
	ctx, cancel := context.WithCancel(ctx)
	if len(command) == 0 {
		out, in := io.Pipe()
		told := make(chan struct{})
		go func() {
			defer close(told)
			in.CloseWithError(tell(ctx, o.Path, o.Limits, in))
		}()
		return &source{from: bufio.NewReaderSize(out, 256<<10), ended: func() error { return nil }, stop: func() {
			cancel()
			_ = out.Close() // that of a pipe can't fail
			<-told
		}}, nil
	}
	argument, err := json.Marshal(o)
	if err != nil {
		cancel()
		return nil, err
	}
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], string(argument))...) //nolint:gosec // our own program
	cmd.Dir = filepath.Dir(o.Path)
	cmd.Env = []string{"TMPDIR=" + cmd.Dir, "HOME=" + cmd.Dir, "GOMEMLIMIT=320MiB", "GOGC=400"}
	last := &tail{}
	cmd.Stderr = last
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the reader of files: %w", err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start the reader of files: %w", err)
	}
	over := false
	wait := func() error {
		if over {
			return nil
		}
		over = true
		err := cmd.Wait()
		cancel()
		if err == nil {
			return nil
		}
		return &panicked{value: err, stack: last.text}
	}
	return &source{from: bufio.NewReaderSize(out, 256<<10), ended: wait, stop: func() {
		cancel()
		_ = wait() // it was told to stop
	}}, nil
}

// tail keeps the beginning of what a process says of its end.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 16 << 10
	t.text = append(t.text, p[:min(len(p), most-len(t.text))]...)
	return len(p), nil
}

// copies is a file of ours with the records of resources and entitlements, as they
// were read: for what is to be written of those that changed.
type copies struct {
	file *os.File
	to   *bufio.Writer
}

func newCopies(dir string) (*copies, error) {
	file, err := os.OpenFile(filepath.Join(dir, "things"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return nil, fmt.Errorf("keep what was read: %w", err)
	}
	return &copies{file: file, to: bufio.NewWriterSize(file, 256<<10)}, nil
}

// source ends the writing, and reads the copies.
func (c *copies) source() (*source, error) {
	err := putRecord(c.to, tagEnd, nil)
	if err == nil {
		err = c.to.Flush()
	}
	if err == nil {
		_, err = c.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("read again what was read: %w", err)
	}
	return &source{from: bufio.NewReaderSize(c.file, 256<<10), ended: func() error { return nil }, stop: func() {}}, nil
}

func (c *copies) close() {
	_ = c.file.Close() // its folder goes with it
}

// close ends the reading, wherever it is.
func (s *source) close() { s.stop() }

// next reads a record.
func (s *source) next(ctx context.Context) error {
	if s.unread {
		s.unread = false
		return nil
	}
	tag, err := s.from.ReadByte()
	if err != nil {
		return s.broken(ctx, err)
	}
	size, err := binary.ReadUvarint(s.from)
	if err != nil || size > longestRecord {
		return s.broken(ctx, err)
	}
	if uint64(cap(s.payload)) < size {
		s.payload = make([]byte, size)
	}
	s.tag, s.payload = tag, s.payload[:size]
	if _, err := io.ReadFull(s.from, s.payload); err != nil {
		return s.broken(ctx, err)
	}
	if s.copies != nil && (tag == tagResource || tag == tagEntitlement) {
		if err := putRecord(s.copies.to, tag, s.payload); err != nil {
			return fmt.Errorf("keep what was read: %w", err)
		}
	}
	if tag != tagError {
		return nil
	}
	fields, err := s.fields(2)
	if err != nil {
		return err
	}
	code, words := fault.Code(fields[0]), string(fields[1])
	words, stack, isPanic := strings.Cut(words, "\x00")
	switch {
	case isPanic:
		return &panicked{value: "in the reader", stack: []byte(stack)}
	case code == fault.Internal:
		return errors.New(words)
	}
	return fault.New(code, "%s", words)
}

// broken is why records ended before the end.
func (s *source) broken(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := s.ended(); err != nil {
		return err
	}
	return &panicked{value: fmt.Sprintf("its records are broken: %v", cause)}
}

// each reads the records of a kind that come next.
func (s *source) each(ctx context.Context, tag byte, fields int, do func(fields [][]byte) error) error {
	for {
		if err := s.next(ctx); err != nil {
			return err
		}
		if s.tag != tag {
			s.unread = true
			return nil
		}
		list, err := s.fields(fields)
		if err != nil {
			return err
		}
		if err := do(list); err != nil {
			return err
		}
	}
}

// fields are the fields of the record; they are valid until the next.
func (s *source) fields(count int) ([][]byte, error) {
	list, rest := s.list[:0], s.payload
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) { //nolint:gosec // n is at most len(rest)
			return nil, &panicked{value: "its records are broken"}
		}
		list, rest = append(list, rest[n:n+int(size)]), rest[n+int(size):] //nolint:gosec // checked
	}
	s.list = list
	if len(list) != count {
		return nil, &panicked{value: "its records are broken"}
	}
	return list, nil
}

// first is the first byte of a field that has one.
func first(field []byte) byte {
	if len(field) == 0 {
		return 0
	}
	return field[0]
}

// header reads what comes first.
func (s *source) header(ctx context.Context) (h header, err error) {
	err = s.each(ctx, tagHeader, 1, func(fields [][]byte) error {
		if err := json.Unmarshal(fields[0], &h); err != nil {
			return &panicked{value: fmt.Sprintf("its records are broken: %v", err)}
		}
		return nil
	})
	return h, err
}

// end checks that nothing is left.
func (s *source) end(ctx context.Context) error {
	if err := s.next(ctx); err != nil {
		return err
	}
	if s.tag != tagEnd {
		return &panicked{value: "its records are in disorder"}
	}
	return nil
}
