package audit

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

func places(list []Entry) (got []int64) {
	for _, e := range list {
		got = append(got, e.Seq)
	}
	return got
}

func TestTheLogIsSearchedPageByPage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 7) // a second apart
		start := s.clock.Now()
		s.clock.Advance(time.Hour)
		s.append(t, Event{
			Actor: Actor{Kind: "person", ID: "p1", Name: "Ines Marchetti"}, Action: "connector_app.removed",
			Object: Object{Kind: "app", ID: "a9", Name: "100%_sure"}, AppID: "app1",
		})
		for _, test := range []struct {
			name  string
			query Query
			next  int64
			want  []int64
		}{
			{"a page", Query{Limit: 3}, 5, []int64{7, 6, 5}},
			{"the next", Query{Limit: 3, Before: 5}, 2, []int64{4, 3, 2}},
			{"the last", Query{Limit: 2, Before: 2}, 0, []int64{1, 0}},
			{"nothing before the first", Query{From: start.Add(48 * time.Hour)}, 0, nil},
			{"a name in any case", Query{Text: "MARCH"}, 0, []int64{7}},
			{"signs that are none of a pattern", Query{Text: "%_s"}, 0, []int64{7}},
			{"no pattern", Query{Text: "1__%"}, 0, nil},
			{"an id", Query{Text: "c3"}, 0, []int64{3}},
			{"a request", Query{Text: "r1", Limit: 2}, 6, []int64{7, 6}},
			{"who", Query{ActorID: "p1"}, 0, []int64{7}},
			{"what", Query{Action: "connector.added", Limit: 1}, 6, []int64{6}},
			{"what is before the dot", Query{Action: "connector_app"}, 0, []int64{7}},
			{"an object", Query{ObjectKind: "connector", ObjectID: "c2"}, 0, []int64{2}},
			{"an app", Query{AppID: "app1"}, 0, []int64{7, 4, 1}},
			{"from a time on", Query{From: start}, 0, []int64{7, 6}},
			{"before a time", Query{To: start}, 0, []int64{5, 4, 3, 2, 1, 0}},
			{"a time without entries", Query{From: start.Add(time.Second), To: start.Add(time.Minute)}, 0, nil},
			{"so many at most", Query{Text: "c1", Span: 3}, 5, nil},
			{"and on", Query{Text: "c1", Span: 3, Before: 5}, 2, nil},
			{"and on to the end", Query{Text: "c1", Span: 3, Before: 2}, 0, []int64{1}},
		} {
			found, err := s.Search(t.Context(), operator, test.query)
			if err != nil {
				t.Fatal(test.name, err)
			}
			if diff := cmp.Diff(test.want, places(found.Entries)); diff != "" {
				t.Errorf("%s: %s", test.name, diff)
			}
			if found.Next != test.next {
				t.Errorf("%s: the next page is before %d", test.name, found.Next)
			}
		}
	})
}

func TestAnEntryIsProvedOnceACheckpointCoversIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.add(t, 5)
		proof := must(s.Prove(t.Context(), operator, 3))
		if proof.Checkpoint.Size != 0 || proof.Seq != 3 || len(proof.Hash) != 44 {
			t.Errorf("before the first checkpoint: %+v", proof)
		}
		news := s.options.Live.Subscribe(Topic)
		defer news.Close()
		s.checkpoint(t)
		select {
		case <-news.C():
		case <-time.After(10 * time.Second):
			t.Error("nobody was told of the checkpoint")
		}
		s.add(t, 1)
		proof = must(s.Prove(t.Context(), operator, 3))
		if err := proof.Inclusion.Check(proof.Checkpoint); err != nil || proof.Checkpoint.Size != 5 {
			t.Error(proof.Checkpoint.Size, err)
		}
		if open := must(s.Prove(t.Context(), operator, 5)); open.Checkpoint.Size != 0 {
			t.Error("what no checkpoint covers is proved")
		}
		if _, err := s.Prove(t.Context(), operator, 6); !fault.Is(err, fault.NotFound) {
			t.Errorf("an entry that isn't there: %v", err)
		}
	})
}

func TestALogIsVerifiedInTheBackground(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.add(t, 3)
	s.checkpoint(t)
	v := NewVerifier(s.Log)
	if last := must(v.Last(operator)); last.Running || !last.At.IsZero() {
		t.Errorf("before the first: %+v", last)
	}
	<-must(v.Begin(t.Context(), operator))
	if last := must(v.Last(operator)); last.Running || !last.Report.Sound() || last.Report.Size != 3 || !last.At.Equal(s.clock.Now()) {
		t.Errorf("%+v", last)
	}
	s.exec(t, "UPDATE audit_event SET action = 'x' WHERE seq = 1")
	<-must(v.Begin(t.Context(), operator))
	if last := must(v.Last(operator)); last.Report.Sound() {
		t.Error("what was altered isn't seen")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	<-must(v.Begin(ended, operator))
	if last := must(v.Last(operator)); last.Failed == "" || last.Running {
		t.Errorf("a verification that ended early: %+v", last)
	}
	v.state.Running = true
	if _, err := v.Begin(t.Context(), operator); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second one at once: %v", err)
	}
}

func TestOthersMayNotSearchProveOrVerify(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	visitor := Actor{Kind: "visitor", ID: "192.0.2.1"}
	v := NewVerifier(s.Log)
	_, searched := s.Search(t.Context(), visitor, Query{})
	_, proved := s.Prove(t.Context(), visitor, 0)
	_, checkpoint := s.LastCheckpoint(t.Context(), visitor)
	_, begun := v.Begin(t.Context(), visitor)
	_, last := v.Last(visitor)
	for n, err := range []error{searched, proved, checkpoint, begun, last, s.Export(t.Context(), visitor, &bytes.Buffer{})} {
		if !fault.Is(err, fault.Forbidden) {
			t.Errorf("%d: %v", n, err)
		}
	}
}
