package integration

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"filippo.io/age"
	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/identity"
)

const (
	ageProvider = "baton/age/v1"
	// mostTask is how long a task may be in bytes: connectors receive 4 MiB at most.
	mostTask = 4<<20 - 64<<10
	// mostMetadata is how long a connector's metadata may be in bytes of JSON.
	mostMetadata = 2 << 20
	// seenEvery is how often it is written down that a connector was heard of.
	seenEvery = 30 * time.Second
	// syncLane is the lane of syncs: a connector has one at a time.
	syncLane = "sync"
)

// TaskSpec is a new task.
type TaskSpec struct {
	ConnectorID string
	Request     Request
	Lane        string    // of the tasks with the same lane one is out at a time, in the order they came
	NotBefore   time.Time // zero is now
	Follow      Follow    // the job that looks at what came of it
}

// AddTask queues a task for a connector, within the transaction of whoever needs
// it. A connector that waits for work gets it as soon as that is committed. Whoever
// has asked already whether somebody may change this access, and decides by more
// than is known here, asks as identity.System.
func (s *Service) AddTask(ctx context.Context, tx *db.Tx, actor identity.Actor, spec TaskSpec) (taskID string, err error) {
	c, err := holdConnector(ctx, tx, spec.ConnectorID)
	if err != nil {
		return "", err
	}
	if err := s.canChange(ctx, tx, actor, identity.Change, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}, spec.Request.task()); err != nil {
		return "", err
	}
	if err := present(c); err != nil {
		return "", err
	}
	return s.addTask(ctx, tx, spec)
}

func (s *Service) addTask(ctx context.Context, tx *db.Tx, spec TaskSpec) (string, error) {
	now := s.clock.Now()
	kind := spec.Request.kind()
	task := Task{
		ID: id.New(), ConnectorID: spec.ConnectorID, Kind: kind, State: TaskQueued, Lane: spec.Lane, Follow: spec.Follow,
		NotBefore: now, GiveUpAt: now.Add(kind.rules().waits), CreatedAt: now,
	}
	if spec.NotBefore.After(now) {
		task.NotBefore = spec.NotBefore
		task.GiveUpAt = spec.NotBefore.Add(kind.rules().waits)
	}
	message := spec.Request.task()
	if kind.rules().secret {
		pair, err := age.GenerateX25519Identity()
		if err != nil {
			return "", err
		}
		addressed(message, pair.Recipient().String())
		if err := s.vault.Put(ctx, tx, keyName(task.ID), []byte(pair.String())); err != nil {
			return "", err
		}
	}
	if status, ok := spec.Request.(ActionStatus); ok {
		invoked, err := taskByID(ctx, tx, status.Invoked)
		switch {
		case err != nil:
			return "", err
		case invoked.ConnectorID != spec.ConnectorID || invoked.Host == "":
			return "", fault.New(fault.NotReady, "the action of task %q hasn't been started yet", status.Invoked)
		}
		task.Process = invoked.Host
	}
	if err := task.carry(message); err != nil {
		return "", err
	}
	if err := insertTask(ctx, tx, task); err != nil {
		return "", err
	}
	return task.ID, s.live.Publish(ctx, tx, tasksTopic(task.ConnectorID), connectorTopic(task.ConnectorID))
}

func keyName(taskID string) string { return "task/" + taskID + "/age" }

// carry makes a message what the task asks for.
func (t *Task) carry(message *baton.Task) error {
	message.SetId(t.ID)
	packed, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "the task can't be sent: %w", err)
	case len(packed) > mostTask:
		return fault.New(fault.TooLarge, "the task has %d bytes; connectors take at most %d", len(packed), mostTask)
	}
	t.request = packed
	return nil
}

// message is what the task asks for, as it is sent.
func (t Task) message() (*baton.Task, error) {
	message := &baton.Task{}
	return message, proto.Unmarshal(t.request, message)
}

// TaskByID is a task with its outcome: ResultOf and Failure tell it.
func (s *Service) TaskByID(ctx context.Context, q db.Querier, taskID string) (Task, error) {
	return taskByID(ctx, q, taskID)
}

