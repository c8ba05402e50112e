package ingest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	formatv3 "github.com/conductorone/baton-sdk/pkg/dotc1z/format/v3"
	"google.golang.org/protobuf/proto"

	"airlock/internal/base/fault"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// file is an open .c1z: what somebody sent us, so nothing that it says is taken
// for granted. Its reader unpacks it into the folder that it lies in.
type file struct {
	store  c1zstore.Store
	stream connectorstore.StreamingReader
	sync   header
}

// header is the one sync of a file.
type header struct {
	ID                string               `json:"id"`
	Kind              integration.SyncKind `json:"kind"`
	Began             time.Time            `json:"began"`
	Ended             time.Time            `json:"ended"`
	SkipsGrants       bool                 `json:"skips_grants"`
	SkipsEntitlements bool                 `json:"skips_entitlements"`
}

// refuse says what is wrong with a file. Trying again doesn't help.
func refuse(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// open opens a file within its folder. It must hold one sync, and that must have
// come to its end.
func open(ctx context.Context, path string, limits Limits) (f *file, err error) {
	if err := sniff(path, limits); err != nil {
		return nil, err
	}
	err = safely(func() error {
		store, err := dotc1z.NewStore(ctx, path,
			dotc1z.WithReadOnly(true), dotc1z.WithTmpDir(filepath.Dir(path)),
			dotc1z.WithDecoderOptions(dotc1z.WithDecoderMaxDecodedSize(uint64(limits.Decoded)))) //nolint:gosec // positive
		if err != nil {
			return damaged(ctx, err)
		}
		f = &file{store: store}
		var streams bool
		if f.stream, streams = store.(connectorstore.StreamingReader); !streams {
			return refuse("the file is of a form that can't be read as a stream")
		}
		f.sync, err = readHeader(ctx, store)
		return err
	})
	if err != nil {
		if f != nil {
			f.close()
		}
		return nil, err
	}
	return f, nil
}

// sniff looks at a file's first bytes, and at what the manifest of the newer form
// claims, before anything is unpacked.
func sniff(path string, limits Limits) error {
	from, err := os.Open(path) //nolint:gosec // our own folder
	if err != nil {
		return fmt.Errorf("open the file: %w", err)
	}
	defer from.Close() //nolint:errcheck // it was only read
	start := make([]byte, 5)
	if _, err := io.ReadFull(from, start); err != nil {
		return refuse("the file has less than 5 bytes: it is no .c1z")
	}
	switch string(start) {
	case "C1ZF\x00":
		return nil
	case "C1Z3\x00":
	default:
		return refuse("the file doesn't begin like a .c1z")
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("open the file: %w", err)
	}
	return safely(func() error {
		manifest, err := formatv3.ReadManifestHeader(from)
		if err != nil {
			return refuse("the file's manifest can't be read: %w", err)
		}
		if runs := len(manifest.GetSyncRuns()); runs > 1 {
			return refuse("the file says it holds %d syncs; it must hold one", runs)
		}
		for _, run := range manifest.GetSyncRuns() {
			stats := run.GetStats()
			if stats.GetResources() > limits.Resources || stats.GetEntitlements() > limits.Entitlements || stats.GetGrants() > limits.Grants {
				return tooMany("the file says it holds %d resources, %d entitlements and %d grants", stats.GetResources(), stats.GetEntitlements(), stats.GetGrants())
			}
		}
		return nil
	})
}

func tooMany(format string, args ...any) error {
	return fault.New(fault.TooLarge, format+"; that is more than this server takes", args...)
}

// damaged is an error of the reader: the file's fault, unless we stopped or our
// disk is full.
func damaged(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case fault.CodeOf(err) != fault.Internal:
		return err
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("unpack the file: %w", err)
	}
	return refuse("the file can't be read, it is damaged or was cut short: %w", err)
}

