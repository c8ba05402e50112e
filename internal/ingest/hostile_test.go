package ingest

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/connectorstore"
	"github.com/conductorone/baton-sdk/pkg/dotc1z/c1zstore"
	formatv3 "github.com/conductorone/baton-sdk/pkg/dotc1z/format/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/ingest/pack"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// small are limits that a test reaches soon.
var small = Limits{Decoded: 32 << 20, Types: 10, Resources: 100, Entitlements: 50, Grants: 100, Edges: 50}

// readAll reads a file as an ingest does, but for the database.
func readAll(ctx context.Context, path string, limits Limits) (*stage, error) {
	from, err := read(ctx, nil, orders{Path: path, Limits: limits})
	if err != nil {
		return nil, err
	}
	defer from.close()
	head, err := from.header(ctx)
	if err != nil {
		return nil, err
	}
	return readRest(ctx, from, head, limits)
}

func readRest(ctx context.Context, from *source, head header, limits Limits) (*stage, error) {
	s := newStage(limits, head)
	if err := s.readTypes(ctx, from); err != nil {
		return nil, err
	}
	if err := s.readResources(ctx, from, pack.Packs{}, ""); err != nil {
		return nil, err
	}
	if err := s.readEntitlements(ctx, from); err != nil {
		return nil, err
	}
	number(s.resources, &s.ids)
	number(s.entitlements, &s.ids)
	s.rank()
	if err := s.readGrants(ctx, from); err != nil {
		return nil, err
	}
	return s, from.end(ctx)
}

// refused fails unless a file is refused in words that say why, the inventory
// stays as it is, and nothing is left behind.
func (r *rig) refused(path, why string) {
	r.t.Helper()
	before := r.dump()
	sync := r.run(r.bring(path))
	if sync.State != integration.Failed || !strings.Contains(sync.Error, why) {
		r.t.Errorf("the sync is %s, with %q; it should fail with %q", sync.State, sync.Error, why)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		r.t.Errorf("a refused file changed something: %s", diff)
	}
}

func file_(t testing.TB, content []byte) string { //nolint:revive // file is a type
	t.Helper()
	path := filepath.Join(t.TempDir(), "sync.c1z")
	check(t, os.WriteFile(path, content, 0o600))
	return path
}

func TestAFileThatIsNoneIsRefused(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(3))
		r.limits = small
		r.limits.Decoded = 4 << 20
		packed := func(content []byte) []byte {
			encoder, err := zstd.NewWriter(nil)
			check(t, err)
			return encoder.EncodeAll(content, []byte("C1ZF\x00"))
		}
		whole, err := os.ReadFile(wiki(3).write(t, c1zstore.EngineSQLite))
		check(t, err)
		for name, c := range map[string]struct {
			content []byte
			why     string
		}{
			"a letter":           {[]byte("x"), "no .c1z"},
			"a text":             {[]byte("<html><body>Not found</body></html>"), "doesn't begin like a .c1z"},
			"a head alone":       {[]byte("C1ZF\x00"), ""},
			"the newer head":     {[]byte("C1Z3\x00"), "manifest"},
			"a huge manifest":    {[]byte("C1Z3\x00\xff\xff\xff\xff"), "manifest"},
			"an empty manifest":  {[]byte("C1Z3\x00\x00\x00\x00\x00"), ""},
			"noise":              {append([]byte("C1ZF\x00"), bytes.Repeat([]byte("noise"), 1000)...), "can't be read"},
			"a bomb":             {packed(make([]byte, 64<<20)), "can't be read"},
			"a file in a file":   {packed(whole), "can't be read"},
			"no database inside": {packed([]byte("hello")), "can't be read"},
		} {
			t.Run(name, func(t *testing.T) {
				r.in(t).refused(file_(t, c.content), c.why)
			})
		}
	})
}

