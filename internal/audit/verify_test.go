package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

func signText(t *testing.T, k *key, text string) string {
	t.Helper()
	return string(must(note.Sign(&note.Note{Text: text}, k.signer)))
}

func TestTheTreeGrowsAsTlogsDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5), 0, 70).Draw(t, "records")
		var kept []tlog.Hash
		reader := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
			var list []tlog.Hash
			for _, place := range places {
				list = append(list, kept[place])
			}
			return list, nil
		})
		var grown tree
		for n, data := range records {
			want, err := tlog.StoredHashes(int64(n), data, reader)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, grown.add(tlog.RecordHash(data))); diff != "" {
				t.Fatal(diff)
			}
			kept = append(kept, want...)
			root, err := tlog.TreeHash(int64(n)+1, reader)
			if err != nil || root != grown.root() {
				t.Fatalf("size %d: %v", n+1, err)
			}
		}
	})
}

// Each column of an entry is under the hash: whoever changes one in the database
// is found by the log itself, by an export, and before the next checkpoint is
// signed where the hashes were changed as well.
func TestAChangedColumnIsFound(t *testing.T) {
	columns := map[string]any{
		"id": "x", "at": int64(1), "actor_kind": "system", "actor_id": "x", "actor_name": "x", "action": "x", "object_kind": "x",
		"object_id": "x", "object_name": "x", "app_id": "x", "request_id": "x", "detail": `{ "a":"ü","b":3}`,
	}
	for n := range strings.SplitSeq(entryColumns, ", ") {
		if _, ok := columns[n]; !ok && n != "seq" {
			t.Errorf("no test changes %s", n)
		}
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 4)
		s.checkpoint(t)
		s.add(t, 4)
		s.checkpoint(t)
		for column, value := range columns {
			before := must(db.Value[any](t.Context(), d, "SELECT "+column+" FROM audit_event WHERE seq = 5"))
			if text, ok := before.([]byte); ok {
				before = string(text)
			}
			s.exec(t, "UPDATE audit_event SET "+column+" = $1 WHERE seq = 5", value)
			if got := s.verify(t).Tampered; !strings.Contains(got, "entry 5 isn't what it was") {
				t.Errorf("%s: %q", column, got)
			}
			if got := verifyExport(t, s.export(t), "", "").Tampered; !strings.Contains(got, "an entry from 4 to 7 isn't what it was") {
				t.Errorf("%s in the export: %q", column, got)
			}
			s.exec(t, "UPDATE audit_event SET "+column+" = $1 WHERE seq = 5", before)
		}
		if report := s.verify(t); !report.Sound() {
			t.Fatal(report.Verdict())
		}
	})
}