// readHeader finds the one sync of a file.
func readHeader(ctx context.Context, store c1zstore.Store) (header, error) {
	lister, ok := store.(interface {
		ListSyncRuns(ctx context.Context, pageToken string, pageSize uint32) ([]*c1zstore.SyncRun, string, error)
	})
	if !ok {
		return header{}, refuse("the file doesn't tell its syncs")
	}
	runs, _, err := lister.ListSyncRuns(ctx, "", 10)
	if err != nil {
		return header{}, damaged(ctx, err)
	}
	switch {
	case len(runs) == 0:
		return header{}, refuse("the file holds no sync")
	case len(runs) > 1:
		return header{}, refuse("the file holds %d syncs; it must hold one: let the connector write to a new file", len(runs))
	case runs[0].EndedAt == nil || runs[0].EndedAt.IsZero():
		return header{}, refuse("the sync in the file didn't come to its end")
	}
	run := runs[0]
	h := header{ID: clean(run.ID, longestID), Ended: run.EndedAt.UTC().Truncate(time.Microsecond)}
	if run.StartedAt != nil {
		h.Began = run.StartedAt.UTC().Truncate(time.Microsecond)
	}
	switch run.Type {
	case connectorstore.SyncTypeFull:
		h.Kind = integration.Full
	case connectorstore.SyncTypePartial:
		h.Kind = integration.Partial
	case connectorstore.SyncTypeResourcesOnly:
		h.Kind = integration.ResourcesOnly
	case connectorstore.SyncTypePartialUpserts, connectorstore.SyncTypePartialDeletions, connectorstore.SyncTypeAny:
		return header{}, refuse("the file holds a sync of the kind %q; it must be full, partial or resources_only", run.Type)
	default:
		return header{}, refuse("the file holds a sync of an unknown kind")
	}
	// What the connector was told to leave out stands in the token of its last step.
	var token struct {
		SkipsEntitlements bool `json:"should_skip_entitlements_and_grants"`
		SkipsGrants       bool `json:"should_skip_grants"`
	}
	if len(run.SyncToken) < 64<<20 && json.Unmarshal([]byte(run.SyncToken), &token) == nil {
		h.SkipsEntitlements = token.SkipsEntitlements
		h.SkipsGrants = token.SkipsGrants
	}
	h.SkipsEntitlements = h.SkipsEntitlements || h.Kind == integration.ResourcesOnly
	h.SkipsGrants = h.SkipsGrants || h.SkipsEntitlements
	return h, nil
}

// close gives the reader's resources back; its files are in our folder.
func (f *file) close() {
	// What is wrong with a file that is read only matters to nobody any more.
	_ = safely(func() error { return f.store.Close(context.Background()) })
}

// The records that a file is told in, in this order. An error, or the end, is the
// last; without either the reader came to grief.
const (
	tagHeader      = 'h' // JSON
	tagType        = 't' // c1.connector.v2.ResourceType
	tagResource    = 'r' // type, id, whether it is a user, the resource in its canonical form
	tagEntitlement = 'e' // id, its resource's type and id, the entitlement in its canonical form
	tagGrant       = 'g' // entitlement, principal's type and id, an id of its own, flags, c1.connector.v2.GrantExpandable
	tagError       = 'x' // code, words
	tagEnd         = 'z'
)

// derived is a flag of a grant beside those that are kept: it follows from others.
const derived = 128

// records writes records: a tag, the length of what follows, and fields that each
// have their length before them.
type records struct {
	to      *bufio.Writer
	payload []byte
}

func (r *records) put(tag byte, fields ...[]byte) error {
	r.payload = r.payload[:0]
	for _, field := range fields {
		r.payload = binary.AppendUvarint(r.payload, uint64(len(field)))
		r.payload = append(r.payload, field...)
	}
	return putRecord(r.to, tag, r.payload)
}

func putRecord(to *bufio.Writer, tag byte, payload []byte) error {
	if err := to.WriteByte(tag); err != nil {
		return err
	}
	if _, err := to.Write(binary.AppendUvarint(to.AvailableBuffer(), uint64(len(payload)))); err != nil {
		return err
	}
	_, err := to.Write(payload)
	return err
}