// CancelTask cancels a task that isn't over. One that a connector has is over
// once it ends there, and then counts as what it came to.
func (s *Service) CancelTask(ctx context.Context, tx *db.Tx, actor identity.Actor, taskID string) error {
	task, err := taskByID(ctx, tx, taskID)
	if err != nil {
		return err
	}
	c, err := holdConnector(ctx, tx, task.ConnectorID)
	if err != nil {
		return err
	}
	message, err := task.message()
	if err != nil {
		return err
	}
	if err := s.canChange(ctx, tx, actor, identity.Change, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}, message); err != nil {
		return err
	}
	if task, err = taskByID(ctx, tx, taskID); err != nil {
		return err
	}
	return s.withdraw(ctx, tx, &c, task)
}

func (s *Service) withdraw(ctx context.Context, tx *db.Tx, c *Connector, task Task) error {
	verdict := task.withdraw(s.clock.Now())
	if verdict == ignored {
		return updateTask(ctx, tx, task)
	}
	if err := s.settle(ctx, tx, c, task, verdict); err != nil {
		return err
	}
	return s.save(ctx, tx, *c)
}

// Secret is a password or key that a target system generated.
type Secret struct {
	Name        string
	Description string
	Value       []byte
}

// Disclose opens the secrets in a task's answer. It does so once: then the key is
// deleted, and nobody can any more.
func (s *Service) Disclose(ctx context.Context, actor identity.Actor, taskID string) ([]Secret, error) {
	var secrets []Secret
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		task, err := taskByID(ctx, tx, taskID)
		if err != nil {
			return err
		}
		c, err := holdConnector(ctx, tx, task.ConnectorID)
		if err != nil {
			return err
		}
		asked, err := task.message()
		if err != nil {
			return err
		}
		if err := s.canChange(ctx, tx, actor, identity.Change, identity.Object{Kind: objectKind, ID: c.ID, AppID: c.AppID}, asked); err != nil {
			return err
		}
		message, err := task.answer()
		if err != nil {
			return err
		}
		if len(sealed(message)) == 0 {
			return fault.New(fault.NotReady, "task %s generated nothing that could be shown", task.ID)
		}
		key, err := s.vault.Get(ctx, tx, keyName(task.ID))
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotReady, "what task %s generated was shown already, and wasn't kept", task.ID)
		}
		if err != nil {
			return err
		}
		if secrets, err = open(sealed(message), string(key)); err != nil {
			return err
		}
		if err := s.vault.Delete(ctx, tx, keyName(task.ID)); err != nil {
			return err
		}
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "task.secrets_disclosed", AppID: c.AppID, Object: audit.Object{Kind: "connector task", ID: task.ID, Name: string(task.Kind)},
			Detail: map[string]any{"connector": c.ID, "secrets": names(sealed(message))},
		})
	})
	return secrets, err
}

// open decrypts what was sealed for a key pair.
func open(list []*v2.EncryptedData, key string) ([]Secret, error) {
	pair, err := age.ParseX25519Identity(key)
	if err != nil {
		return nil, err
	}
	var secrets []Secret
	for _, one := range list {
		if one.GetProvider() != ageProvider {
			return nil, fault.New(fault.NotReady, "the connector sealed %q by %q, which wasn't asked for; rotate the credential", one.GetName(), one.GetProvider())
		}
		opened, err := age.Decrypt(bytes.NewReader(one.GetEncryptedBytes()), pair)
		if err != nil {
			return nil, fault.New(fault.NotReady, "%q isn't sealed for this task: %w; rotate the credential", one.GetName(), err)
		}
		value, err := io.ReadAll(io.LimitReader(opened, 1<<20))
		if err != nil {
			return nil, fault.New(fault.NotReady, "%q is damaged: %w; rotate the credential", one.GetName(), err)
		}
		secrets = append(secrets, Secret{Name: one.GetName(), Description: one.GetDescription(), Value: value})
	}
	return secrets, nil
}

// Greeting is what a connector says of itself.
type Greeting struct {
	Host     string
	TaskID   string // of the task Hello that it answers, or ""
	Version  string
	Package  string
	Metadata *v2.ConnectorMetadata
}