func TestWhatIsDoneToTheTablesIsFound(t *testing.T) {
	swap := func(t *testing.T, s site, a, b int) {
		s.exec(t, "UPDATE audit_event SET seq = 1000 WHERE seq = $1", a)
		s.exec(t, "UPDATE audit_event SET seq = $1 WHERE seq = $2", a, b)
		s.exec(t, "UPDATE audit_event SET seq = $1 WHERE seq = 1000", b)
	}
	for name, test := range map[string]struct {
		do     func(t *testing.T, s site)
		live   string
		export string // '' where it can't be made, or what it holds is right
	}{
		"an entry taken out": {
			func(t *testing.T, s site) { s.exec(t, "DELETE FROM audit_event WHERE seq = 5") },
			"entry 5 should follow, and entry 6 does", "entry 5 should follow, and entry 6 does",
		},
		"the first taken out": {
			func(t *testing.T, s site) { s.exec(t, "DELETE FROM audit_event WHERE seq = 0") },
			"entry 0 should follow, and entry 1 does", "entry 0 should follow, and entry 1 does",
		},
		"the last taken out": {
			func(t *testing.T, s site) { s.exec(t, "DELETE FROM audit_event WHERE seq = 9") },
			"the entries from 9 to 9 are missing", "the checkpoint of 10 entries is where 9 entries are",
		},
		"all taken out": {
			func(t *testing.T, s site) { s.exec(t, "DELETE FROM audit_event") },
			"checkpoint of 4 entries is where 0 entries are", "checkpoint of 4 entries is where 0 entries are",
		},
		"two in another order": {
			func(t *testing.T, s site) { swap(t, s, 2, 3) },
			"entry 2 isn't what it was", "an entry from 0 to 3 isn't what it was",
		},
		"the end cut off": {
			func(t *testing.T, s site) {
				s.exec(t, "DELETE FROM audit_event WHERE seq >= 6")
				s.exec(t, "UPDATE audit_head SET size = 6")
			},
			"its last checkpoint is of 8 entries, and it has 6", "",
		},
		"the end cut off with its checkpoint": {
			func(t *testing.T, s site) {
				s.exec(t, "DELETE FROM audit_event WHERE seq >= 6")
				s.exec(t, "DELETE FROM audit_checkpoint WHERE size > 6")
				s.exec(t, "UPDATE audit_head SET size = 6")
			},
			"a checkpoint that was kept outside says that the log had 8 entries", "",
		},
		"the head set back": {
			func(t *testing.T, s site) { s.exec(t, "UPDATE audit_head SET size = 9") },
			"1 entries are behind the end of the log", "",
		},
		"a hash taken out": {
			func(t *testing.T, s site) { s.exec(t, "DELETE FROM audit_hash WHERE place = 3") },
			"the hash of the entries 2 to 2 is missing", "",
		},
		"a hash changed": {
			func(t *testing.T, s site) {
				s.exec(t, "UPDATE audit_hash SET hash = $1 WHERE place = 3", bytes.Repeat([]byte{1}, 32))
			},
			"entry 2 isn't what it was", "",
		},
		"a hash cut off": {
			func(t *testing.T, s site) { s.exec(t, "UPDATE audit_hash SET hash = $1 WHERE place = 3", []byte{1}) },
			"the hash at 3 has 1 bytes", "",
		},
		"a checkpoint moved": {
			func(t *testing.T, s site) { s.exec(t, "UPDATE audit_checkpoint SET size = 5 WHERE size = 4") },
			"the checkpoint of 4 entries is where 5 entries are", "the checkpoint of 4 entries is where 5 entries are",
		},
		"a checkpoint altered": {
			func(t *testing.T, s site) {
				s.exec(t, "UPDATE audit_checkpoint SET note = replace(note, '2026', '2025') WHERE size = 4")
			},
			"the checkpoint after entry 3: it isn't signed", "the checkpoint after entry 3: it isn't signed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, dbtest.Open(t, db.SQLite))
			s.add(t, 4)
			s.checkpoint(t)
			s.add(t, 4)
			s.checkpoint(t)
			s.add(t, 2)
			test.do(t, s)
			if got := s.verify(t).Tampered; !strings.Contains(got, test.live) {
				t.Errorf("the log says %q", got)
			}
			var export bytes.Buffer
			err := s.Export(t.Context(), operator, &export)
			if test.export == "" {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := verifyExport(t, export.Bytes(), "", "").Tampered; !strings.Contains(got, test.export) {
				t.Errorf("the export says %q", got)
			}
		})
	}
}

func TestNoCheckpointIsSignedOverATamperedLog(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 6)
		s.checkpoint(t)
		before := s.outside(t)
		s.exec(t, "UPDATE audit_hash SET hash = $1 WHERE place = $2", bytes.Repeat([]byte{1}, 32), tlog.StoredHashIndex(2, 0))
		s.add(t, 1)
		for range 2 {
			if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrTampered) || !strings.Contains(fault.Words(err), "its first 6 entries aren't those of the checkpoint") {
				t.Fatal(err)
			}
		}
		if err := s.Export(t.Context(), operator, &bytes.Buffer{}); !errors.Is(err, ErrTampered) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, s.outside(t)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// rewrite is what the database's owner can do: another log in place of this one