func TestAFileThatWasCutOrDamagedIsRefusedOrWhole(t *testing.T) {
	for _, engine := range []c1zstore.Engine{c1zstore.EngineSQLite, c1zstore.EnginePebble} {
		t.Run(string(engine), func(t *testing.T) {
			whole, err := os.ReadFile(wiki(10).write(t, engine))
			check(t, err)
			random := rand.New(rand.NewPCG(1, 2))
			for n := range 40 {
				content := bytes.Clone(whole)
				var what string
				if n%2 == 0 {
					cut := random.IntN(len(content))
					content, what = content[:cut], fmt.Sprintf("cut at %d of %d", cut, len(whole))
				} else {
					at := random.IntN(len(content))
					content[at] ^= 1 << random.IntN(8)
					what = fmt.Sprintf("a bit of byte %d of %d", at, len(whole))
				}
				s, err := readAll(t.Context(), file_(t, content), small)
				switch {
				case err == nil && n%2 == 0:
					t.Errorf("%s: it was read", what)
				case err == nil && (s.counts.Grants != 16 || s.counts.Accounts != 10):
					t.Errorf("%s: it was read as %+v", what, s.counts)
				case err != nil && fault.CodeOf(err) == fault.Internal:
					t.Errorf("%s: %v, which would be tried again", what, err)
				}
			}
		})
	}
}

func TestASyncThatDidNotEndIsRefused(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	for _, engine := range []c1zstore.Engine{c1zstore.EngineSQLite, c1zstore.EnginePebble} {
		w := wiki(3)
		w.unfinished = true
		r.refused(w.write(t, engine), "didn't come to its end")
		w.unfinished, w.kind = false, connectorstore.SyncTypePartialUpserts
		r.refused(w.write(t, engine), "it must be full, partial or resources_only")
	}
}

// damage changes the database within a file of the older form.
func damage(t testing.TB, path string, statements ...string) string {
	t.Helper()
	packed, err := os.ReadFile(path)
	check(t, err)
	decoder, err := zstd.NewReader(nil)
	check(t, err)
	content, err := decoder.DecodeAll(packed[5:], nil)
	check(t, err)
	inner := filepath.Join(t.TempDir(), "inner.db")
	check(t, os.WriteFile(inner, content, 0o600))
	d, err := sql.Open("sqlite", inner)
	check(t, err)
	for _, statement := range statements {
		_, err = d.ExecContext(t.Context(), statement)
		check(t, err)
	}
	check(t, d.Close())
	content, err = os.ReadFile(inner)
	check(t, err)
	encoder, err := zstd.NewWriter(nil)
	check(t, err)
	return file_(t, encoder.EncodeAll(content, []byte("C1ZF\x00")))
}

func TestAFileThatContradictsItselfIsRefused(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.applied(wiki(3))
		twice := func(table string) []string {
			columns := map[string]string{
				"v1_resource_types": "external_id, data, sync_id, discovered_at",
				"v1_resources":      "resource_type_id, external_id, data, sync_id, discovered_at",
				"v1_entitlements":   "resource_type_id, resource_id, external_id, data, sync_id, discovered_at",
			}[table]
			return []string{
				`INSERT INTO ` + table + ` (` + columns + `) SELECT ` + strings.Replace(columns, "external_id", "external_id || 'x'", 1) + ` FROM ` + table + ` LIMIT 1`,
			}
		}
		for table, why := range map[string]string{"v1_resource_types": "twice", "v1_resources": "twice", "v1_entitlements": "twice"} {
			t.Run(table, func(t *testing.T) {
				r.in(t).refused(damage(t, wiki(3).write(t, c1zstore.EngineSQLite), twice(table)...), why)
			})
		}
		more := damage(t, wiki(3).write(t, c1zstore.EngineSQLite),
			`INSERT INTO v1_sync_runs (sync_id, started_at, ended_at, sync_token) SELECT 'other', started_at, ended_at, '' FROM v1_sync_runs`)
		r.refused(more, "holds 2 syncs")
		// A view in the place of a table.
		view := damage(t, wiki(3).write(t, c1zstore.EngineSQLite), `ALTER TABLE v1_resources RENAME TO real_resources`,
			`CREATE VIEW v1_resources AS SELECT 1 AS id, x'00' AS data, 'x' AS sync_id, 'y' AS external_id, 'z' AS resource_type_id`)
		r.refused(view, "")
	})
}

