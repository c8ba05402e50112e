package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

// idle adds a connector whose first sync is over.
func (r *rig) idle(name string) (Connector, identity.Actor) {
	r.t.Helper()
	c, actor := r.connector(name)
	r.hello(actor, "a")
	task := r.one(actor, "a")
	r.upload(actor, "a", task.GetId(), "first")
	r.finish(actor, "a", task.GetId(), ok(nil))
	syncs, err := r.Syncs(r.t.Context(), identity.Operator(), SyncFilter{ConnectorID: c.ID}, "", 1)
	check(r.t, err)
	r.apply(syncs[0].ID)
	return c, actor
}

func TestEveryKindOfTaskIsSentAndItsAnswerRead(t *testing.T) {
	ann, gold := resource("person", "ann"), resource("vault", "gold")
	grant := v2.Grant_builder{Id: "g", Entitlement: grantTask().Entitlement, Principal: ann}.Build()
	annotation, err := anypb.New(&v2.GrantAlreadyExists{})
	check(t, err)
	revoked, err := anypb.New(&v2.GrantAlreadyRevoked{})
	check(t, err)
	schema := v2.BatonActionSchema_builder{Name: "seal"}.Build()
	feed := v2.EventFeedMetadata_builder{Id: "openings"}.Build()
	event := v2.Event_builder{Id: "1"}.Build()
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c, actor := r.idle("Bank")
	for _, test := range []struct {
		request Request
		sent    func(*baton.Task) bool
		answer  Answer
		want    any
	}{
		{grantTask(), (*baton.Task).HasGrant, ok(v2.GrantManagerServiceGrantResponse_builder{Grants: []*v2.Grant{grant}, Annotations: []*anypb.Any{annotation}}.Build()), GrantResult{AlreadyExists: true, Grants: []*v2.Grant{grant}}},
		{Revoke{grant}, (*baton.Task).HasRevoke, ok(v2.GrantManagerServiceRevokeResponse_builder{Annotations: []*anypb.Any{revoked}}.Build()), RevokeResult{AlreadyRevoked: true}},
		{CreateAccount{Account: &v2.AccountInfo{}}, func(t *baton.Task) bool { return len(t.GetCreateAccount().GetEncryptionConfigs()) == 1 }, ok(v2.CreateAccountResponse_builder{Success: v2.CreateAccountResponse_SuccessResult_builder{Resource: ann}.Build()}.Build()), AccountResult{Outcome: AccountCreated, Account: ann}},
		{CreateAccount{Account: &v2.AccountInfo{}}, (*baton.Task).HasCreateAccount, ok(v2.CreateAccountResponse_builder{AlreadyExists: v2.CreateAccountResponse_AlreadyExistsResult_builder{Resource: ann}.Build()}.Build()), AccountResult{Outcome: AccountExisted, Account: ann}},
		{CreateAccount{Account: &v2.AccountInfo{}}, (*baton.Task).HasCreateAccount, ok(v2.CreateAccountResponse_builder{InProgress: &v2.CreateAccountResponse_InProgressResult{}}.Build()), AccountResult{Outcome: AccountPending}},
		{CreateAccount{Account: &v2.AccountInfo{}}, (*baton.Task).HasCreateAccount, ok(v2.CreateAccountResponse_builder{ActionRequired: v2.CreateAccountResponse_ActionRequiredResult_builder{Message: "sign"}.Build()}.Build()), AccountResult{Outcome: AccountToFinish, Message: "sign"}},
		{CreateResource{gold}, (*baton.Task).HasCreateResource, ok(v2.CreateResourceResponse_builder{Created: gold}.Build()), ResourceResult{gold}},
		{DeleteResource{ID: gold.GetId()}, (*baton.Task).HasDeleteResource, ok(&v2.DeleteResourceResponse{}), Done{}},
		{RotateCredential{ID: ann.GetId()}, func(t *baton.Task) bool { return len(t.GetRotateCredentials().GetEncryptionConfigs()) == 1 }, ok(v2.RotateCredentialResponse_builder{ResourceId: ann.GetId()}.Build()), CredentialResult{ID: ann.GetId()}},
		{IssueCredential{Identity: ann.GetId(), Options: &v2.CredentialIssueOptions{}, ExpiresAt: noon}, func(t *baton.Task) bool { return t.GetIssueCredential().GetExpiresAt().AsTime().Equal(noon) }, ok(v2.IssueCredentialResponse_builder{Secret: gold, ResourceMode: v2.CredentialResourceMode_CREDENTIAL_RESOURCE_MODE_VIRTUAL}.Build()), CredentialResult{ID: gold.GetId(), Secret: gold, Virtual: true}},
		{ListActions{}, (*baton.Task).HasActionListSchemas, ok(v2.ListActionSchemasResponse_builder{Schemas: []*v2.BatonActionSchema{schema}}.Build()), ActionsResult{[]*v2.BatonActionSchema{schema}}},
		{GetAction{"seal"}, (*baton.Task).HasActionGetSchema, ok(v2.GetActionSchemaResponse_builder{Schema: schema}.Build()), ActionsResult{[]*v2.BatonActionSchema{schema}}},
		{InvokeAction{Name: "seal"}, (*baton.Task).HasActionInvoke, ok(v2.InvokeActionResponse_builder{Id: "7", Status: v2.BatonActionStatus_BATON_ACTION_STATUS_RUNNING}.Build()), ActionResult{ID: "7", Status: v2.BatonActionStatus_BATON_ACTION_STATUS_RUNNING}},
		{ListEventFeeds{}, (*baton.Task).HasListEventFeeds, ok(v2.ListEventFeedsResponse_builder{List: []*v2.EventFeedMetadata{feed}}.Build()), FeedsResult{[]*v2.EventFeedMetadata{feed}}},
		{ListEvents{Feed: "openings", Since: noon}, func(t *baton.Task) bool { return t.GetListEvents().GetStartAt().AsTime().Equal(noon) }, ok(v2.ListEventsResponse_builder{Events: []*v2.Event{event}, Cursor: "c", HasMore: true}.Build()), EventsResult{[]*v2.Event{event}, "c", true}},
		{SyncFull{Types: []string{"person"}}, func(t *baton.Task) bool { return t.GetSyncFull().GetSkipExpandGrants() }, ok(nil), Done{}},
	} {
		t.Run(fmt.Sprintf("%T", test.request), func(t *testing.T) {
			taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: test.request})
			task := r.one(actor, "a")
			if task.GetId() != taskID || !test.sent(task) {
				t.Fatalf("sent: %v", task)
			}
			_, err := r.task(taskID).result()
			wants(t, err, fault.NotReady, "has no result")
			r.finish(actor, "a", taskID, test.answer)
			got, err := r.task(taskID).result()
			check(t, err)
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("hello", func(t *testing.T) {
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: Hello{}})
		r.one(actor, "a")
		check(t, r.Hello(t.Context(), actor, Greeting{Host: "a", TaskID: taskID, Version: "v2", Metadata: metadata()}))
		if r.task(taskID).State != TaskDone || r.now(c).Version != "v2" {
			t.Errorf("it is %s, of version %s", r.task(taskID).State, r.now(c).Version)
		}
	})
}

