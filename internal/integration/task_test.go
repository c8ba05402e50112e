package integration

import (
	"testing"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	grants "github.com/conductorone/baton-sdk/pkg/types/grant"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func queued(kind Kind) Task {
	return Task{ID: "t", Kind: kind, State: TaskQueued, NotBefore: noon, CreatedAt: noon, GiveUpAt: noon.Add(kind.rules().waits)}
}

func TestFailuresThatMayPassAreTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   Kind
		answer Answer
		state  TaskState
		words  string
	}{
		{"unavailable", KindGrant, bad(codes.Unavailable, "rpc error: code = Unavailable desc = no route\ntask failed and is non-retryable"), TaskQueued, "the target system can't be reached: no route"},
		{"limited", KindRevoke, bad(codes.ResourceExhausted, ""), TaskQueued, "the target system limits how much may be asked of it"},
		{"stopped", KindGrant, bad(codes.Unknown, "grant failed: context canceled"), TaskQueued, "grant failed: context canceled"},
		{"refused", KindGrant, bad(codes.PermissionDenied, "no"), TaskFailed, "the connector's account in the target system lacks a permission: no"},
		{"provisioning is off", KindGrant, bad(codes.FailedPrecondition, "rpc error: code = FailedPrecondition desc = provisioning is not enabled"), TaskFailed, "provisioning is off: start the connector with --provisioning (BATON_PROVISIONING=true)"},
		{"not again what isn't idempotent", KindCreateAccount, bad(codes.Unavailable, "no route"), TaskFailed, "the target system can't be reached: no route"},
		{"a stopped sync", KindSync, bad(codes.Unknown, "context canceled"), TaskQueued, ""},
		{"a failed sync", KindSync, bad(codes.Unavailable, "no route"), TaskFailed, "the target system can't be reached: no route"},
		{"no words", KindGrant, bad(codes.Internal, ""), TaskFailed, "the connector failed without a message (Internal)"},
		{"a made-up code", KindGrant, bad(4711, "odd"), TaskFailed, "odd"},
		{"an error that is OK", KindGrant, bad(codes.OK, "odd"), TaskFailed, "odd"},
		{"no status", KindGrant, Answer{}, TaskFailed, "the connector failed without a message (Unknown)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := queued(test.kind)
			task.lease("a", noon)
			task.finish("a", test.answer, noon.Add(time.Second))
			if task.State != test.state || task.Error != test.words {
				t.Errorf("it is %s with %q, not %s with %q", task.State, task.Error, test.state, test.words)
			}
			if task.State == TaskFailed {
				if f := task.Failure(); f == nil || f.Words != test.words {
					t.Errorf("the failure is %+v", f)
				}
			}
		})
	}
}

func TestARefusalOnPurposeIsTold(t *testing.T) {
	task := queued(KindGrant)
	task.lease("a", noon)
	refusal, _ := grpcstatus.FromError(grants.NewErrGrantCancelled("the vault is sealed"))
	task.finish("a", Answer{Status: refusal.Proto()}, noon)
	if f := task.Failure(); !f.Declined || f.Retryable || f.Words != "it was refused: the vault is sealed" {
		t.Errorf("the failure is %+v", f)
	}
}

func TestTriesEnd(t *testing.T) {
	task, now := queued(KindGrant), noon
	for n := range 5 {
		if task.State != TaskQueued || task.NotBefore.After(now) {
			t.Fatalf("after %d tries it is %s, not before %s", n, task.State, task.NotBefore)
		}
		task.lease("a", now)
		task.finish("a", bad(codes.Unavailable, "no route"), now)
		now = now.Add(backoff(int64(n + 1)))
	}
	if task.State != TaskFailed || !task.Failure().Retryable {
		t.Errorf("it is %s: %+v", task.State, task.Failure())
	}
}