// from an entry on, with right hashes and checkpoints that its own key signed.
func (s site) rewrite(t *testing.T, from int, restored bool) {
	t.Helper()
	size := must(headSize(t.Context(), s.db))
	s.exec(t, "DELETE FROM audit_event WHERE seq >= $1", from)
	s.exec(t, "DELETE FROM audit_hash WHERE place >= $1", tlog.StoredHashIndex(0, int64(from)))
	s.exec(t, "DELETE FROM audit_checkpoint WHERE size > $1", from)
	s.exec(t, "UPDATE audit_head SET size = $1", from)
	if restored {
		if err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return s.AppendRestored(ctx, tx, operator, Object{Kind: "server"})
		}); err != nil {
			t.Fatal(err)
		}
		from++
	}
	for n := from; int64(n) < size; n++ {
		s.append(t, Event{Actor: operator, Action: "app.renamed", Object: Object{ID: fmt.Sprint(n)}})
	}
}

func TestARewrittenAndSignedLogIsFoundByCheckpointsFromOutside(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for range 3 {
		s.add(t, 4)
		s.checkpoint(t)
	}
	outside := s.outside(t)
	s.rewrite(t, 6, false)
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrTampered) {
		t.Fatalf("the running server signed it: %v", err)
	}
	s.Log = s.open(t)
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrTampered) {
		t.Fatalf("a server that started anew signed it: %v", err)
	}
	// Whoever has the data directory too can put the server's file away; the copy
	// that went elsewhere still tells.
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.Log = s.open(t)
	s.checkpoint(t)
	export := s.export(t)
	if report := verifyExport(t, export, "", ""); !report.Sound() || !strings.Contains(report.Verdict(), "Without a checkpoint from outside") {
		t.Error(report.Verdict())
	}
	if got := verifyExport(t, export, "", outside).Tampered; !strings.Contains(got, "an entry from 4 to 7 isn't what it was") || !strings.Contains(got, "the log was rewritten") {
		t.Error(got)
	}
}

