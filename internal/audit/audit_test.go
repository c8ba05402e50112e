package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
	"airlock/internal/base/trace"
)

var operator = Actor{Kind: "operator", ID: "operator", Name: "operator"}

// site is a log with all that belongs to it.
type site struct {
	*Log
	db    *db.DB
	clock *clock.Fake
	file  string
	vault *seal.Vault
}

func newSite(t testing.TB, d *db.DB) site {
	t.Helper()
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC))
	dir := t.TempDir()
	keys, err := seal.OpenKeyring(filepath.Join(dir, "key"), "")
	if err != nil {
		t.Fatal(err)
	}
	s := site{db: d, clock: c, file: filepath.Join(dir, "checkpoints.txt"), vault: seal.NewVault(d, keys, c)}
	s.Log = s.open(t)
	return s
}

// open opens the log as another start of the server does.
func (s site) open(t testing.TB) *Log {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	opened, err := New(s.db, s.vault, s.clock, Options{File: s.file, Live: live.New(s.db, log), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// add appends so many events, each a second after the one before.
func (s site) add(t testing.TB, count int) {
	t.Helper()
	for n := range count {
		s.clock.Advance(time.Second)
		s.append(t, Event{
			Actor: operator, Action: "connector.added", Object: Object{Kind: "connector", ID: fmt.Sprint("c", n), Name: "Air & <flow>"},
			AppID: fmt.Sprint("app", n%3), Detail: map[string]any{"b": n, "a": "ü"},
		})
	}
}

func (s site) append(t testing.TB, e Event) {
	t.Helper()
	if err := s.db.Write(trace.With(t.Context(), "request", "r1"), func(ctx context.Context, tx *db.Tx) error { return s.Append(ctx, tx, e) }); err != nil {
		t.Fatal(err)
	}
}

func (s site) checkpoint(t testing.TB) {
	t.Helper()
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s site) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, statement, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (s site) export(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Export(t.Context(), operator, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (s site) outside(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s site) verify(t testing.TB) Report {
	t.Helper()
	report, err := s.Verify(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func verifyExport(t testing.TB, export []byte, key, checkpoints string) Report {
	t.Helper()
	options := VerifyOptions{Key: key}
	if checkpoints != "" {
		options.Checkpoints = strings.NewReader(checkpoints)
	}
	report, err := VerifyExport(bytes.NewReader(export), options)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestARecordHasTheDocumentedForm(t *testing.T) {
	e := Entry{
		Seq: 7, ID: "2a", At: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Actor: Actor{Kind: "operator", ID: "o", Name: `"O" & <Co>`},
		Action: "app.added", Object: Object{"app", "a", "ä\u2028"}, AppID: "a", RequestID: "r", Detail: []byte(`{"x": 1}`),
	}
	want := `{"seq":7,"id":"2a","at":"2026-01-02T03:04:05.000006Z","actor":{"kind":"operator","id":"o","name":"\"O\" & <Co>"},` +
		`"action":"app.added","object":{"kind":"app","id":"a","name":"ä\u2028"},"app_id":"a","request_id":"r","detail":{"x": 1}}`
	if got := string(e.Record()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	back, err := parseRecord(e.Record())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Fatal(diff)
	}
	for _, odd := range []string{
		strings.Replace(want, `"seq":7`, `"seq": 7`, 1), strings.Replace(want, `"seq"`, `"Seq"`, 1),
		strings.Replace(want, `"app_id"`, `"more":1,"app_id"`, 1), strings.Replace(want, "000006Z", "000006+00:00", 1), want + " ",
	} {
		if _, err := parseRecord([]byte(odd)); err == nil {
			t.Errorf("taken: %s", odd)
		}
	}
}

func TestAppendIsPartOfTheTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		ctx := trace.With(t.Context(), "task", "t1")
		err := d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			for _, name := range []string{"one", "two\x00\xff", "three"} {
				if err := s.Append(ctx, tx, Event{Actor: operator, Action: "app.added", Object: Object{"app", name, name}, Detail: []string{name}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		given := fault.New(fault.Invalid, "no")
		err = d.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := s.Append(ctx, tx, Event{Action: "app.lost"}); err != nil {
				return err
			}
			return given
		})
		if !errors.Is(err, given) {
			t.Fatal(err)
		}
		s.append(t, Event{Actor: operator, Action: "app.removed"})
		list, err := s.List(t.Context(), operator, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprintf("%d %s %s %s %s", e.Seq, e.Action, e.Object.Name, e.RequestID, e.Detail))
		}
		want := []string{
			"3 app.removed  r1 null", `2 app.added three t1 ["three"]`, `1 app.added two` + "\uFFFD\uFFFD" + ` t1 ["two\u0000\ufffd"]`, `0 app.added one t1 ["one"]`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if report := s.verify(t); !report.Sound() {
			t.Fatal(report.Verdict())
		}
	})
}

func TestAppendRefusesAnEndlessDetail(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for _, detail := range []any{strings.Repeat("x", maxDetail), func() {}} {
		err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return s.Append(ctx, tx, Event{Action: "a.b", Detail: detail})
		})
		if err == nil {
			t.Errorf("a detail of type %T was taken", detail)
		}
	}
}

func TestListReadsByKeyAndFilter(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 7)
		s.append(t, Event{Actor: Actor{Kind: "connector", ID: "c1"}, Action: "sync.applied", Object: Object{Kind: "sync", ID: "s1"}, AppID: "app1"})
		for _, test := range []struct {
			filter Filter
			want   []int64
		}{
			{Filter{Limit: 3}, []int64{7, 6, 5}},
			{Filter{Limit: 3, Before: 5}, []int64{4, 3, 2}},
			{Filter{Before: 2}, []int64{1, 0}},
			{Filter{From: 6}, []int64{7, 6}},
			{Filter{AppID: "app1"}, []int64{7, 4, 1}},
			{Filter{AppID: "app1", ActorID: "c1"}, []int64{7}},
			{Filter{Action: "sync.applied"}, []int64{7}},
			{Filter{ObjectKind: "connector", ObjectID: "c2"}, []int64{2}},
			{Filter{ObjectKind: "sync", ObjectID: "c2"}, nil},
		} {
			list, err := s.List(t.Context(), operator, test.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, e := range list {
				got = append(got, e.Seq)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%+v: %s", test.filter, diff)
			}
		}
	})
}

func TestOthersMayNotRead(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	connector := Actor{Kind: "connector", ID: "c"}
	_, list := s.List(t.Context(), connector, Filter{})
	_, verify := s.Verify(t.Context(), connector)
	_, inclusion := s.ProveInclusion(t.Context(), connector, 0, 1)
	_, consistency := s.ProveConsistency(t.Context(), connector, 1, 1)
	for _, err := range []error{
		list, verify, inclusion, consistency,
		s.Export(t.Context(), connector, &bytes.Buffer{}),
		s.Follow(t.Context(), connector, 0, func(Entry) error { return nil }),
	} {
		if !fault.Is(err, fault.Forbidden) {
			t.Errorf("got %v", err)
		}
	}
}

func TestFollowHandsOverOldAndNewInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := make(chan int64)
		ended := make(chan error)
		go func() {
			ended <- s.Follow(ctx, operator, 1, func(e Entry) error {
				seen <- e.Seq
				return nil
			})
		}()
		for want := range int64(6) {
			if want == 3 {
				s.add(t, 3)
			}
			if want == 0 {
				continue
			}
			if got := <-seen; got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

// Appenders that come at once wait for each other; none of them fails, and their
// places have no gaps.
func TestConcurrentAppendersLeaveNoGap(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		const appenders, each = 8, 20
		var wait sync.WaitGroup
		for a := range appenders {
			wait.Go(func() {
				for n := range each {
					err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
						for range 1 + n%2 {
							if err := s.Append(ctx, tx, Event{Actor: operator, Action: "a.b", Object: Object{ID: fmt.Sprint(a)}}); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					if n%10 == 0 {
						if err := s.Checkpoint(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wait.Wait()
		s.checkpoint(t)
		report := s.verify(t)
		if want := int64(appenders * each * 3 / 2); !report.Sound() || report.Size != want || report.Covered != want {
			t.Fatalf("%d entries, want %d: %s", report.Size, want, report.Verdict())
		}
	})
}

func TestCheckpointIsMadeWhenTheLogHasGrown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.checkpoint(t) // of nothing
		if got := s.outside(t); got != "" {
			t.Fatalf("a log without entries has a checkpoint: %s", got)
		}
		s.add(t, 5)
		s.checkpoint(t)
		s.checkpoint(t)
		s.add(t, 1)
		s.Log = s.open(t) // another start
		s.checkpoint(t)
		s.Log = s.open(t)
		s.checkpoint(t)
		key, err := s.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int64
		if err := readNotes(strings.NewReader(s.outside(t)), func(note string) error {
			c, err := OpenCheckpoint(key, note)
			sizes = append(sizes, c.Size)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{5, 6}, sizes); diff != "" {
			t.Fatal(diff)
		}
		info, err := os.Stat(s.file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(info.Mode(), err)
		}
	})
}

// The log tells of the first checkpoint; one each minute is for who looks closely.
func TestTheFirstCheckpointIsSaid(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	var out bytes.Buffer
	log, err := New(s.db, s.vault, s.clock, Options{File: s.file, Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	s.Log = log
	for range 2 {
		s.add(t, 1)
		s.checkpoint(t)
	}
	text := out.String()
	if strings.Count(text, "level=INFO") != 1 || strings.Count(text, "level=DEBUG") != 1 || !strings.Contains(text, "entries=2") || strings.Contains(text, "—") {
		t.Error(text)
	}
}

// A crash after the database kept a checkpoint and before the file did, or in
// the middle of writing it, is made good by the next start.
func TestCheckpointThatWasCutOffIsWrittenAgain(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.add(t, 2)
	s.checkpoint(t)
	s.add(t, 2)
	s.checkpoint(t)
	whole := s.outside(t)
	for cut := len(whole) - 1; cut > len(whole)/2; cut-- {
		if err := os.WriteFile(s.file, []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Log = s.open(t)
		if err := s.Checkpoint(t.Context()); err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		if report := s.verify(t); !report.Sound() || report.Outside != 2 {
			t.Fatalf("cut at %d of %d: %s", cut, len(whole), report.Verdict())
		}
	}
}

func TestTwoServersKeepTheSameCheckpoints(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.Postgres))
	other := s
	other.file = filepath.Join(t.TempDir(), "other.txt")
	other.Log = other.open(t)
	s.add(t, 3)
	s.checkpoint(t)
	other.checkpoint(t)
	if diff := cmp.Diff(s.outside(t), other.outside(t)); diff != "" {
		t.Fatal(diff)
	}
	other.add(t, 3)
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() { s.checkpoint(t) })
		wait.Go(func() { other.checkpoint(t) })
	}
	wait.Wait()
	if report := other.verify(t); !report.Sound() || report.Outside < 2 {
		t.Fatal(report.Verdict())
	}
}

func TestProofsHoldAndDontHoldForOthers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		key, err := s.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkpoints := map[int64]Checkpoint{}
		for _, size := range []int64{1, 2, 5, 8, 13} {
			s.add(t, int(size)-len(must(s.List(t.Context(), operator, Filter{}))))
			s.checkpoint(t)
		}
		if err := readNotes(strings.NewReader(s.outside(t)), func(note string) error {
			c, err := OpenCheckpoint(key, note)
			checkpoints[c.Size] = c
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for size, c := range checkpoints {
			for seq := range size {
				proof, err := s.ProveInclusion(t.Context(), operator, seq, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.Check(c); err != nil {
					t.Error(err)
				}
				altered := proof
				altered.Record = strings.Replace(proof.Record, "connector.added", "connector.aided", 1)
				moved := proof
				moved.Seq = (seq + 1) % size
				other := c
				other.Root[3] ^= 1
				if size > 1 && moved.Check(c) == nil || altered.Check(c) == nil || proof.Check(other) == nil {
					t.Errorf("a proof of entry %d in %d holds for something else", seq, size)
				}
			}
			for old, before := range checkpoints {
				if old > size {
					continue
				}
				proof, err := s.ProveConsistency(t.Context(), operator, old, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.Check(before, c); err != nil {
					t.Error(err)
				}
				before.Root[0] ^= 1
				if proof.Check(before, c) == nil {
					t.Errorf("a proof from %d to %d holds for another log", old, size)
				}
			}
		}
		for _, odd := range [][2]int64{{-1, 5}, {5, 5}, {0, 14}, {13, 14}} {
			if _, err := s.ProveInclusion(t.Context(), operator, odd[0], odd[1]); !fault.Is(err, fault.NotFound) {
				t.Errorf("inclusion of %v: %v", odd, err)
			}
		}
		for _, odd := range [][2]int64{{0, 5}, {6, 5}, {5, 14}} {
			if _, err := s.ProveConsistency(t.Context(), operator, odd[0], odd[1]); !fault.Is(err, fault.NotFound) {
				t.Errorf("consistency of %v: %v", odd, err)
			}
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestExportOfASoundLogIsSound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		empty := verifyExport(t, s.export(t), "", "")
		if !empty.Sound() || empty.Size != 0 {
			t.Fatal(empty.Verdict())
		}
		for range 3 {
			s.add(t, 4)
			s.checkpoint(t)
		}
		s.add(t, 2) // no checkpoint covers them but the fresh one
		key := must(s.Key(t.Context()))
		export := s.export(t)
		report := verifyExport(t, export, key, s.outside(t))
		first := time.Date(2026, 3, 1, 12, 0, 1, 123456000, time.UTC)
		want := Report{
			Log: report.Log, Key: key, KeyGiven: true, Size: 14, First: first, Last: first.Add(13 * time.Second),
			Checkpoints: 4, Outside: 3, Covered: 14, Gaps: []Gap{},
		}
		if diff := cmp.Diff(want, report); diff != "" {
			t.Fatal(diff)
		}
		live := s.verify(t)
		want.Checkpoints, want.Covered = 3, 12
		if diff := cmp.Diff(want, live); diff != "" {
			t.Fatal(diff)
		}
		if words := live.Verdict(); !strings.Contains(words, "The log is sound: 14 entries") || !strings.Contains(words, "No checkpoint covers the last 2 yet") {
			t.Error(words)
		}
		if words := verifyExport(t, export, "", "").Verdict(); !strings.Contains(words, "compare it with the one you know") || !strings.Contains(words, "Without a checkpoint from outside") {
			t.Error(words)
		}
	})
}

// More than a page, with checkpoints at and around its edges.
func TestExportOfManyEntriesIsSound(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	added := 0
	for _, size := range []int{1, pageSize - 1, pageSize, pageSize + 1, 2*pageSize + 1, 2*pageSize + 3} {
		err := s.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for ; added < size; added++ {
				if err := s.Append(ctx, tx, Event{Actor: operator, Action: "a.b"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.checkpoint(t)
	}
	if report := verifyExport(t, s.export(t), "", s.outside(t)); !report.Sound() || report.Size != 2*pageSize+3 || report.Checkpoints != 7 || report.Outside != 6 {
		t.Fatalf("%+v", report)
	}
	if report := s.verify(t); !report.Sound() || report.Checkpoints != 6 || report.Outside != 6 {
		t.Fatalf("%+v", report)
	}
}

func TestACheckpointIsNoOtherKeys(t *testing.T) {
	ours, theirs := must(openKey(string(must(newKey())))), must(openKey(string(must(newKey()))))
	signed := must(ours.sign(3, emptyRoot(), time.Now()))
	if _, err := OpenCheckpoint(theirs.public, signed.Note); err == nil {
		t.Error("a checkpoint opened with another log's key")
	}
	if _, err := OpenCheckpoint("nonsense", signed.Note); err == nil {
		t.Error("a key that is none opened a checkpoint")
	}
	opened := must(OpenCheckpoint(ours.public, signed.Note))
	if opened.Size != 3 || opened.Root != emptyRoot() {
		t.Errorf("%+v", opened)
	}
	for _, text := range []string{
		ours.signer.Name() + "\n-3\n" + emptyRoot().String() + "\n" + time.Now().UTC().Format(stamp) + "\n",
		ours.signer.Name() + "\n3\nnohash\n" + time.Now().UTC().Format(stamp) + "\n",
		ours.signer.Name() + "\n3\n" + emptyRoot().String() + "\nyesterday\n",
		ours.signer.Name() + "\n3\n" + emptyRoot().String() + "\n",
		"other\n3\n" + emptyRoot().String() + "\n" + time.Now().UTC().Format(stamp) + "\n",
	} {
		if _, err := openCheckpoint(ours.verifier, signText(t, ours, text)); err == nil {
			t.Errorf("taken: %q", text)
		}
	}
}

func lines(export []byte) []string {
	return slices.Collect(strings.SplitAfterSeq(strings.TrimSuffix(string(export), "\n"), "\n"))
}