// tell reads a file and tells it in records. What is wrong with the file is told
// too; the error is one of the telling.
func tell(ctx context.Context, path string, limits Limits, to io.Writer) error {
	r := &records{to: bufio.NewWriterSize(to, 256<<10)}
	err := r.all(ctx, path, limits)
	switch code := fault.CodeOf(err); {
	case err == nil:
		err = r.put(tagEnd)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		words := err.Error()
		if found, ok := errors.AsType[*panicked](err); ok {
			words += "\x00" + fmt.Sprint(found.value) + "\n" + string(found.stack)
		}
		err = r.put(tagError, []byte(code), []byte(words))
	}
	return errors.Join(err, r.to.Flush())
}

func (r *records) all(ctx context.Context, path string, limits Limits) error {
	f, err := open(ctx, path, limits)
	if err != nil {
		return err
	}
	defer f.close()
	text, err := json.Marshal(f.sync)
	if err != nil {
		return err
	}
	if err := r.put(tagHeader, text); err != nil {
		return err
	}
	return safely(func() error {
		if err := r.types(ctx, f); err != nil {
			return err
		}
		if err := r.resources(ctx, f); err != nil {
			return err
		}
		if err := r.entitlements(ctx, f); err != nil {
			return err
		}
		return r.grants(ctx, f)
	})
}

// ahead reads a list a little further than it is used, so that the file's own
// reader and we work at the same time.
func ahead[T any](list iter.Seq2[T, error]) iter.Seq2[T, error] {
	const most = 256
	return func(yield func(T, error) bool) {
		pages, stop, failed := make(chan []T, 4), make(chan struct{}), error(nil)
		go func() {
			defer close(pages)
			failed = safely(func() error {
				page := make([]T, 0, most)
				for one, err := range list {
					if err != nil {
						return err // what is in the page doesn't matter any more
					}
					if page = append(page, one); len(page) < most {
						continue
					}
					select {
					case pages <- page:
						page = make([]T, 0, most)
					case <-stop:
						return nil
					}
				}
				select {
				case pages <- page:
				case <-stop:
				}
				return nil
			})
		}()
		defer func() {
			close(stop)
			for range pages { // until it has ended: it uses the file
			}
		}()
		for page := range pages {
			for _, one := range page {
				if !yield(one, nil) {
					return
				}
			}
		}
		if failed != nil {
			var none T
			yield(none, failed)
		}
	}
}

func (r *records) types(ctx context.Context, f *file) error {
	for token := ""; ; {
		page, err := f.store.ListResourceTypes(ctx, v2.ResourceTypesServiceListResourceTypesRequest_builder{PageToken: token, ActiveSyncId: f.sync.ID}.Build())
		if err != nil {
			return damaged(ctx, err)
		}
		for _, one := range page.GetList() {
			text, err := proto.Marshal(one)
			if err != nil {
				return refuse("the resource type %s can't be read: %w", one.GetId(), err)
			}
			if len(text) > longestMessage {
				return tooMany("the resource type %s has %d bytes", clean(one.GetId(), longestID), len(text))
			}
			if err := r.put(tagType, text); err != nil {
				return err
			}
		}
		next := page.GetNextPageToken()
		if next == token && next != "" {
			return refuse("the file's list of resource types goes round in a circle")
		}
		if token = next; token == "" {
			return nil
		}
	}
}

func (r *records) resources(ctx context.Context, f *file) error {
	for one, err := range ahead(f.stream.StreamResources(ctx, f.sync.ID, connectorstore.StreamResourcesOptions{})) {
		if err != nil {
			return damaged(ctx, err)
		}
		kind, key := one.GetId().GetResourceType(), one.GetId().GetResource()
		source, err := canonical(one, one.GetAnnotations())
		if err != nil {
			return refuse("the resource %s:%s can't be read: %w", kind, key, err)
		}
		size := 0
		if len(source) > longestProfile/6 { // JSON isn't longer than that: its longest escapes have 6 bytes
			size = sizeOf(profileStruct(one))
		}
		if len(source) > longestMessage || size > longestProfile {
			return tooMany("the resource %s:%s has %d bytes, and its profile %d", clean(kind, longestID), clean(key, longestID), len(source), size)
		}
		_, user := annotation(one.GetAnnotations(), &v2.UserTrait{})
		if err := r.put(tagResource, []byte(kind), []byte(key), bit(user), source); err != nil {
			return err
		}
	}
	return nil
}