func TestResultOfIsOfTheRightType(t *testing.T) {
	task := queued(KindGrant)
	task.lease("a", noon)
	task.finish("a", ok(&v2.GrantManagerServiceGrantResponse{}), noon)
	if _, err := ResultOf[GrantResult](task); err != nil {
		t.Error(err)
	}
	if _, err := ResultOf[RevokeResult](task); err == nil {
		t.Error("a grant's result is a revoke's")
	}
}

func TestSecretsAreDisclosedOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: RotateCredential{ID: resource("person", "ann").GetId()}})
		_, err := r.Disclose(t.Context(), identity.Operator(), taskID)
		wants(t, err, fault.NotReady, "has no result")
		task := r.one(actor, "a")
		recipient := task.GetRotateCredentials().GetEncryptionConfigs()[0].GetAgeRecipientConfig().GetRecipient()
		to, err := age.ParseX25519Recipient(recipient)
		check(t, err)
		var sealed bytes.Buffer
		w, err := age.Encrypt(&sealed, to)
		check(t, err)
		_, err = io.WriteString(w, "swordfish")
		check(t, err)
		check(t, w.Close())
		r.finish(actor, "a", taskID, ok(v2.RotateCredentialResponse_builder{EncryptedData: []*v2.EncryptedData{
			v2.EncryptedData_builder{Provider: ageProvider, Name: "password", EncryptedBytes: sealed.Bytes()}.Build(),
		}}.Build()))
		_, err = r.Disclose(t.Context(), actor, taskID)
		wants(t, err, fault.Forbidden, "may not")
		secrets, err := r.Disclose(t.Context(), identity.Operator(), taskID)
		check(t, err)
		if len(secrets) != 1 || secrets[0].Name != "password" || string(secrets[0].Value) != "swordfish" {
			t.Errorf("disclosed: %+v", secrets)
		}
		_, err = r.Disclose(t.Context(), identity.Operator(), taskID)
		wants(t, err, fault.NotReady, "shown already")
		if got := r.actions(); !slices.Contains(got, "task.secrets_disclosed") {
			t.Errorf("the audit log says %v", got)
		}
	})
}