// Hello takes a connector's greeting: when it starts, and when it was asked. A
// host that starts has lost what it had been given.
func (s *Service) Hello(ctx context.Context, actor identity.Actor, g Greeting) error {
	metadata, err := written(g.Metadata)
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "the metadata can't be read: %w", err)
	case len(metadata) > mostMetadata:
		return fault.New(fault.TooLarge, "the metadata has %d bytes; at most %d are taken", len(metadata), mostMetadata)
	}
	return s.serve(ctx, actor, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		now := s.clock.Now()
		first := c.HelloAt.IsZero()
		c.Metadata, c.HelloAt, c.SeenAt, c.Host = metadata, now, now, g.Host
		c.Version, c.Package = clean(g.Version, 256), clean(g.Package, 256)
		c.Learned = s.learn(c.Package, g.Metadata.GetDisplayName())
		if slices.Contains(clearedByHello, c.Problem.Kind) {
			c.Problem = Problem{}
		}
		if err := setMetadata(ctx, tx, *c); err != nil {
			return err
		}
		if g.TaskID != "" {
			return s.helloAsked(ctx, tx, c, g)
		}
		if err := s.note(ctx, tx, c, "info", "connected", map[string]any{"host": g.Host, "version": c.Version, "package": c.Package}); err != nil {
			return err
		}
		if !c.Hosted { // whoever runs it says that it started
			message := "connector connected"
			if first {
				message = "connector connected for the first time"
			}
			s.say(ctx, tx, slog.LevelInfo, c.ID, message, "name", c.Name, "host", g.Host, "version", c.Version)
		}
		list, err := openTasks(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		feeds, syncs := false, false
		for _, task := range list {
			feeds = feeds || task.Kind == KindListEventFeeds
			syncs = syncs || task.Kind == KindSync
			// One hosted process runs at a time, each with a name of its own: what an
			// earlier one had is lost with it.
			gone := task.holds(g.Host) || c.Hosted && task.State == TaskLeased
			if !gone || task.Kind.rules().attempts == 1 {
				continue
			}
			if err := s.settle(ctx, tx, c, task, task.lose(now)); err != nil {
				return err
			}
		}
		if first && !syncs {
			if _, err := s.requestSync(ctx, tx, c, SyncFull{}, CauseFirst); err != nil {
				return err
			}
		}
		return s.askForFeeds(ctx, tx, c, feeds)
	})
}

// written is a connector's metadata as JSON. Annotations that aren't known here
// can't be written so: they are left out.
func written(metadata *v2.ConnectorMetadata) ([]byte, error) {
	text, err := protojson.Marshal(metadata)
	if err == nil {
		return text, nil
	}
	metadata = proto.CloneOf(metadata)
	metadata.SetAnnotations(nil)
	for _, one := range metadata.GetCapabilities().GetResourceTypeCapabilities() {
		if one.HasResourceType() {
			one.GetResourceType().SetAnnotations(nil)
		}
	}
	return protojson.Marshal(metadata)
}

func (s *Service) helloAsked(ctx context.Context, tx *db.Tx, c *Connector, g Greeting) error {
	task, err := taskByID(ctx, tx, g.TaskID)
	if fault.Is(err, fault.NotFound) || err == nil && (task.ConnectorID != c.ID || task.Kind != KindHello) {
		return nil // the greeting counts anyway
	}
	if err != nil {
		return err
	}
	return s.settle(ctx, tx, c, task, task.finish(g.Host, Answer{OK: true}, s.clock.Now()))
}

// Poll is how a host asks for work.
type Poll struct {
	Host  string
	Known []string                        // tasks that it has; they aren't given out again, and stay its own
	Most  int                             // tasks to give out
	Hold  time.Duration                   // how long to wait for work where there is none
	Still func(ctx context.Context) error // asked after each wait: an error ends the call
}