func bit(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}

func (r *records) entitlements(ctx context.Context, f *file) error {
	for one, err := range f.stream.StreamEntitlements(ctx, f.sync.ID) {
		if err != nil {
			return damaged(ctx, err)
		}
		source, err := canonicalEntitlement(one)
		if err != nil {
			return refuse("the entitlement %s can't be read: %w", one.GetId(), err)
		}
		if len(source) > longestMessage {
			return tooMany("the entitlement %s has %d bytes", clean(one.GetId(), longestID), len(source))
		}
		of := one.GetResource().GetId()
		if err := r.put(tagEntitlement, []byte(one.GetId()), []byte(of.GetResourceType()), []byte(of.GetResource()), source); err != nil {
			return err
		}
	}
	return nil
}

func (r *records) grants(ctx context.Context, f *file) error {
	for one, err := range ahead(f.stream.StreamGrants(ctx, f.sync.ID, connectorstore.StreamGrantsOptions{IncludeExpansion: true})) {
		if err != nil {
			return damaged(ctx, err)
		}
		if err := r.grant(one); err != nil {
			return err
		}
	}
	return nil
}

func (r *records) grant(g *v2.Grant) error {
	entitlement, to := g.GetEntitlement().GetId(), g.GetPrincipal().GetId()
	flags, ownID, expandable := byte(0), "", []byte(nil)
	if id := g.GetId(); !usualID(id, entitlement, to.GetResourceType(), to.GetResource()) {
		ownID = id
	}
	if list := g.GetAnnotations(); len(list) > 0 { // most have none
		if _, ok := annotation(list, &v2.GrantImmutable{}); ok {
			flags |= inventory.FlagImmutable
		}
		if found, ok := annotation(list, &v2.GrantExpandable{}); ok && len(found.GetEntitlementIds()) > 0 {
			var err error
			if expandable, err = proto.Marshal(found); err != nil || len(expandable) > longestMessage {
				return tooMany("how grants follow from one of %s has %d bytes", clean(entitlement, longestID), len(expandable))
			}
			flags |= inventory.FlagExpandable
		}
	}
	if sources := g.GetSources().GetSources(); flags&inventory.FlagImmutable != 0 && len(sources) > 0 && sources[entitlement] == nil {
		flags |= derived
	}
	if len(entitlement)+len(to.GetResourceType())+len(to.GetResource())+len(ownID) > longestMessage {
		return tooMany("the ids of a grant have more than %d bytes", longestMessage)
	}
	return r.put(tagGrant, []byte(entitlement), []byte(to.GetResourceType()), []byte(to.GetResource()), []byte(ownID), []byte{flags}, expandable)
}

// usualID reports whether a grant's id is made of what it grants to whom.
func usualID(id, entitlement, kind, principal string) bool {
	return len(id) == len(entitlement)+len(kind)+len(principal)+2 && strings.HasPrefix(id, entitlement) && strings.HasSuffix(id, principal) &&
		id[len(entitlement)] == ':' && id[len(entitlement)+1:len(entitlement)+1+len(kind)] == kind && id[len(entitlement)+1+len(kind)] == ':'
}

// safely turns a panic into a refusal of the file: its readers were written for
// files that their own kind wrote. That goes for bad addresses too, which the
// SQLite that was translated to Go may come by.
func safely(do func() error) (err error) {
	fatal := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(fatal)
	defer func() {
		if found := recover(); found != nil {
			err = &panicked{value: found, stack: debug.Stack()}
		}
	}()
	return do()
}

// panicked is a panic of the reader, which is for the log, as a refusal, which is
// for people.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string {
	return "the file can't be read: it is damaged in a way that its reader isn't made for"
}

// Unwrap makes it a refusal.
func (p *panicked) Unwrap() error { return fault.New(fault.Invalid, "%s", p.Error()) }
