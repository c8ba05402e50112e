package provision

import (
	"cmp"
	"context"
	"fmt"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

const (
	jobLook = "provision"
	// JobVerify compares the changes that wait for it with a sync that was
	// applied; its row is the sync. Whoever applies a sync enqueues it.
	JobVerify = "provision.verify"

	lookAgain   = time.Minute // in case the job that a finished task enqueues is lost
	whilePaused = time.Hour   // a connector that is paused doesn't sync
	mostLooks   = 6           // syncs that may fail to show whether a change is there
)

// look takes a change one step further, if its task or its sync let it.
func (s *Service) look(ctx context.Context, changeID string) error {
	c, err := byID(ctx, s.DB, changeID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	}
	switch c.State {
	case Running:
		return s.afterTask(ctx, c)
	case Done:
		return s.afterSync(ctx, c)
	case Verified, Failed:
	}
	return nil
}

// afterTask takes over what the connector said, once it has.
func (s *Service) afterTask(ctx context.Context, c Change) error {
	task, err := s.Integration.TaskByID(ctx, s.DB, c.TaskID)
	if fault.Is(err, fault.NotFound) {
		return s.step(ctx, c, func(ctx context.Context, tx *db.Tx, c *Change) error {
			return s.end(ctx, tx, c, Failed, "failed", "nobody knows what came of it: its connector task isn't kept any more")
		})
	}
	if err != nil {
		return err
	}
	if !task.State.Over() {
		return s.step(ctx, c, func(_ context.Context, _ *db.Tx, c *Change) error {
			c.NextAt = s.Clock.Now().Add(lookAgain)
			return nil
		})
	}
	if failure := task.Failure(); failure != nil {
		return s.step(ctx, c, func(ctx context.Context, tx *db.Tx, c *Change) error {
			if failure.Lost { // it may have been done: the inventory is to know
				_, err := s.Integration.RequestSync(ctx, tx, identity.System(), c.ConnectorID, integration.CauseVerify)
				if err != nil && !fault.Is(err, fault.NotReady) {
					return err
				}
			}
			return s.end(ctx, tx, c, Failed, "failed", failure.Words)
		})
	}
	words, err := found(task)
	if err != nil {
		return err
	}
	return s.step(ctx, c, func(ctx context.Context, tx *db.Tx, c *Change) error {
		if err := s.note(ctx, tx, *c); err != nil {
			return err
		}
		c.State, c.DoneAt = Done, s.Clock.Now()
		connector, err := s.Integration.ByID(ctx, tx, c.ConnectorID)
		if err != nil {
			return err
		}
		if err := s.record(ctx, tx, identity.Connector(connector.ID, connector.Name), *c, "done", words); err != nil {
			return err
		}
		return s.readBack(ctx, tx, c)
	})
}

// found says that a connector had nothing to do.
func found(task integration.Task) (string, error) {
	if task.Kind == integration.KindGrant {
		result, err := integration.ResultOf[integration.GrantResult](task)
		if err == nil && result.AlreadyExists {
			return "it was there already", nil
		}
		return "", err
	}
	result, err := integration.ResultOf[integration.RevokeResult](task)
	if err == nil && result.AlreadyRevoked {
		return "it was gone already", nil
	}
	return "", err
}

// note writes into the inventory what the connector did. What a sync has removed
// meanwhile isn't there to be noted: the next sync tells.
func (s *Service) note(ctx context.Context, tx *db.Tx, c Change) error {
	if c.Kind == Revoke {
		return s.Inventory.RecordRevoke(ctx, tx, c.AppID, c.EntitlementID, c.PrincipalID)
	}
	err := s.Inventory.RecordGrant(ctx, tx, c.AppID, c.EntitlementID, c.PrincipalID, inventory.Reason{Kind: c.Reason.Kind, Ref: cmp.Or(c.Reason.Ref, c.ID)})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// readBack asks for the sync that is to see a change. One that waits to begin is
// joined; one that runs may have passed the place already.
func (s *Service) readBack(ctx context.Context, tx *db.Tx, c *Change) error {
	syncID, err := s.Integration.RequestSync(ctx, tx, identity.System(), c.ConnectorID, integration.CauseVerify)
	if fault.Is(err, fault.NotReady) {
		connector, err := s.Integration.ByID(ctx, tx, c.ConnectorID)
		switch {
		case err != nil:
			return err
		case connector.Removed():
			return s.end(ctx, tx, c, Failed, "unverified", "the connector reported success, but was removed before a sync could see it")
		}
		c.SyncID, c.NextAt = "", s.Clock.Now().Add(whilePaused) // a sync of later tells too
		return nil
	}
	if err != nil {
		return err
	}
	c.SyncID = syncID
	c.Attempts++
	c.NextAt = s.Clock.Now().Add(lookAgain << min(c.Attempts, 6))
	return nil
}

// afterSync looks again at a change that no sync has seen yet.
func (s *Service) afterSync(ctx context.Context, c Change) error {
	var state integration.SyncState
	if c.SyncID != "" {
		sync, err := s.Integration.SyncByID(ctx, s.DB, c.SyncID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		state = sync.State
	}
	if state == integration.Applied { // its job was lost
		if err := s.verify(ctx, c.SyncID); err != nil {
			return err
		}
	}
	return s.step(ctx, c, func(ctx context.Context, tx *db.Tx, c *Change) error {
		switch {
		case state != "" && !state.Over():
			c.NextAt = s.Clock.Now().Add(lookAgain)
			return nil
		case c.Attempts >= mostLooks:
			return s.end(ctx, tx, c, Failed, "unverified",
				fmt.Sprintf("the connector reported success, but after %d syncs it isn't known whether it is so; look in the target system", c.Attempts))
		}
		return s.readBack(ctx, tx, c)
	})
}

// verify compares changes with a sync that was applied and had begun after the
// connector had reported them.
func (s *Service) verify(ctx context.Context, syncID string) error {
	sync, err := s.Integration.SyncByID(ctx, s.DB, syncID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case sync.State != integration.Applied, sync.Kind != integration.Full, sync.StartedAt.IsZero():
		return nil // it can't tell that something is gone
	}
	list, err := awaiting(ctx, s.DB, sync.AppID, sync.StartedAt)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := s.step(ctx, c, s.judge); err != nil {
			return err
		}
	}
	return nil
}

// judge holds a change against the inventory, after a sync.
func (s *Service) judge(ctx context.Context, tx *db.Tx, c *Change) error {
	opposite, err := undoing(ctx, tx, *c)
	if err != nil {
		return err
	}
	for _, other := range opposite {
		switch {
		case other.State == Running: // what is there now may be its doing
			return nil
		case !other.DoneAt.IsZero():
			return s.end(ctx, tx, c, Failed, "superseded", fmt.Sprintf("a later %s took its place before a sync could see it", other.Kind))
		}
	}
	grant, err := s.Inventory.DirectGrant(ctx, tx, c.AppID, c.EntitlementID, c.PrincipalID)
	there := err == nil
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return err
	case there && grant.SyncID == "": // noted by us, and the sync says nothing of its kind
		return nil
	case there == (c.Kind == Grant):
		return s.end(ctx, tx, c, Verified, "verified", "")
	case c.Kind == Grant:
		return s.end(ctx, tx, c, Failed, "unverified", "the connector reported success, but the next sync doesn't show the grant: it was undone in the target system, or never made")
	}
	return s.end(ctx, tx, c, Failed, "unverified", "the connector reported success, but the next sync still shows the grant: something gave it again, or it was never taken away")
}

// end ends a change, within a step.
func (s *Service) end(ctx context.Context, tx *db.Tx, c *Change, state State, step, words string) error {
	c.State, c.Error, c.NextAt = state, words, time.Time{}
	if state == Verified {
		c.VerifiedAt = s.Clock.Now()
	}
	return s.record(ctx, tx, identity.System(), *c, step, words)
}

// step changes a change in one transaction, unless somebody else did meanwhile.
func (s *Service) step(ctx context.Context, c Change, do func(ctx context.Context, tx *db.Tx, c *Change) error) error {
	from := c.State
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		now, err := byID(ctx, tx, c.ID)
		if err != nil || now.State != from {
			return err
		}
		if err := do(ctx, tx, &now); err != nil {
			return err
		}
		if now.State != from && !from.may(now.State) {
			return fmt.Errorf("a change that is %s can't become %s", from, now.State)
		}
		ok, err := update(ctx, tx, now, from)
		if err == nil && !ok {
			return fault.New(fault.Conflict, "change %s was taken further meanwhile", c.ID)
		}
		return err
	})
}

// sources are the entitlement and the principal, as far as they are still known:
// a change may outlive either.
func (s *Service) sources(ctx context.Context, q db.Querier, c Change) (*v2.Entitlement, *v2.Resource, error) {
	entitlement, err := s.Inventory.SentEntitlement(ctx, q, c.EntitlementID)
	if fault.Is(err, fault.NotFound) {
		entitlement, err = v2.Entitlement_builder{Id: c.EntitlementID}.Build(), nil
	}
	if err != nil {
		return nil, nil, err
	}
	principal, err := s.Inventory.SentResource(ctx, q, c.PrincipalID)
	if fault.Is(err, fault.NotFound) {
		principal, err = v2.Resource_builder{Id: v2.ResourceId_builder{Resource: c.PrincipalID}.Build()}.Build(), nil
	}
	return entitlement, principal, err
}

// sweep looks again at what is due, should its job have been lost.
func (s *Service) sweep(ctx context.Context) error {
	list, err := due(ctx, s.DB, s.Clock.Now())
	if err != nil || len(list) == 0 {
		return err
	}
	return s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, changeID := range list {
			if err := s.Jobs.Enqueue(ctx, tx, jobLook, changeID); err != nil {
				return err
			}
		}
		return nil
	})
}