// Take gives tasks to a host of a connector; if there are none, it waits for some.
// A task is given to one host at a time.
func (s *Service) Take(ctx context.Context, actor identity.Actor, p Poll) ([]*baton.Task, error) {
	if err := identity.Can(actor, identity.Serve, identity.Object{Kind: objectKind, ID: actor.ID}); err != nil {
		return nil, err
	}
	news := s.live.Subscribe(tasksTopic(actor.ID)) // before looking, so that nothing is missed
	defer news.Close()
	held := time.NewTimer(p.Hold)
	defer held.Stop()
	if len(p.Known) > 0 {
		if _, err := s.beat(ctx, actor, p.Host, p.Known, true); err != nil {
			return nil, err
		}
	}
	for {
		taken, next, err := s.take(ctx, actor, p)
		if err != nil || len(taken) > 0 || p.Hold <= 0 {
			return taken, err
		}
		due := time.NewTimer(next)
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-held.C:
			due.Stop()
			return nil, nil
		case <-news.C():
		case <-due.C:
		}
		due.Stop()
		if err == nil && p.Still != nil {
			err = p.Still(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
}

// take looks once. It tells in how long it is worth to look again.
func (s *Service) take(ctx context.Context, actor identity.Actor, p Poll) ([]*baton.Task, time.Duration, error) {
	c, err := connectorByID(ctx, s.db, actor.ID)
	if err != nil {
		return nil, 0, err
	}
	if err := present(c); err != nil {
		return nil, 0, err
	}
	now := s.clock.Now()
	list, err := s.available(ctx, s.db, c, p, now)
	if err != nil {
		return nil, 0, err
	}
	if len(list) == 0 {
		if err := s.seen(ctx, c, p.Host, now); err != nil {
			return nil, 0, err
		}
		next, err := nextTask(ctx, s.db, c.ID, now)
		if err != nil || next.IsZero() {
			return nil, time.Hour, err
		}
		return nil, next.Sub(now) + time.Millisecond, nil
	}
	var taken []*baton.Task
	err = s.serve(ctx, actor, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		taken = nil
		now := s.clock.Now()
		list, err := s.available(ctx, tx, *c, p, now)
		if err != nil {
			return err
		}
		for _, task := range list {
			task.lease(p.Host, now)
			if err := updateTask(ctx, tx, task); err != nil {
				return err
			}
			if err := s.startSync(ctx, tx, c, task); err != nil {
				return err
			}
			message, err := task.message()
			if err != nil {
				return err
			}
			taken = append(taken, message)
		}
		c.SeenAt, c.Host = now, p.Host
		return nil
	})
	return taken, 0, err
}

// available are the tasks that a host may take now.
func (s *Service) available(ctx context.Context, q db.Querier, c Connector, p Poll, now time.Time) ([]Task, error) {
	syncs := c.Paused.At.IsZero()
	if syncs {
		busy, err := ingesting(ctx, q, c.ID)
		if err != nil {
			return nil, err
		}
		syncs = !busy
	}
	list, err := availableTasks(ctx, q, c.ID, p.Host, syncs, now, p.Most)
	list = slices.DeleteFunc(list, func(t Task) bool { return slices.Contains(p.Known, t.ID) })
	size := 0
	for n, task := range list {
		if size += len(task.request); size > mostTask && n > 0 { // they go out in one message
			return list[:n], err
		}
	}
	return list, err
}

// seen writes down now and then that a connector was heard of.
func (s *Service) seen(ctx context.Context, c Connector, host string, now time.Time) error {
	if now.Sub(c.SeenAt) < seenEvery && c.Problem.Kind != Silent {
		return nil
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if c.Problem.Kind != Silent {
			return touch(ctx, tx, c.ID, host, now)
		}
		c, err := holdConnector(ctx, tx, c.ID)
		if err != nil {
			return err
		}
		c.SeenAt, c.Host = now, host
		if c.Problem.Kind == Silent {
			c.Problem = Problem{}
			if err := s.note(ctx, tx, &c, "info", "it is in touch again", nil); err != nil {
				return err
			}
		}
		return s.save(ctx, tx, c)
	})
}

// Beat takes a host's signs of life for tasks, and tells which of them it is to
// stop: those that were cancelled, are over, or went to another host.
func (s *Service) Beat(ctx context.Context, actor identity.Actor, host string, taskIDs []string) (stop []string, err error) {
	return s.beat(ctx, actor, host, taskIDs, false)
}