func TestWhatNobodyAnsweredIsLost(t *testing.T) {
	task := queued(KindCreateAccount)
	task.lease("a", noon)
	if v := task.lose(noon.Add(time.Hour)); v != ended || !task.Failure().Lost {
		t.Errorf("it is %s: %+v", task.State, task.Failure())
	}
}

func TestAnAnswerOfAnotherKindIsAFailure(t *testing.T) {
	task := queued(KindGrant)
	task.lease("a", noon)
	if v := task.finish("a", ok(&v2.ListEventsResponse{}), noon); v != ended || task.State != TaskFailed {
		t.Errorf("it is %s", task.State)
	}
	task = queued(KindGrant)
	task.lease("a", noon)
	if v := task.finish("a", Answer{OK: true}, noon); v != ended || task.State != TaskFailed {
		t.Errorf("without an answer it is %s", task.State)
	}
}

// Whatever comes, in whatever order: what is over stays as it is, one host has a
// task at a time, it isn't given out more often than its kind allows, and it ends.
func TestATaskEndsOnceWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		r := kind.rules()
		task, now := queued(kind), noon
		answers := map[string]Answer{"fine": ok(kind.answer()), "passes": bad(codes.Unavailable, "x"), "stays": bad(codes.NotFound, "x"), "stopped": bad(codes.Unknown, "context canceled")}
		hosts := rapid.SampledFrom([]string{"a", "b"})
		step := func() {
			before := task
			var v verdict
			switch event := rapid.SampledFrom([]string{"lease", "beat", "finish", "lapse", "expire", "withdraw", "wait"}).Draw(t, "event"); event {
			case "wait":
				now = now.Add(time.Duration(rapid.Int64Range(1, int64(3*time.Hour)).Draw(t, "wait")))
			case "lease":
				if task.State == TaskQueued && !task.NotBefore.After(now) {
					task.lease(hosts.Draw(t, "host"), now)
				}
			case "beat":
				host := hosts.Draw(t, "host")
				if task.beat(host, now) && (task.State != TaskLeased || task.Host != host) {
					t.Fatalf("%s may go on with a task that is %s at %s", host, task.State, task.Host)
				}
			case "finish":
				v = task.finish(hosts.Draw(t, "host"), answers[rapid.SampledFrom([]string{"fine", "passes", "stays", "stopped"}).Draw(t, "answer")], now)
			case "lapse":
				if task.State == TaskLeased && !now.Before(task.LeaseUntil) {
					v = task.lose(now)
				}
			case "expire":
				v = task.expire(now)
			case "withdraw":
				v = task.withdraw(now)
			}
			if before.State.Over() && (task.State != before.State || v != ignored || !task.FinishedAt.Equal(before.FinishedAt)) {
				t.Fatalf("it was %s, and is %s", before.State, task.State)
			}
			if (v == ended) != (!before.State.Over() && task.State.Over()) {
				t.Fatalf("it went from %s to %s with the verdict %d", before.State, task.State, v)
			}
			if (v == requeued) != (before.State == TaskLeased && task.State == TaskQueued) {
				t.Fatalf("it went from %s to %s with the verdict %d", before.State, task.State, v)
			}
			if task.Attempts > r.attempts {
				t.Fatalf("it was given out %d times, and may be %d times", task.Attempts, r.attempts)
			}
			if task.State == TaskLeased && task.LeaseUntil.After(task.LeasedAt.Add(r.runs)) {
				t.Fatal("its lease is longer than it may run")
			}
			if task.State == TaskDone && before.State != TaskDone && before.Host != task.Host {
				t.Fatal("a host finished it that never had it")
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step()
		}
		for n := 0; !task.State.Over(); n++ { // left alone, it ends
			if n > 50 {
				t.Fatalf("it is %s for ever", task.State)
			}
			now = now.Add(r.waits + r.runs)
			task.lose(now)
			task.expire(now)
		}
	})
}

