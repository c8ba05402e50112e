package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/job"
	"airlock/internal/base/live"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// Config is what the service works with.
type Config struct {
	DB          *db.DB
	Jobs        *job.Queue
	Live        *live.Hub
	Audit       *audit.Log
	Inventory   *inventory.Service
	Integration *integration.Service
	Clock       clock.Clock
	Log         *slog.Logger
}

// Service carries out changes of access.
type Service struct{ Config }

// New makes the service and registers its jobs.
func New(config Config) *Service {
	s := &Service{config}
	s.Jobs.Handle(jobLook, job.Options{Timeout: time.Minute}, s.look)
	s.Jobs.Handle(JobVerify, job.Options{Timeout: time.Minute}, s.verify)
	s.Jobs.Every("provision.sweep", 15*time.Second, s.sweep)
	return s
}

// Request asks for a change of access, by our ids.
type Request struct {
	AppID         string
	EntitlementID string
	PrincipalID   string
	Reason        Reason
	Why           string // for the audit log
}

// Grant gives a principal an entitlement through the app's connector. It returns
// once the change is on its way; a like one under way is joined. Nobody does so for
// themself, by any path.
func (s *Service) Grant(ctx context.Context, actor identity.Actor, r Request) (Change, error) {
	return s.begin(ctx, actor, Grant, r)
}

// Revoke takes a direct grant away through the app's connector, like Grant.
func (s *Service) Revoke(ctx context.Context, actor identity.Actor, r Request) (Change, error) {
	return s.begin(ctx, actor, Revoke, r)
}

// errJoined takes a transaction back: a like change is under way.
var errJoined = errors.New("joined")

func (s *Service) begin(ctx context.Context, actor identity.Actor, kind Kind, r Request) (Change, error) {
	if err := inventory.CanChange(ctx, s.DB, actor, identity.Change, identity.Object{Kind: "app", ID: r.AppID, AppID: r.AppID}, r.PrincipalID); err != nil {
		return Change{}, err
	}
	connector, err := s.Integration.ConnectorOfApp(ctx, s.DB, r.AppID)
	if err != nil {
		return Change{}, err
	}
	task, name, err := s.request(ctx, kind, r)
	if err != nil {
		return Change{}, err
	}
	change := Change{
		ID: id.New(), AppID: r.AppID, ConnectorID: connector.ID, Kind: kind, EntitlementID: r.EntitlementID, PrincipalID: r.PrincipalID,
		Reason: r.Reason, State: Running, By: actor,
	}
	err = s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		// Whether the actor may was asked before, of the app and by whose access it is: the
		// task is no decision of its own. From here on, other changes through the connector wait.
		change.TaskID, err = s.Integration.AddTask(ctx, tx, identity.System(), integration.TaskSpec{
			ConnectorID: connector.ID, Request: task,
			Lane:   "access/" + r.PrincipalID, // a target system may replace an account's whole list: one change at a time
			Follow: integration.Follow{Kind: jobLook, Row: change.ID},
		})
		if err != nil {
			return err
		}
		under, err := open(ctx, tx, r.EntitlementID, r.PrincipalID)
		if err != nil {
			return err
		}
		// Only the last can be joined: what was asked for last is to be so in the end.
		if n := len(under); n > 0 && under[n-1].Kind == kind && under[n-1].State == Running {
			change = under[n-1]
			return errJoined
		}
		change.CreatedAt = s.Clock.Now()
		change.NextAt = change.CreatedAt.Add(lookAgain)
		if err := insert(ctx, tx, change); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, change, "began", r.Why)
	})
	if err != nil && !errors.Is(err, errJoined) {
		return Change{}, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return change, nil
}

// request makes the connector's task of a change, and names it, or says why there
// can't be one.
func (s *Service) request(ctx context.Context, kind Kind, r Request) (request integration.Request, name string, err error) {
	known, err := s.Inventory.EntitlementByID(ctx, s.DB, r.EntitlementID)
	if err != nil {
		return nil, "", err
	}
	holder, err := s.Inventory.ResourceByID(ctx, s.DB, r.PrincipalID)
	if err != nil {
		return nil, "", err
	}
	name = known.ExternalID + " for " + holder.ExternalID
	if known.AppID != r.AppID || holder.AppID != r.AppID {
		return nil, name, fault.New(fault.Invalid, "%s: not both are of the app; nothing was changed", name)
	}
	entitlement, err := s.Inventory.SentEntitlement(ctx, s.DB, r.EntitlementID)
	if err != nil {
		return nil, name, err
	}
	if slices.ContainsFunc(entitlement.GetAnnotations(), func(a *anypb.Any) bool { return a.MessageIs(&v2.EntitlementImmutable{}) }) {
		return nil, name, fault.New(fault.NotReady, "who has %s can't be changed through the connector; nothing was changed", known.ExternalID)
	}
	if kind == Revoke {
		request, err = s.revoke(ctx, r, name)
		return request, name, err
	}
	principal, err := s.Inventory.SentResource(ctx, s.DB, r.PrincipalID)
	if err != nil {
		return nil, name, err
	}
	types := entitlement.GetGrantableTo()
	if len(types) > 0 && !slices.ContainsFunc(types, func(t *v2.ResourceType) bool { return t.GetId() == holder.Type }) {
		return nil, name, fault.New(fault.Invalid, "%s can't be given to %s: it isn't for a %s; nothing was changed", known.ExternalID, holder.ExternalID, holder.Type)
	}
	return integration.Grant{Entitlement: entitlement, Principal: principal}, name, nil
}