func (s *Service) beat(ctx context.Context, actor identity.Actor, host string, taskIDs []string, lenient bool) (stop []string, err error) {
	err = s.serve(ctx, actor, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		stop = nil
		now := s.clock.Now()
		for _, taskID := range taskIDs {
			task, err := ownTask(ctx, tx, c, taskID)
			if lenient && fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			revived := task.State == TaskQueued
			if !task.beat(host, now) {
				stop = append(stop, taskID)
			}
			if err := updateTask(ctx, tx, task); err != nil {
				return err
			}
			if revived && task.State == TaskLeased {
				if err := s.startSync(ctx, tx, c, task); err != nil {
					return err
				}
			}
		}
		c.SeenAt, c.Host = now, host
		if c.Problem.Kind == Silent {
			c.Problem = Problem{}
		}
		return nil
	})
	return stop, err
}

// Finish takes a host's answer. One that comes late or twice is harmless.
func (s *Service) Finish(ctx context.Context, actor identity.Actor, host, taskID string, answer Answer) error {
	return s.serve(ctx, actor, func(ctx context.Context, tx *db.Tx, c *Connector) error {
		task, err := ownTask(ctx, tx, c, taskID)
		if err != nil {
			return err
		}
		verdict := task.finish(host, answer, s.clock.Now())
		if verdict == ignored {
			s.log.InfoContext(ctx, "an answer came too late, or from a host that doesn't have the task", "task", taskID, "host", host, "state", task.State)
			return nil
		}
		c.SeenAt, c.Host = s.clock.Now(), host
		return s.settle(ctx, tx, c, task, verdict)
	})
}

// serve does something for a connector, in a transaction that holds its row.
func (s *Service) serve(ctx context.Context, actor identity.Actor, do func(ctx context.Context, tx *db.Tx, c *Connector) error) error {
	if err := identity.Can(actor, identity.Serve, identity.Object{Kind: objectKind, ID: actor.ID}); err != nil {
		return err
	}
	_, err := s.change(ctx, actor.ID, do)
	return err
}

// ownTask is a task of a connector. That there is a task of another isn't told.
func ownTask(ctx context.Context, q db.Querier, c *Connector, taskID string) (Task, error) {
	task, err := taskByID(ctx, q, taskID)
	if err == nil && task.ConnectorID != c.ID {
		return Task{}, fault.New(fault.NotFound, "there is no connector task %q", taskID)
	}
	return task, err
}

// settle writes what became of a task, and what follows from it. Whoever calls it
// holds the connector, and saves it afterwards.
func (s *Service) settle(ctx context.Context, tx *db.Tx, c *Connector, task Task, v verdict) error {
	if v == ignored {
		return nil
	}
	if err := updateTask(ctx, tx, task); err != nil {
		return err
	}
	if err := s.settleSync(ctx, tx, c, task, v); err != nil {
		return err
	}
	if v == ended {
		if err := s.ended(ctx, tx, c, task); err != nil {
			return err
		}
	}
	// Its lane is free, or it is there again.
	return s.live.Publish(ctx, tx, tasksTopic(c.ID))
}

func (s *Service) ended(ctx context.Context, tx *db.Tx, c *Connector, task Task) error {
	if task.Kind.rules().secret && task.State != TaskDone {
		if err := s.vault.Delete(ctx, tx, keyName(task.ID)); err != nil {
			return err
		}
	}
	if task.State == TaskFailed && task.Kind != KindSync { // a sync says so itself
		if err := s.note(ctx, tx, c, "error", string(task.Kind)+" failed: "+task.Error, map[string]any{"task": task.ID, "code": task.Code.String()}); err != nil {
			return err
		}
	}
	switch {
	case task.State == TaskFailed && task.Code == codes.FailedPrecondition && task.Error == words(task.Code, provisioningOff):
		if err := s.blame(ctx, tx, c, Problem{Kind: NoChanges, Words: task.Error}); err != nil {
			return err
		}
	case task.State == TaskDone && (task.Kind == KindGrant || task.Kind == KindRevoke) && c.Problem.Kind == NoChanges:
		c.Problem = Problem{}
	}
	if task.Follow.Kind == "" {
		return nil
	}
	return s.jobs.Enqueue(ctx, tx, task.Follow.Kind, task.Follow.Row)
}