func TestAKeyThatNobodyNeedsIsDeleted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: CreateAccount{}})
		r.one(actor, "a")
		r.finish(actor, "a", taskID, bad(codes.InvalidArgument, "no such kind"))
		_, err := r.vault.Get(t.Context(), d, keyName(taskID))
		wants(t, err, fault.NotFound, "")
	})
}

func TestTasksOfALaneGoOutInTurn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		var tasks []string
		for range 3 {
			tasks = append(tasks, r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), Lane: "ann"}))
			r.clock.Advance(time.Second)
		}
		other := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), Lane: "bob"})
		free := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		var got []string
		for _, task := range r.poll(actor, "a") {
			got = append(got, task.GetId())
		}
		slices.Sort(got)
		want := []string{tasks[0], other, free}
		slices.Sort(want)
		if !cmp.Equal(got, want) {
			t.Errorf("given out: %v, not %v", got, want)
		}
		r.none(actor, "b")
		// One that is to be tried again keeps its place.
		r.finish(actor, "a", tasks[0], bad(codes.Unavailable, "x"))
		r.none(actor, "a")
		r.clock.Advance(backoff(1))
		for _, taskID := range tasks {
			if task := r.one(actor, "b"); task.GetId() != taskID {
				t.Fatalf("given out: %s, not %s", task.GetId(), taskID)
			}
			r.finish(actor, "b", taskID, ok(&v2.GrantManagerServiceGrantResponse{}))
		}
	})
}

func TestAWaitingConnectorGetsATaskAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		got := make(chan []*baton.Task, 1)
		go func() {
			list, err := r.Take(context.Background(), actor, Poll{Host: "a", Most: 1, Hold: time.Minute})
			if err != nil {
				t.Error(err)
			}
			got <- list
		}()
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		if list := <-got; len(list) != 1 || list[0].GetId() != taskID {
			t.Errorf("given out: %v", list)
		}
	})
}

func TestAWaitEndsByItselfAndWithItsCall(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	_, actor := r.idle("Bank")
	list, err := r.Take(t.Context(), actor, Poll{Host: "a", Most: 1, Hold: 20 * time.Millisecond})
	if err != nil || len(list) > 0 {
		t.Errorf("after the wait: %v, %v", list, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := r.Take(ctx, actor, Poll{Host: "a", Most: 1, Hold: time.Minute}); !fault.Is(err, fault.Cancelled) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestATaskThatIsntDueWakesTheWaitWhenItIs(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c, actor := r.idle("Bank")
	taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), NotBefore: r.clock.Now().Add(50 * time.Millisecond)})
	r.none(actor, "a")
	r.Service.clock = movingClock{r.clock.Now(), time.Now()}
	list, err := r.Take(t.Context(), actor, Poll{Host: "a", Most: 1, Hold: time.Minute})
	check(t, err)
	if len(list) != 1 || list[0].GetId() != taskID {
		t.Errorf("given out: %v", list)
	}
}