func TestScheduleIsChecked(t *testing.T) {
	for _, test := range []struct {
		name string
		in   Schedule
		want string // words, or a part of the error
		bad  bool
	}{
		{"usual", Schedule{}, "every 1h", false},
		{"shortest", Schedule{Every: 30 * time.Minute}, "every 30m", false},
		{"too short", Schedule{Every: 29 * time.Minute}, "must be 30m0s to", true},
		{"both", Schedule{Every: time.Hour, Cron: "0 * * * *"}, "not both", true},
		{"zone alone", Schedule{Zone: "Europe/Vienna"}, "goes with a cron line", true},
		{"cron", Schedule{Cron: " 0  */6 * * 1-5 ", Zone: "Europe/Vienna"}, "at 0 */6 * * 1-5 (Europe/Vienna)", false},
		{"cron of UTC", Schedule{Cron: "15 3 * * *"}, "at 15 3 * * * (UTC)", false},
		{"too often", Schedule{Cron: "*/10 * * * *"}, "due again after 10m0s", true},
		{"now and then too often", Schedule{Cron: "0,10 3 * * *"}, "due again after 10m0s", true},
		{"never", Schedule{Cron: "0 0 31 2 *"}, "never due", true},
		{"seconds", Schedule{Cron: "0 0 0 * * *"}, "can't be read", true},
		{"no zone", Schedule{Cron: "0 0 * * *", Zone: "Middle/Earth"}, "no time zone", true},
		{"zone in the line", Schedule{Cron: "CRON_TZ=UTC 0 0 * * *"}, "carries a zone", true},
		{"panics of the parser", Schedule{Cron: "TZ=0 "}, "carries a zone", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.in.Checked()
			if test.bad {
				wants(t, err, "invalid", test.want)
				return
			}
			check(t, err)
			if got.Words() != test.want {
				t.Errorf("it says %q, not %q", got.Words(), test.want)
			}
		})
	}
}

func TestCronFollowsItsZoneThroughSummertime(t *testing.T) {
	s, err := Schedule{Cron: "0 9 * * *", Zone: "Europe/Vienna"}.Checked()
	check(t, err)
	for _, test := range []struct{ after, next string }{
		{"2026-03-28T12:00:00Z", "2026-03-29T07:00:00Z"},
		{"2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z"},
	} {
		after, err := time.Parse(time.RFC3339, test.after)
		check(t, err)
		if got := s.Next(after).Format(time.RFC3339); got != test.next {
			t.Errorf("after %s comes %s, not %s", test.after, got, test.next)
		}
	}
}

func TestSyncStatesLeadToAnEnd(t *testing.T) {
	for state := range moves {
		seen := map[SyncState]bool{}
		var walk func(SyncState)
		walk = func(s SyncState) {
			if !seen[s] {
				seen[s] = true
				for _, next := range moves[s] {
					walk(next)
				}
			}
		}
		walk(state)
		if !seen[Failed] {
			t.Errorf("a sync that is %s can't fail", state)
		}
	}
	for _, state := range []SyncState{Applied, Failed, Cancelled, Discarded} {
		if !state.Over() || state.may(state) || state.may(Waiting) {
			t.Errorf("%s isn't the end", state)
		}
	}
}

func TestStatus(t *testing.T) {
	pause := Pause{At: noon, Why: "moving"}
	for _, test := range []struct {
		name    string
		c       Connector
		syncing bool
		want    Status
	}{
		{"fresh", Connector{}, true, NotConnected},
		{"reading", Connector{HelloAt: noon}, true, Syncing},
		{"idle", Connector{HelloAt: noon}, false, Connected},
		{"broken", Connector{HelloAt: noon, Problem: Problem{Kind: SyncFailed}}, true, Errored},
		{"not started", Connector{Problem: Problem{Kind: BinaryMissing}}, true, Errored},
		{"paused", Connector{HelloAt: noon, Paused: pause, Problem: Problem{Kind: SyncFailed}}, false, Paused},
	} {
		if got := test.c.Status(test.syncing); got != test.want {
			t.Errorf("%s: it is %s, not %s", test.name, got, test.want)
		}
	}
}