func TestWhatCanNotBeKeptIsRefusedOrCleaned(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		long := strings.Repeat("x", longestID+1)
		base := world{types: []string{"user!", "team"}}
		for name, c := range map[string]struct {
			resource thingOf
			why      string
		}{
			"NUL in an id":   {thingOf{id: "user:a\x00b"}, "isn't text"},
			"a long id":      {thingOf{id: "user:" + long}, "bytes"},
			"a huge profile": {thingOf{id: "user:a", profile: map[string]any{"x": strings.Repeat("y", longestProfile)}}, "more than this server takes"},
		} {
			t.Run(name, func(t *testing.T) {
				w := base
				w.resources = []thingOf{c.resource}
				r.in(t).refused(w.write(t, c1zstore.EnginePebble), c.why)
			})
		}
		w := base
		w.resources = []thingOf{{id: "user:a", name: "NUL\x00 and " + long, login: "l\x00ogin", email: "e\x00@x", profile: map[string]any{"k\x00": "v\x00"}}}
		r.applied(w)
		dump := strings.Join(r.dump(), "\n")
		if !strings.Contains(dump, "account a login e@x") || !strings.Contains(dump, "resource user:a NUL and xxx") {
			t.Errorf("%s", dump)
		}
	})
}

func TestAFileHasLimits(t *testing.T) {
	for name, change := range map[string]func(*Limits){
		"types":        func(l *Limits) { l.Types = 2 },
		"resources":    func(l *Limits) { l.Resources = 5 },
		"entitlements": func(l *Limits) { l.Entitlements = 3 },
		"grants":       func(l *Limits) { l.Grants = 5 },
		"edges":        func(l *Limits) { l.Edges = 1 },
		"bytes":        func(l *Limits) { l.Decoded = 1 << 10 },
	} {
		for _, engine := range []c1zstore.Engine{c1zstore.EngineSQLite, c1zstore.EnginePebble} {
			t.Run(name+" "+string(engine), func(t *testing.T) {
				path := wiki(3).write(t, engine)
				limits := small
				if _, err := readAll(t.Context(), path, limits); err != nil {
					t.Fatal(err)
				}
				change(&limits)
				if _, err := readAll(t.Context(), path, limits); fault.CodeOf(err) != fault.TooLarge && fault.CodeOf(err) != fault.Invalid {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

func TestAPanicOfTheReaderIsARefusal(t *testing.T) {
	err := safely(func() error {
		panic("a block is where none can be")
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestAHashThatIsWrongIsRefused(t *testing.T) {
	_, err := fetch(strings.NewReader("x"), t.TempDir(), strings.Repeat("0", 64))
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// A file whose checksums are right on the outside and wrong on the inside ends the
// process that reads it: that is in the reader's nature. It must not be ours.
func TestAFileThatEndsItsReaderDoesNotEndTheServer(t *testing.T) {
	dir := t.TempDir()
	from, err := os.Open(wiki(10).write(t, c1zstore.EnginePebble))
	check(t, err)
	defer from.Close()
	inside := filepath.Join(dir, "db")
	manifest, _, err := formatv3.ExtractEnvelopePayload(from, inside)
	check(t, err)
	tables, err := filepath.Glob(filepath.Join(inside, "*.sst"))
	check(t, err)
	for _, table := range tables {
		content, err := os.ReadFile(table)
		check(t, err)
		content[len(content)/4] ^= 0xff
		check(t, os.WriteFile(table, content, 0o600))
	}
	out, err := os.Create(filepath.Join(dir, "bad.c1z"))
	check(t, err)
	check(t, errors.Join(formatv3.WriteEnvelope(out, manifest, inside), out.Close()))

	r := newRig(t, dbtest.Open(t, db.SQLite))
	r.decoder = decoder(t)
	r.applied(wiki(3))
	r.refused(out.Name(), "damaged in a way that its reader isn't made for")
	r.applied(wiki(4))
}

func TestAReaderThatNeverEndsIsStopped(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	r.decoder = []string{"sh", "-c", "exec sleep 3600"}
	syncID := r.bring(wiki(3).write(t, c1zstore.EnginePebble))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := r.ingest(ctx, syncID); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	r.empty()
	r.decoder = []string{"sh", "-c", "exit 3"}
	if sync := r.run(syncID); sync.State != integration.Failed {
		t.Errorf("the sync is %s", sync.State)
	}
}

// decoder is this program as the one that reads files.
func decoder(t testing.TB) []string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	return []string{self, "decode-for-a-test"}
}

// FuzzFile reads anything as a .c1z, and as what lies within the older form: it
// never panics, and never makes a mistake of ours out of what is the file's.
func FuzzFile(f *testing.F) {
	unpacker, err := zstd.NewReader(nil)
	check(f, err)
	packer, err := zstd.NewWriter(nil)
	check(f, err)
	for _, engine := range []c1zstore.Engine{c1zstore.EngineSQLite, c1zstore.EnginePebble} {
		content, err := os.ReadFile(wiki(1).write(f, engine))
		check(f, err)
		f.Add(content, false)
		f.Add(content[:len(content)/2], false)
		if engine == c1zstore.EngineSQLite {
			inside, err := unpacker.DecodeAll(content[5:], nil)
			check(f, err)
			f.Add(inside, true)
		}
	}
	f.Add([]byte("C1Z3\x00\x00\x00\x00\x02\x0a\x00"), false)
	f.Fuzz(func(t *testing.T, content []byte, inside bool) {
		if inside {
			content = packer.EncodeAll(content, []byte("C1ZF\x00"))
		}
		if _, err := readAll(t.Context(), file_(t, content), small); err != nil && fault.CodeOf(err) == fault.Internal {
			t.Errorf("an error of ours: %v", err)
		}
	})
}

// FuzzRecords reads anything as what the process tells that reads a file: that may
// be in a stranger's hands.
func FuzzRecords(f *testing.F) {
	var told bytes.Buffer
	check(f, tell(f.Context(), wiki(2).write(f, c1zstore.EnginePebble), small, &told))
	f.Add(told.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		from := &source{from: bufio.NewReader(bytes.NewReader(content)), ended: func() error { return nil }, stop: func() {}}
		head, err := from.header(t.Context())
		if err != nil {
			return
		}
		s, err := readRest(t.Context(), from, head, small)
		if err == nil && int64(len(s.grants)) > small.Grants {
			t.Errorf("%d grants", len(s.grants))
		}
	})
}

// FuzzRows makes rows of anything that a connector could send as a resource or an
// entitlement: both databases can keep them.
func FuzzRows(f *testing.F) {
	for _, one := range wiki(1).resources {
		text, err := proto.Marshal(one.sent(f))
		check(f, err)
		f.Add(text)
	}
	text, err := proto.Marshal(entitlementOf("team:all:member"))
	check(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, content []byte) {
		var texts []string
		var r v2.Resource
		if proto.Unmarshal(content, &r) == nil && checkID("resource", r.GetId().GetResource()) == nil {
			source, err := canonical(&r, r.GetAnnotations())
			check(t, err)
			row := resourceRow(&r, true, source)
			texts = append(texts, row.Name, row.Search, row.Description, row.Profile, row.Account.Login, row.Account.Email, row.Account.EmployeeID, row.Account.StatusDetail)
			texts = append(append(texts, row.Account.Keys.Emails...), row.Account.Keys.Usernames...)
			if !json.Valid([]byte(row.Profile)) {
				t.Errorf("the profile %q isn't JSON", row.Profile)
			}
			var again v2.Resource
			check(t, proto.Unmarshal(source, &again))
			if twice, err := canonical(&again, again.GetAnnotations()); err != nil || !bytes.Equal(source, twice) {
				t.Errorf("its form isn't canonical: %x, %x, %v", source, twice, err)
			}
		}
		var e v2.Entitlement
		if proto.Unmarshal(content, &e) == nil && checkID("entitlement", e.GetId()) == nil {
			source, err := canonicalEntitlement(&e)
			check(t, err)
			row := entitlementRow(&e, "", source)
			texts = append(append(texts, row.Slug, row.Name, row.Search, row.Description, row.Purpose), row.GrantableTo...)
		}
		for _, text := range texts {
			if !inventory.Storable(text) || len(text) > longestProfile {
				t.Errorf("%q can't be kept", text)
			}
		}
	})
}