// movingClock goes on from a time.
type movingClock struct{ from, began time.Time }

func (m movingClock) Now() time.Time { return m.from.Add(time.Since(m.began)) }

func TestManyHostsNeverGetTheSameTask(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		const tasks = 200
		r.write(func(ctx context.Context, tx *db.Tx) error {
			for n := range tasks {
				if _, err := r.AddTask(ctx, tx, identity.Operator(), TaskSpec{ConnectorID: c.ID, Request: grantTask(), Lane: fmt.Sprint(n % 20)}); err != nil {
					return err
				}
			}
			return nil
		})
		var (
			mu   sync.Mutex
			out  = map[string]string{} // lane → task that is out
			seen = map[string]int{}
			wait sync.WaitGroup
		)
		for host := range 8 {
			wait.Go(func() {
				name := fmt.Sprint("host-", host)
				for {
					mu.Lock()
					over := len(seen) == tasks
					mu.Unlock()
					if over {
						return
					}
					list, err := r.Take(context.Background(), actor, Poll{Host: name, Most: 1 + host%3, Hold: 50 * time.Millisecond})
					if err != nil {
						t.Error(err)
						return
					}
					for _, given := range list {
						task, err := r.TaskByID(context.Background(), d, given.GetId())
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						seen[task.ID]++
						if other := out[task.Lane]; other != "" {
							t.Errorf("%s and %s of one lane are out", other, task.ID)
						}
						out[task.Lane] = task.ID
						mu.Unlock()
					}
					for _, given := range list {
						task, err := r.TaskByID(context.Background(), d, given.GetId())
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						delete(out, task.Lane)
						mu.Unlock()
						if err := r.Finish(context.Background(), actor, name, task.ID, ok(&v2.GrantManagerServiceGrantResponse{})); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wait.Wait()
		for taskID, n := range seen {
			if n != 1 {
				t.Errorf("%s was given out %d times", taskID, n)
			}
		}
	})
}

func TestALapsedLeaseIsGivenOutAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		r.one(actor, "a")
		check(t, r.SweepTasks(t.Context()))
		r.none(actor, "b")
		r.clock.Advance(11 * time.Minute)
		check(t, r.SweepTasks(t.Context()))
		r.one(actor, "b")
		// The first host is back: what it says doesn't count any more.
		r.finish(actor, "a", taskID, ok(&v2.GrantManagerServiceGrantResponse{}))
		r.finish(actor, "a", taskID, bad(codes.Internal, "x"))
		if task := r.task(taskID); task.State != TaskLeased || task.Host != "b" {
			t.Errorf("it is %s at %s", task.State, task.Host)
		}
		r.finish(actor, "b", taskID, ok(&v2.GrantManagerServiceGrantResponse{}))
		r.finish(actor, "b", taskID, bad(codes.Internal, "x"))
		if task := r.task(taskID); task.State != TaskDone {
			t.Errorf("it is %s", task.State)
		}
	})
}

func TestAServerThatWasAwayTakesNothingBackAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.connector("Bank")
		r.hello(actor, "a")
		task := r.one(actor, "a")
		_, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()})
		check(t, err)
		r.clock.Advance(time.Hour)
		r.began = r.clock.Now() // we start anew
		check(t, r.SweepTasks(t.Context()))
		check(t, r.SweepSilent(t.Context()))
		r.clock.Advance(Heartbeat)
		if stop, err := r.Beat(t.Context(), actor, "a", []string{task.GetId()}); err != nil || len(stop) > 0 {
			t.Errorf("at its heartbeat: %v, %v", stop, err)
		}
		r.clock.Advance(reunion)
		check(t, r.SweepTasks(t.Context()))
		if view := r.show(c); view.State != Syncing || view.Open.State != Reading {
			t.Errorf("it is %s: %s", view.State, view.Detail)
		}
	})
}

