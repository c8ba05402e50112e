package integration

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
)

const (
	// jobEvents looks at what came of a task about events; its row is the task.
	jobEvents = "integration.events"
	feedEvery = time.Minute
	// feedPatience is when a feed is read again whose task came to nothing.
	feedPatience = 15 * time.Minute
	feedPage     = 500
	mostFeeds    = 50
	mostCursor   = 4096 // what a task may carry
)

// askForFeeds asks a connector that has just started for its feeds of events.
func (s *Service) askForFeeds(ctx context.Context, tx *db.Tx, c *Connector, asked bool) error {
	if !hasEvents(c.Capabilities()) {
		return dropFeeds(ctx, tx, c.ID, nil)
	}
	if asked {
		return nil
	}
	return s.addFollowed(ctx, tx, c.ID, ListEventFeeds{})
}

// addFollowed adds a task whose outcome takeEvents looks at. The job's row is the
// task's id, which isn't known before it is there.
func (s *Service) addFollowed(ctx context.Context, tx *db.Tx, connectorID string, what Request) error {
	taskID, err := s.addTask(ctx, tx, TaskSpec{ConnectorID: connectorID, Request: what})
	if err != nil {
		return err
	}
	return followTask(ctx, tx, taskID, Follow{Kind: jobEvents, Row: taskID})
}

// SweepFeeds reads the feeds that are due: one task a feed.
func (s *Service) SweepFeeds(ctx context.Context) error {
	now := s.clock.Now()
	list, err := dueFeeds(ctx, s.db, now, now.Add(-s.limits.Silent))
	if err != nil {
		return err
	}
	for _, f := range list {
		err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := holdConnector(ctx, tx, f.connectorID); err != nil {
				return err
			}
			f, err := feedOf(ctx, tx, f.connectorID, f.name)
			if errors.Is(err, sql.ErrNoRows) || err == nil && f.nextAt.After(now) {
				return nil // another replica was faster
			}
			if err != nil {
				return err
			}
			f.nextAt = now.Add(feedPatience)
			if err := moveFeed(ctx, tx, f); err != nil {
				return err
			}
			// A feed that was never read begins where the first sync does.
			return s.addFollowed(ctx, tx, f.connectorID, ListEvents{Feed: f.name, Cursor: f.cursor, Since: now, Size: feedPage})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeEvents is the job that takes feeds and events out of a task that is over.
// It may run twice: a page is taken again as long as the cursor hasn't moved.
func (s *Service) takeEvents(ctx context.Context, taskID string) error {
	task, err := taskByID(ctx, s.db, taskID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if task.Kind == KindListEventFeeds {
		return s.takeFeeds(ctx, task)
	}
	message, err := task.message()
	if err != nil {
		return err
	}
	asked := message.GetListEvents()
	f, err := feedOf(ctx, s.db, task.ConnectorID, asked.GetEventFeedId())
	if errors.Is(err, sql.ErrNoRows) || err == nil && f.cursor != asked.GetCursor() {
		return nil
	}
	if err != nil {
		return err
	}
	f.nextAt = s.clock.Now().Add(feedEvery)
	page, err := ResultOf[EventsResult](task)
	if fault.Is(err, fault.NotReady) { // it failed
		return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return moveFeed(ctx, tx, f) })
	}
	if err != nil {
		return err
	}
	if s.onEvents != nil && len(page.Events) > 0 {
		if err := s.onEvents(ctx, task.ConnectorID, page.Events); err != nil {
			return err
		}
	}
	if page.Cursor != "" && len(page.Cursor) <= mostCursor && !strings.Contains(page.Cursor, "\x00") {
		if page.More && page.Cursor != f.cursor { // else it would turn in a circle
			f.nextAt = s.clock.Now()
		}
		f.cursor = page.Cursor
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.syncChanged(ctx, tx, task.ConnectorID, page.Events); err != nil {
			return err
		}
		return moveFeed(ctx, tx, f)
	})
}

func (s *Service) takeFeeds(ctx context.Context, task Task) error {
	found, err := ResultOf[FeedsResult](task)
	if fault.Is(err, fault.NotReady) {
		return nil // it failed; the next Hello asks again
	}
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		var names []string
		for _, one := range found.Feeds[:min(len(found.Feeds), mostFeeds)] {
			if name := one.GetId(); name == "" || name != clean(name, 1024) {
				continue
			}
			names = append(names, one.GetId())
			if err := addFeed(ctx, tx, feed{connectorID: task.ConnectorID, name: one.GetId(), nextAt: s.clock.Now()}); err != nil {
				return err
			}
		}
		return dropFeeds(ctx, tx, task.ConnectorID, names)
	})
}

// syncChanged asks for a sync of the resources that events say have changed.
func (s *Service) syncChanged(ctx context.Context, tx *db.Tx, connectorID string, events []*v2.Event) error {
	c, err := connectorByID(ctx, tx, connectorID)
	if err != nil {
		return err
	}
	var targets []*v2.Resource
	for _, event := range events {
		change := event.GetResourceChangeEvent()
		if change.GetResourceId() == nil || !c.Targets(change.GetResourceId().GetResourceType()) {
			continue
		}
		same := func(r *v2.Resource) bool {
			return r.GetId().GetResource() == change.GetResourceId().GetResource() && r.GetId().GetResourceType() == change.GetResourceId().GetResourceType()
		}
		if !slices.ContainsFunc(targets, same) {
			targets = append(targets, v2.Resource_builder{Id: change.GetResourceId(), ParentResourceId: change.GetParentResourceId()}.Build())
		}
	}
	for batch := range slices.Chunk(targets, mostTargets) {
		_, err := s.RequestTargetedSync(ctx, tx, identity.System(), connectorID, batch, CauseEvent)
		if err != nil && !fault.Is(err, fault.NotReady) {
			return err
		}
	}
	return nil
}