func TestALogWithAnotherKeyIsFound(t *testing.T) {
	s, other := newSite(t, dbtest.Open(t, db.SQLite)), newSite(t, dbtest.Open(t, db.SQLite))
	for _, s := range []site{s, other} {
		s.add(t, 3)
		s.checkpoint(t)
	}
	if got := verifyExport(t, other.export(t), must(s.Key(t.Context())), "").Tampered; !strings.Contains(got, "the key that is known is") {
		t.Error(got)
	}
	both := other.outside(t) + s.outside(t)
	if got := verifyExport(t, other.export(t), "", both).Tampered; !strings.Contains(got, "checkpoint 2 of the file from outside: it isn't signed by the key") {
		t.Error(got)
	}
	if _, err := VerifyExport(bytes.NewReader(s.export(t)), VerifyOptions{Key: "key"}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// A file that holds no checkpoint of the log shows nothing, and isn't taken for
// one that agrees.
func TestCheckpointsOfAnotherLogProveNothing(t *testing.T) {
	s, other := newSite(t, dbtest.Open(t, db.SQLite)), newSite(t, dbtest.Open(t, db.SQLite))
	if report := s.verify(t); !report.Sound() { // before there is any
		t.Error(report.Verdict())
	}
	for _, s := range []site{s, other} {
		s.add(t, 3)
		s.checkpoint(t)
	}
	for file, words := range map[string]string{
		"no checkpoints":    "holds none at all",
		other.outside(t):    "none of the 1 in the file is signed by the key of airlock/",
		"\n":                "holds none at all",
		string(s.export(t)): "holds none at all",
	} {
		report := verifyExport(t, s.export(t), "", file)
		if report.Sound() || report.Tampered != "" || !strings.Contains(report.Verdict(), words) {
			t.Error(report.Verdict())
		}
	}
	if report := verifyExport(t, s.export(t), "", s.outside(t)); !report.Sound() || report.Outside != 1 {
		t.Error(report.Verdict())
	}
	// The same goes for the server's own file.
	for _, text := range []string{"", other.outside(t)} {
		if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if report := s.verify(t); report.Sound() || report.Unproved == "" {
			t.Error(report.Verdict())
		}
	}
}

func TestCheckpointsOfAnotherLogAreSetAside(t *testing.T) {
	s, other := newSite(t, dbtest.Open(t, db.SQLite)), newSite(t, dbtest.Open(t, db.SQLite))
	for _, s := range []site{s, other} {
		s.add(t, 3)
		s.checkpoint(t)
	}
	s.Log = s.open(t)
	if to, err := s.SetAside(t.Context()); to != "" || err != nil {
		t.Error(to, err)
	}
	foreign := other.outside(t)
	if err := os.WriteFile(s.file, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Log = s.open(t)
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrTampered) {
		t.Fatal(err)
	}
	to, err := s.SetAside(t.Context())
	if err != nil || to != s.file+".until-"+s.clock.Now().UTC().Format("20060102T150405Z") {
		t.Fatal(to, err)
	}
	if kept, err := os.ReadFile(to); err != nil || string(kept) != foreign {
		t.Error("it wasn't kept", err)
	}
	s.checkpoint(t)
	if report := s.verify(t); !report.Sound() || report.Outside != 1 {
		t.Error(report.Verdict())
	}
	// What was set aside before isn't written over.
	if err := os.WriteFile(s.file, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Log = s.open(t)
	if to, err := s.SetAside(t.Context()); err == nil {
		t.Error(to)
	}
}

func TestARestoredBackupIsAGap(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for range 3 {
		s.add(t, 4)
		s.checkpoint(t)
	}
	// The backup had six entries.
	s.clock.Advance(time.Hour)
	at := s.clock.Now()
	s.rewrite(t, 6, true)
	s.Log = s.open(t)
	s.checkpoint(t)
	s.add(t, 3)
	s.checkpoint(t)
	want := []Gap{{From: 6, To: 11, Restored: at}}
	report := s.verify(t)
	if !report.Sound() || report.Outside != 3 || report.Covered != 15 {
		t.Fatalf("%+v", report)
	}
	if diff := cmp.Diff(want, report.Gaps); diff != "" {
		t.Fatal(diff)
	}
	if words := report.Verdict(); !strings.Contains(words, "An older backup was restored at 2026-03-01T13:00:12Z: at least the entries 6 to 11 as they were before are lost.") {
		t.Error(words)
	}
	export := verifyExport(t, s.export(t), "", s.outside(t))
	if diff := cmp.Diff(want, export.Gaps); diff != "" || !export.Sound() {
		t.Fatal(export.Verdict(), diff)
	}

	// What was signed after the restore is no part of the gap.
	s.rewrite(t, 8, false)
	if got := s.verify(t).Tampered; !strings.Contains(got, "the log was rewritten") && !strings.Contains(got, "an entry from") {
		t.Error(got)
	}
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrTampered) {
		t.Error(err)
	}
}

// An entry that says so doesn't excuse what was done before it.
func TestARestoreExcusesOnlyWhatFollowsIt(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for range 3 {
		s.add(t, 4)
		s.checkpoint(t)
	}
	outside := s.outside(t)
	s.rewrite(t, 2, false)
	s.clock.Advance(time.Hour)
	for _, size := range []int64{0, 2, 100} {
		s.append(t, Event{Actor: operator, Action: actionRestored, Detail: restored{size}})
	}
	if got := verifyExport(t, s.exportWithout(t), "", outside).Tampered; !strings.Contains(got, "the log was rewritten") {
		t.Error(got)
	}
}

// exportWithout exports as a server does that knows no file.
func (s site) exportWithout(t *testing.T) []byte {
	t.Helper()
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.Log = s.open(t)
	return s.export(t)
}

func TestAnExportThatWasCutOffIsNotSound(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.add(t, 3)
	s.checkpoint(t)
	s.add(t, 2)
	export := s.export(t)
	list := lines(export)
	for n := 1; n < len(list); n++ {
		if report := verifyExport(t, []byte(strings.Join(list[:n], "")), "", ""); report.Sound() {
			t.Errorf("of %d lines: %s", n, report.Verdict())
		}
	}
	for cut := len(list[0]); cut < len(export)-1; cut++ {
		if report := verifyExport(t, export[:cut], "", ""); report.Sound() {
			t.Errorf("cut at %d: %s", cut, report.Verdict())
		}
	}
	if report := verifyExport(t, append(export, list[1]...), "", ""); report.Sound() {
		t.Error("with a line more: ", report.Verdict())
	}
	// The header may be altered to say less, and then the last checkpoint is short.
	less := strings.Replace(strings.Join(list[:4], ""), `"size":5`, `"size":3`, 1)
	if report := verifyExport(t, []byte(less), "", ""); report.Sound() {
		t.Error("cut at an entry, and the header altered: ", report.Verdict())
	}
	// At a checkpoint it is the log as it was then, unless one knows of a later one.
	less += list[4]
	s.checkpoint(t)
	if report := verifyExport(t, []byte(less), "", s.outside(t)); report.Sound() {
		t.Error("cut at a checkpoint, and the header altered: ", report.Verdict())
	}
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	for _, text := range []string{"", "\n", "{}", "[]\n", `{"log":"a","size":-1}`, "seq,id\n", strings.Repeat("x", maxLine+1), `{"log":"airlock/x","key":"airlock/x"}`} {
		if _, err := VerifyExport(strings.NewReader(text), VerifyOptions{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	broken := errors.New("the disk is broken")
	if _, err := VerifyExport(failing{broken}, VerifyOptions{}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAFileOfCheckpointsWithOddLinesIsRead(t *testing.T) {
	k := must(openKey(string(must(newKey()))))
	one, two := must(k.sign(1, emptyRoot(), time.Now())), must(k.sign(2, emptyRoot(), time.Now()))
	torn := one.Note[:len(one.Note)/2]
	var got []int64
	err := readNotes(strings.NewReader("remarks\n\n"+one.Note+"\n"+torn+"\n"+two.Note+"\n"+torn), func(signed string) error {
		c, err := openCheckpoint(k.verifier, signed)
		got = append(got, c.Size)
		return err
	})
	if diff := cmp.Diff([]int64{1, 2}, got); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
}

// Whatever a file holds, reading it ends with a report or an error; and it is
// sound only if it is, byte for byte, entries under a checkpoint of the key.
func FuzzVerifyExport(f *testing.F) {
	s := newSite(f, dbtest.Open(f, db.SQLite))
	s.add(f, 3)
	s.checkpoint(f)
	s.add(f, 2)
	sound := s.export(f)
	key := must(s.Key(f.Context()))
	f.Add(sound)
	for n := range sound {
		if n%97 == 0 {
			changed := bytes.Clone(sound)
			changed[n] ^= 1
			f.Add(changed)
			f.Add(sound[:n])
		}
	}
	good := map[string]bool{} // the entries, however many
	for _, line := range lines(sound) {
		good[strings.TrimSuffix(line, "\n")] = true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		report, err := VerifyExport(bytes.NewReader(data), VerifyOptions{Key: key, Checkpoints: bytes.NewReader(data)})
		if err != nil || !report.Sound() {
			return
		}
		for line := range bytes.Lines(data) {
			line = bytes.TrimRight(line, "\r\n")
			if bytes.HasPrefix(line, []byte(`{"seq"`)) && !good[string(line)] {
				t.Fatalf("an entry that never was is sound: %s", line)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			s := newSite(b, dbtest.Open(b, engine))
			event := Event{Actor: operator, Action: "connector.added", Object: Object{"connector", "c", "Airflow"}, AppID: "a", Detail: map[string]int{"a": 1}}
			for b.Loop() {
				s.append(b, event)
			}
		})
		b.Run(string(engine)+", within a transaction", func(b *testing.B) {
			s := newSite(b, dbtest.Open(b, engine))
			event := Event{Actor: operator, Action: "connector.added", Object: Object{"connector", "c", "Airflow"}, AppID: "a", Detail: map[string]int{"a": 1}}
			if err := s.db.Write(b.Context(), func(ctx context.Context, tx *db.Tx) error {
				for b.Loop() {
					if err := s.Append(ctx, tx, event); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkVerifyExport(b *testing.B) {
	s := newSite(b, dbtest.Open(b, db.SQLite))
	if err := s.db.Write(b.Context(), func(ctx context.Context, tx *db.Tx) error {
		for range 20_000 {
			if err := s.Append(ctx, tx, Event{Actor: operator, Action: "connector.added", Object: Object{"connector", "c", "Airflow"}, Detail: map[string]int{"a": 1}}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	export := s.export(b)
	for b.Loop() {
		if report := verifyExport(b, export, "", ""); !report.Sound() {
			b.Fatal(report.Verdict())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/20_000, "µs/entry")
}