// A server died while it handed a sync over: nobody has that, since whoever did
// would have said so at once. It isn't waited for as for one that is under way.
func TestASyncThatNobodyWasHeardOfIsGivenOutSoon(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		_, actor := r.connector("Bank")
		r.hello(actor, "a")
		lost := r.one(actor, "a")
		r.clock.Advance(time.Second)
		r.began = r.clock.Now() // we start anew
		r.clock.Advance(forFirst - 2*time.Second)
		check(t, r.SweepTasks(t.Context()))
		r.none(actor, "a")
		r.clock.Advance(time.Second)
		check(t, r.SweepTasks(t.Context()))
		again := r.one(actor, "a")
		if again.GetId() != lost.GetId() {
			t.Errorf("given out: %v", again)
		}
		// Once it was heard of, it has the whole time.
		_, err := r.Beat(t.Context(), actor, "a", []string{again.GetId()})
		check(t, err)
		r.clock.Advance(4*Heartbeat - time.Second)
		check(t, r.SweepTasks(t.Context()))
		if stop, err := r.Beat(t.Context(), actor, "a", []string{again.GetId()}); err != nil || len(stop) > 0 {
			t.Error(stop, err)
		}
		if task := r.task(again.GetId()); task.State != TaskLeased || task.Attempts != 2 {
			t.Errorf("%+v", task)
		}
	})
}

func TestALateSuccessCountsWhileNobodyElseHasTheTask(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		r.one(actor, "a")
		r.clock.Advance(11 * time.Minute)
		check(t, r.SweepTasks(t.Context()))
		r.finish(actor, "b", taskID, ok(&v2.GrantManagerServiceGrantResponse{})) // never had it
		r.finish(actor, "a", taskID, bad(codes.Internal, "x"))
		if task := r.task(taskID); task.State != TaskQueued {
			t.Errorf("it is %s", task.State)
		}
		r.finish(actor, "a", taskID, ok(&v2.GrantManagerServiceGrantResponse{}))
		if task := r.task(taskID); task.State != TaskDone {
			t.Errorf("it is %s", task.State)
		}
	})
}

func TestAHostThatStartsAnewHasLostItsTasks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		again := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		once := r.add(TaskSpec{ConnectorID: c.ID, Request: CreateAccount{}})
		r.poll(actor, "a")
		r.hello(actor, "b")
		r.none(actor, "b")
		r.hello(actor, "a")
		if task := r.one(actor, "b"); task.GetId() != again {
			t.Errorf("given out: %v", task)
		}
		if task := r.task(once); task.State != TaskLeased {
			t.Errorf("what may have been done is %s", task.State)
		}
	})
}

func TestAHostedConnectorThatStartsHasLostWhatTheOneBeforeHad(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, _, err := r.Add(t.Context(), identity.Operator(), AddConnector{Catalog: "bank", App: "Bank", Hosted: true, Settings: map[string]string{"url": "x"}})
		check(t, err)
		actor := identity.Connector(c.ID, c.Name)
		r.hello(actor, "one")
		task := r.one(actor, "one")
		r.none(actor, "two")
		r.hello(actor, "two")
		if again := r.one(actor, "two"); again.GetId() != task.GetId() {
			t.Errorf("given out: %v", again)
		}
		if stop, err := r.Beat(t.Context(), actor, "one", []string{task.GetId()}); err != nil || len(stop) != 1 {
			t.Errorf("the one before may go on: %v, %v", stop, err)
		}
	})
}

func TestNobodyTouchesAnothersTask(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		_, thief := r.idle("Other")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		syncID, err := r.SyncNow(t.Context(), identity.Operator(), c.ID)
		check(t, err)
		r.poll(actor, "a")
		ctx := t.Context()
		before := fmt.Sprint(r.task(taskID))
		wants(t, r.Finish(ctx, thief, "a", taskID, ok(&v2.GrantManagerServiceGrantResponse{})), fault.NotFound, "there is no")
		_, err = r.Beat(ctx, thief, "a", []string{taskID})
		wants(t, err, fault.NotFound, "there is no")
		_, err = r.TakeUpload(ctx, thief, "a", r.sync(syncID).TaskID, bytes.NewReader([]byte("C1Z3\x00")))
		wants(t, err, fault.NotFound, "there is no")
		wants(t, r.Uploading(ctx, thief, taskID, 5), fault.NotFound, "there is no")
		check(t, r.Hello(ctx, thief, Greeting{Host: "a", TaskID: taskID, Metadata: metadata()}))
		wants(t, r.Finish(ctx, identity.Actor{}, "a", taskID, ok(nil)), fault.Forbidden, "may not")
		if after := fmt.Sprint(r.task(taskID)); after != before {
			t.Errorf("it was %s and is %s", before, after)
		}
	})
}

