// Package catalog knows the connectors that can be hosted: the programs baton-*
// that lie in a folder. What a program is called, which settings it takes and
// what it can do comes from the program itself (its commands config,
// capabilities and --version), so a new connector is a file put into the folder.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"airlock/internal/base/fault"
)

// prefix begins the name of every connector's program.
const prefix = "baton-"

// Options are what can be left out.
type Options struct {
	// Log is told what is wrong with a program.
	Log *slog.Logger
	// Icons is a folder with more icons, such as baton-x.svg or x.svg; one beside
	// the program goes first.
	Icons string
	// TempDir is where programs are asked, each in an empty folder of its own;
	// without it the system's.
	TempDir string
	// TimeLimit ends each question to a program; 0 is 10 s.
	TimeLimit time.Duration
}

// Catalog is a folder of connectors. It may be used by many at once.
type Catalog struct {
	dir     string
	options Options
	slots   chan struct{} // of programs asked at once

	mu    sync.Mutex
	asked map[string]*answer // by path
}

// answer is what a program said, once done is closed.
type answer struct {
	size     int64
	modified time.Time
	done     chan struct{}
	at       time.Time // when it was given
	entry    Entry
}

// badFor is how long a program that couldn't be asked isn't asked again: what
// was wrong may have been the machine, not the file.
const badFor = time.Minute

// Open opens a folder of connectors. It need not exist yet.
func Open(dir string, o Options) *Catalog {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TimeLimit == 0 {
		o.TimeLimit = 10 * time.Second
	}
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	return &Catalog{dir: dir, options: o, slots: make(chan struct{}, 2), asked: map[string]*answer{}}
}

// Dir is the folder.
func (c *Catalog) Dir() string { return c.dir }

// List is what lies in the folder, by name. A program that can't be used is
// there with its Problem.
func (c *Catalog) List(ctx context.Context) ([]Entry, error) {
	files, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the connectors folder: %w", err)
	}
	var names []string
	for _, file := range files {
		if c.isProgram(file) {
			names = append(names, strings.TrimPrefix(file.Name(), prefix))
		}
	}
	list := make([]Entry, len(names))
	failed := make([]error, len(names))
	var all sync.WaitGroup
	for n, name := range names {
		all.Go(func() { list[n], failed[n] = c.entry(ctx, name) })
	}
	all.Wait()
	for n, err := range failed {
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		list[n] = Entry{Name: names[n], DisplayName: names[n], Path: c.path(names[n]), Problem: err.Error()}
	}
	return list, nil
}

// isProgram reports whether a file is, or is meant to be, a connector: what
// accompanies one (an icon, a signature) has an extension and can't be run.
func (c *Catalog) isProgram(file fs.DirEntry) bool {
	if !strings.HasPrefix(file.Name(), prefix) || file.IsDir() {
		return false
	}
	if filepath.Ext(file.Name()) == "" {
		return true
	}
	info, err := os.Stat(filepath.Join(c.dir, file.Name()))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Entry is the connector of a name, which is its program's without baton-. It
// fails with NotFound where there is none; one that can't be used has a Problem.
func (c *Catalog) Entry(ctx context.Context, name string) (Entry, error) {
	missing := fault.New(fault.NotFound, "there is no connector %q in %s; `airlock connector catalog` names those that are there", name, c.dir)
	if !nameForm.MatchString(name) {
		return Entry{}, missing
	}
	entry, err := c.entry(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return Entry{}, missing
	}
	return entry, err
}

func (c *Catalog) path(name string) string { return filepath.Join(c.dir, prefix+name) }

func (c *Catalog) entry(ctx context.Context, name string) (Entry, error) {
	entry := Entry{Name: name, DisplayName: name, Path: c.path(name)}
	info, err := os.Stat(entry.Path)
	if err != nil {
		return Entry{}, err
	}
	if entry.Problem = c.unfit(name, entry.Path, info); entry.Problem == "" {
		if entry, err = c.ask(ctx, name, info); err != nil {
			return Entry{}, err
		}
	}
	entry.Icon = c.icon(entry)
	return entry, nil
}

// unfit says why a file isn't run at all.
func (c *Catalog) unfit(name, path string, info fs.FileInfo) string {
	if !nameForm.MatchString(name) {
		return fmt.Sprintf("the name %q has characters other than letters, digits, '.', '_' and '-'; rename the file", prefix+name)
	}
	if !info.Mode().IsRegular() {
		return fmt.Sprintf("%s isn't a file", path)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Sprintf("the file can't be run; `chmod +x %s` allows it", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err.Error()
	}
	dir, err := filepath.EvalSymlinks(c.dir)
	if err != nil {
		return err.Error()
	}
	if inside, err := filepath.Rel(dir, real); err != nil || !filepath.IsLocal(inside) {
		return fmt.Sprintf("it is a link to %s, outside of the connectors folder; copy the file into the folder instead", real)
	}
	return ""
}

// ask gives what a program says of itself, and asks it if the file is new or
// has changed. Many who want to know at once share one answer.
func (c *Catalog) ask(ctx context.Context, name string, info fs.FileInfo) (Entry, error) {
	path := c.path(name)
	c.mu.Lock()
	known := c.asked[path]
	if known == nil || known.size != info.Size() || !known.modified.Equal(info.ModTime()) || known.stale() {
		known = &answer{size: info.Size(), modified: info.ModTime(), done: make(chan struct{})}
		c.asked[path] = known
		// Whoever asked first may go away; the others still want to know.
		go c.inspect(context.WithoutCancel(ctx), name, known)
	}
	c.mu.Unlock()
	select {
	case <-known.done:
		return known.entry.clone(), nil
	case <-ctx.Done():
		return Entry{}, ctx.Err()
	}
}

// stale reports whether an answer is bad and old enough to ask again.
func (a *answer) stale() bool {
	select {
	case <-a.done:
		return a.entry.Problem != "" && time.Since(a.at) > badFor
	default:
		return false
	}
}

// inspect asks a program what it is.
func (c *Catalog) inspect(ctx context.Context, name string, a *answer) {
	defer close(a.done)
	c.slots <- struct{}{}
	defer func() { <-c.slots }()

	entry := Entry{Name: name, DisplayName: name, Path: c.path(name)}
	form, err := c.run(ctx, entry.Path, "config")
	if err == nil {
		err = entry.read(form)
	}
	if err != nil {
		entry.Problem = fmt.Sprintf("it doesn't tell its settings (`%s%s config`): %v; it may be damaged, made for another machine, "+
			"or built on a baton-sdk that is too old", prefix, name, err)
		c.options.Log.WarnContext(ctx, "a connector's program can't be used", "path", entry.Path, "problem", entry.Problem)
	} else {
		if said, err := c.run(ctx, entry.Path, "--version"); err == nil {
			entry.Version = version(string(said))
		}
		// Many need settings before they tell: then their first Hello does.
		if said, err := c.run(ctx, entry.Path, "capabilities"); err == nil {
			entry.Capabilities = capabilities(said)
		}
	}
	a.entry, a.at = entry, time.Now()
}

// version is the last word of "baton-x version v1.2.3".
func version(said string) string {
	words := strings.Fields(said)
	if len(words) == 0 {
		return ""
	}
	return shorten(words[len(words)-1], 100)
}

// shorten cuts a text to a number of bytes, and marks the cut.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func (e Entry) clone() Entry {
	e.Fields, e.Groups, e.Constraints = slices.Clone(e.Fields), slices.Clone(e.Groups), slices.Clone(e.Constraints)
	return e
}