// revoke makes the task that takes a grant away: one that is known, or one that
// is on its way.
func (s *Service) revoke(ctx context.Context, r Request, name string) (integration.Request, error) {
	grant, err := s.Inventory.DirectGrant(ctx, s.DB, r.AppID, r.EntitlementID, r.PrincipalID)
	switch {
	case fault.Is(err, fault.NotFound):
		under, err := open(ctx, s.DB, r.EntitlementID, r.PrincipalID)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(under, func(c Change) bool { return c.State == Running }) {
			return nil, fault.New(fault.NotReady, "%s: it isn't held directly, as far as is known: there is nothing to revoke", name)
		}
	case err != nil:
		return nil, err
	case grant.Immutable:
		return nil, fault.New(fault.NotReady, "the grant of %s can't be changed through the connector: it follows from something else; nothing was changed", name)
	}
	sent, err := s.Inventory.SentGrant(ctx, s.DB, r.EntitlementID, r.PrincipalID)
	return integration.Revoke{Grant: sent}, err
}

// record writes a step of a change into the audit log, and into the server's if
// it decides something, and tells who follows it.
func (s *Service) record(ctx context.Context, tx *db.Tx, actor identity.Actor, c Change, step, words string) error {
	entitlement, principal, err := s.sources(ctx, tx, c)
	if err != nil {
		return err
	}
	detail := map[string]string{
		"change": c.ID, "entitlement": entitlement.GetId(), "principal": principal.GetId().GetResource(),
		"principal_type": principal.GetId().GetResourceType(), "reason": c.Reason.Kind, "task": c.TaskID,
	}
	if words != "" {
		detail["words"] = words
	}
	err = s.Audit.Append(ctx, tx, audit.Event{
		Actor: actor, Action: string(c.Kind) + "." + step, AppID: c.AppID, Detail: detail,
		Object: audit.Object{
			Kind: "grant", ID: c.EntitlementID + "/" + c.PrincipalID,
			Name: entitlement.GetDisplayName() + " for " + principal.GetDisplayName(),
		},
	})
	if err != nil {
		return err
	}
	if step != "began" {
		level := slog.LevelInfo
		if c.State == Failed {
			level = slog.LevelWarn
		}
		tx.AfterCommit(func() {
			s.Log.Log(ctx, level, "change "+step, "change", c.ID, "kind", string(c.Kind), "app", c.AppID, "connector", c.ConnectorID,
				"task", c.TaskID, "sync", c.SyncID, "words", words)
		})
	}
	return s.Live.Publish(ctx, tx, "change/"+c.ID)
}

// ByID reads a change.
func (s *Service) ByID(ctx context.Context, actor identity.Actor, changeID string) (Change, error) {
	c, err := byID(ctx, s.DB, changeID)
	if err != nil {
		return Change{}, err
	}
	subject, err := s.Inventory.PersonOf(ctx, s.DB, c.PrincipalID)
	if err != nil {
		return Change{}, err
	}
	if err := inventory.Can(ctx, s.DB, actor, identity.Read, identity.Object{Kind: "change", ID: c.ID, AppID: c.AppID, SubjectID: subject}); err != nil {
		return Change{}, err
	}
	return c, nil
}

// GiveUpGrants fails the grants that are under way, in a database that was
// restored: nothing is granted by yesterday's word. Revokes go on.
func (s *Service) GiveUpGrants(ctx context.Context, tx *db.Tx, actor identity.Actor, why string) (int64, error) {
	if err := identity.Can(actor, identity.Manage, identity.Object{Kind: "change"}); err != nil {
		return 0, err
	}
	list, err := runningGrants(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, c := range list {
		c.State, c.Error, c.NextAt = Failed, why, time.Time{}
		if _, err := update(ctx, tx, c, Running); err != nil {
			return 0, err
		}
		if err := s.record(ctx, tx, actor, c, "failed", why); err != nil {
			return 0, err
		}
	}
	return int64(len(list)), nil
}