func TestTheStateOfAnActionIsAskedWhereItRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		invoked := r.add(TaskSpec{ConnectorID: c.ID, Request: InvokeAction{Name: "seal"}})
		err := d.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := r.AddTask(ctx, tx, identity.Operator(), TaskSpec{ConnectorID: c.ID, Request: ActionStatus{ID: "7", Invoked: invoked}})
			return err
		})
		wants(t, err, fault.NotReady, "hasn't been started")
		r.one(actor, "b")
		r.finish(actor, "b", invoked, ok(v2.InvokeActionResponse_builder{Id: "7"}.Build()))
		status := r.add(TaskSpec{ConnectorID: c.ID, Request: ActionStatus{ID: "7", Invoked: invoked}})
		r.none(actor, "a")
		if task := r.one(actor, "b"); task.GetId() != status || task.GetActionStatus().GetId() != "7" {
			t.Errorf("given out: %v", task)
		}
	})
}

func TestCancelling(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, actor := r.idle("Bank")
		<-r.followed // the ingest of the first sync
		waits := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), Lane: "x", Follow: Follow{"follow", "waits"}})
		cancel := func(taskID string) {
			t.Helper()
			r.write(func(ctx context.Context, tx *db.Tx) error { return r.CancelTask(ctx, tx, identity.Operator(), taskID) })
		}
		cancel(waits)
		if task := r.task(waits); task.State != TaskCancelled || <-r.followed != "follow waits" {
			t.Errorf("it is %s", task.State)
		}
		cancel(waits)
		for _, test := range []struct {
			answer Answer
			state  TaskState
		}{{ok(&v2.GrantManagerServiceGrantResponse{}), TaskDone}, {bad(codes.Unavailable, "x"), TaskCancelled}} {
			taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
			r.one(actor, "a")
			cancel(taskID)
			if stop, err := r.Beat(t.Context(), actor, "a", []string{taskID}); err != nil || len(stop) != 1 {
				t.Errorf("at its heartbeat: %v, %v", stop, err)
			}
			r.finish(actor, "a", taskID, test.answer)
			if task := r.task(taskID); task.State != test.state {
				t.Errorf("it is %s, not %s", task.State, test.state)
			}
		}
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
		r.one(actor, "a")
		cancel(taskID)
		r.clock.Advance(time.Hour)
		check(t, r.SweepTasks(t.Context()))
		if task := r.task(taskID); task.State != TaskCancelled {
			t.Errorf("without a word it is %s", task.State)
		}
	})
}

func TestWhatNobodyTakesIsGivenUp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.working()
		c, _ := r.connector("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask(), Follow: Follow{"follow", "x"}})
		r.clock.Advance(25 * time.Hour)
		check(t, r.SweepTasks(t.Context()))
		task := r.task(taskID)
		if f := task.Failure(); f == nil || !f.Retryable || f.Lost || f.Words != "no connector took it within 24h" {
			t.Errorf("it is %s: %+v", task.State, f)
		}
		if got := <-r.followed; got != "follow x" {
			t.Errorf("the job is %q", got)
		}
		// The first sync waits on.
		if view := r.show(c); view.Open == nil || view.Open.State != Waiting {
			t.Errorf("its sync is %+v", view.Open)
		}
	})
}

func TestKnownTasksStayWithTheirHost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: Hello{}})
		r.one(actor, "a")
		r.clock.Advance(time.Minute)
		list, err := r.Take(t.Context(), actor, Poll{Host: "a", Most: 5, Known: []string{taskID, "2abcdefghijklmnopqrstuvwxyz"}})
		if err != nil || len(list) > 0 {
			t.Errorf("given out: %v, %v", list, err)
		}
		if task := r.task(taskID); task.State != TaskLeased {
			t.Errorf("it is %s", task.State)
		}
	})
}

func TestATaskThatIsTooLongIsRefused(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c, _ := r.connector("Bank")
	huge := v2.Resource_builder{Id: resource("person", "ann").GetId(), DisplayName: string(bytes.Repeat([]byte("x"), 4<<20))}.Build()
	err := r.db.Write(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := r.AddTask(ctx, tx, identity.Operator(), TaskSpec{ConnectorID: c.ID, Request: CreateResource{huge}})
		return err
	})
	wants(t, err, fault.TooLarge, "connectors take at most")
}

func TestTasksGivenOutTogetherFitIntoOneMessage(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c, actor := r.idle("Bank")
	big := v2.Resource_builder{Id: resource("person", "ann").GetId(), DisplayName: string(bytes.Repeat([]byte("x"), 3<<20))}.Build()
	for range 2 {
		r.add(TaskSpec{ConnectorID: c.ID, Request: CreateResource{big}})
	}
	r.one(actor, "a")
	r.one(actor, "a")
}

func TestProvisioningThatIsOffIsAProblemOfTheConnector(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		for _, test := range []struct {
			answer Answer
			kind   ProblemKind
		}{
			{bad(codes.FailedPrecondition, "rpc error: code = FailedPrecondition desc = provisioning is not enabled\ntask failed and is non-retryable"), NoChanges},
			{ok(&v2.GrantManagerServiceGrantResponse{}), ""},
		} {
			taskID := r.add(TaskSpec{ConnectorID: c.ID, Request: grantTask()})
			r.one(actor, "a")
			r.finish(actor, "a", taskID, test.answer)
			if got := r.now(c).Problem; got.Kind != test.kind {
				t.Errorf("the problem is %+v", got)
			}
		}
	})
}

func TestOldTasksAreDeletedWithTheirKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		c, actor := r.idle("Bank")
		noise := r.add(TaskSpec{ConnectorID: c.ID, Request: ListEvents{Feed: "x"}})
		account := r.add(TaskSpec{ConnectorID: c.ID, Request: CreateAccount{}})
		r.poll(actor, "a")
		r.finish(actor, "a", noise, ok(&v2.ListEventsResponse{}))
		r.finish(actor, "a", account, ok(&v2.CreateAccountResponse{}))
		open := r.add(TaskSpec{ConnectorID: c.ID, Request: SyncFull{Types: []string{"x"}}})
		r.clock.Advance(2 * day)
		check(t, r.SweepOld(t.Context()))
		_, err := r.TaskByID(t.Context(), d, noise)
		wants(t, err, fault.NotFound, "")
		r.task(account)
		r.clock.Advance(90 * day)
		check(t, r.SweepOld(t.Context()))
		_, err = r.TaskByID(t.Context(), d, account)
		wants(t, err, fault.NotFound, "")
		_, err = r.vault.Get(t.Context(), d, keyName(account))
		wants(t, err, fault.NotFound, "")
		r.task(open)
	})
}

func TestAnnotationsThatNobodyKnowsAreNoReasonToRefuseAConnector(t *testing.T) {
	r := newRig(t, dbtest.Open(t, db.SQLite))
	c, actor := r.connector("Bank")
	said := metadata()
	strange := []*anypb.Any{{TypeUrl: "type.googleapis.com/vendor.Strange", Value: []byte{1}}}
	said.SetAnnotations(strange)
	said.GetCapabilities().GetResourceTypeCapabilities()[0].GetResourceType().SetAnnotations(strange)
	check(t, r.Hello(t.Context(), actor, Greeting{Host: "a", Metadata: said}))
	if !r.now(c).Targets("person") || r.now(c).Targets("vault") || len(said.GetAnnotations()) != 1 {
		t.Errorf("kept: %s", r.now(c).Metadata)
	}
	said.SetDescription(string(bytes.Repeat([]byte("x"), mostMetadata)))
	wants(t, r.Hello(t.Context(), actor, Greeting{Host: "a", Metadata: said}), fault.TooLarge, "at most")
}
