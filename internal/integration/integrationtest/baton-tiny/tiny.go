package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "github.com/conductorone/baton-sdk/pb/c1/config/v1"
	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/actions"
	"github.com/conductorone/baton-sdk/pkg/annotations"
	"github.com/conductorone/baton-sdk/pkg/cli"
	"github.com/conductorone/baton-sdk/pkg/connectorbuilder"
	"github.com/conductorone/baton-sdk/pkg/crypto"
	"github.com/conductorone/baton-sdk/pkg/pagination"
	"github.com/conductorone/baton-sdk/pkg/types/entitlement"
	"github.com/conductorone/baton-sdk/pkg/types/grant"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"airlock/internal/integration/integrationtest"
)

var (
	bankType   = resourceType("bank", "Bank", v2.ResourceType_TRAIT_APP, &v2.SkipEntitlementsAndGrants{})
	personType = resourceType("person", "Person", v2.ResourceType_TRAIT_USER, &v2.SkipEntitlementsAndGrants{})
	teamType   = resourceType("team", "Team", v2.ResourceType_TRAIT_GROUP)
	vaultType  = resourceType("vault", "Vault", v2.ResourceType_TRAIT_UNSPECIFIED)
)

func resourceType(id, name string, trait v2.ResourceType_Trait, notes ...proto.Message) *v2.ResourceType {
	var traits []v2.ResourceType_Trait
	if trait != v2.ResourceType_TRAIT_UNSPECIFIED {
		traits = append(traits, trait)
	}
	return v2.ResourceType_builder{Id: id, DisplayName: name, Traits: traits, Annotations: annotations.New(notes...)}.Build()
}

// tiny is the connector. Each resource type is a tiny with a kind.
type tiny struct {
	*settings
	kind *v2.ResourceType
}

// What the SDK finds out by asking.
var (
	_ connectorbuilder.ResourceProvisionerV2         = granting{}
	_ connectorbuilder.ResourceTargetedSyncerLimited = tiny{}
	_ connectorbuilder.AccountManagerV2              = people{}
	_ connectorbuilder.CredentialManagerLimited      = people{}
	_ connectorbuilder.ResourceDeleterV2             = people{}
	_ connectorbuilder.GlobalActionProvider          = tiny{}
	_ connectorbuilder.EventFeedsLimited             = tiny{}
)

func open(_ context.Context, s *settings, _ *cli.ConnectorOpts) (connectorbuilder.ConnectorBuilderV2, []connectorbuilder.Opt, error) {
	return tiny{settings: s}, nil, nil
}

func (t tiny) ResourceSyncers(context.Context) []connectorbuilder.ResourceSyncerV2 {
	all := []connectorbuilder.ResourceSyncerV2{
		people{tiny{t.settings, personType}}, granting{tiny{t.settings, teamType}}, tiny{t.settings, bankType},
	}
	if t.Vaults {
		all = append(all, granting{tiny{t.settings, vaultType}})
	}
	return all
}

func (t tiny) Metadata(context.Context) (*v2.ConnectorMetadata, error) {
	text := func(order int32, name string, required bool) *v2.ConnectorAccountCreationSchema_Field {
		return v2.ConnectorAccountCreationSchema_Field_builder{
			DisplayName: name, Order: order, Required: required, StringField: &v2.ConnectorAccountCreationSchema_StringField{},
		}.Build()
	}
	return v2.ConnectorMetadata_builder{
		DisplayName: "Tiny Bank", Description: "People, teams and vaults in a file",
		AccountCreationSchema: v2.ConnectorAccountCreationSchema_builder{FieldMap: map[string]*v2.ConnectorAccountCreationSchema_Field{
			"login": text(1, "Login", true), "name": text(2, "Name", false), "email": text(3, "E-mail", false),
		}}.Build(),
	}.Build(), nil
}

func (t tiny) Validate(ctx context.Context) (annotations.Annotations, error) {
	_, err := t.read(ctx)
	return nil, err
}

// read gives the world as it is, as slowly as the settings say.
func (t tiny) read(ctx context.Context) (integrationtest.World, error) {
	select {
	case <-time.After(time.Duration(t.DelayMS) * time.Millisecond):
	case <-ctx.Done():
		return integrationtest.World{}, ctx.Err()
	}
	w, err := integrationtest.ReadWorld(t.World)
	if err != nil {
		return w, status.Errorf(codes.FailedPrecondition, "baton-tiny: %v", err)
	}
	if w.Passphrase != "" && w.Passphrase != t.Passphrase && w.Passphrase != t.Token {
		return w, status.Error(codes.Unauthenticated, "baton-tiny: the passphrase is wrong")
	}
	if w.Broken != "" {
		return w, status.Errorf(codes.Internal, "baton-tiny: %s", w.Broken)
	}
	return w, nil
}

func (t tiny) ResourceType(context.Context) *v2.ResourceType { return t.kind }

// List gives a page of the resources of its kind.
func (t tiny) List(ctx context.Context, _ *v2.ResourceId, opts rs.SyncOpAttrs) ([]*v2.Resource, *rs.SyncOpResults, error) {
	all, err := t.resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	return page(all, t.PageSize, opts)
}

// Get reads one resource, for a targeted sync.
func (t tiny) Get(ctx context.Context, id, _ *v2.ResourceId) (*v2.Resource, annotations.Annotations, error) {
	all, err := t.resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		if r.GetId().GetResource() == id.GetResource() {
			return r, nil, nil
		}
	}
	return nil, nil, status.Errorf(codes.NotFound, "baton-tiny: there is no %s %s", id.GetResourceType(), id.GetResource())
}

func (t tiny) resources(ctx context.Context) (list []*v2.Resource, err error) {
	w, err := t.read(ctx)
	if err != nil {
		return nil, err
	}
	add := func(r *v2.Resource, failed error) { list, err = append(list, r), errors.Join(err, failed) }
	switch t.kind {
	case personType:
		for _, p := range w.People {
			add(person(p))
		}
	case teamType:
		for _, team := range w.Teams {
			add(rs.NewGroupResource(team.Name, teamType, team.ID, nil))
		}
	case vaultType:
		for _, v := range w.Vaults {
			add(rs.NewResource(v.Name, vaultType, v.ID, rs.WithResourceProfile(map[string]any{"mood": t.Mood})))
		}
	case bankType:
		add(rs.NewAppResource("The bank", bankType, "bank", nil, rs.WithResourceProfile(map[string]any{
			"people_count": len(w.People), "teams_count": len(w.Teams), "vaults_count": len(w.Vaults),
			"badge": string(t.Badge), "labels": t.Labels, "levels": strings.Join(t.Levels, " "),
		})))
	}
	return list, err
}

func person(p integrationtest.Person) (*v2.Resource, error) {
	state, kind := v2.UserTrait_Status_STATUS_ENABLED, v2.UserTrait_ACCOUNT_TYPE_HUMAN
	if p.Disabled {
		state = v2.UserTrait_Status_STATUS_DISABLED
	}
	if p.Robot {
		kind = v2.UserTrait_ACCOUNT_TYPE_SERVICE
	}
	options := []rs.UserTraitOption{rs.WithUserLogin(p.Login), rs.WithStatus(state), rs.WithAccountType(kind)} //nolint:staticcheck // tests read the trait
	if p.Email != "" {
		options = append(options, rs.WithEmail(p.Email, true))
	}
	if p.EmployeeID != "" {
		options = append(options, rs.WithEmployeeID(p.EmployeeID))
	}
	return rs.NewUserResource(p.Name, personType, p.Login, options)
}

// page cuts the page out of a list that the token, an offset, says.
func page[T any](all []T, size int, opts rs.SyncOpAttrs) ([]T, *rs.SyncOpResults, error) {
	from := 0
	if opts.PageToken.Token != "" {
		var err error
		if from, err = strconv.Atoi(opts.PageToken.Token); err != nil || from < 0 || from > len(all) {
			return nil, nil, status.Errorf(codes.InvalidArgument, "baton-tiny: %q is no page", opts.PageToken.Token)
		}
	}
	next := &rs.SyncOpResults{}
	if from+size < len(all) {
		next.NextPageToken = strconv.Itoa(from + size)
	}
	return all[from:min(from+size, len(all))], next, nil
}

// Entitlements are a team's membership, or a vault's levels.
func (t tiny) Entitlements(_ context.Context, r *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Entitlement, *rs.SyncOpResults, error) {
	grantable := entitlement.WithGrantableTo(personType, teamType)
	var all []*v2.Entitlement
	switch t.kind {
	case teamType:
		all = append(all, entitlement.NewAssignmentEntitlement(r, "member", grantable, entitlement.WithDisplayName(r.GetDisplayName()+" member")))
	case vaultType:
		for _, level := range t.Levels {
			all = append(all, entitlement.NewPermissionEntitlement(r, level, grantable, entitlement.WithDisplayName(level+" "+r.GetDisplayName())))
		}
	}
	return page(all, t.PageSize, opts)
}

// Grants are who is in a team, or who holds the levels of a vault.
func (t tiny) Grants(ctx context.Context, r *v2.Resource, opts rs.SyncOpAttrs) ([]*v2.Grant, *rs.SyncOpResults, error) {
	w, err := t.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	var all []*v2.Grant
	for _, slug := range append([]string{"member"}, t.Levels...) {
		holders, _ := holdersOf(&w, r.GetId(), slug)
		for _, holder := range holders {
			all = append(all, granted(r, slug, holder))
		}
	}
	return page(all, t.PageSize, opts)
}

// granted is a grant; one to a team holds for the team's members too.
func granted(r *v2.Resource, slug, holder string) *v2.Grant {
	kind, id, _ := strings.Cut(holder, ":")
	var options []grant.GrantOption
	if kind == teamType.GetId() {
		options = append(options, grant.WithAnnotation(v2.GrantExpandable_builder{EntitlementIds: []string{holder + ":member"}}.Build()))
	}
	return grant.NewGrant(r, slug, v2.ResourceId_builder{ResourceType: kind, Resource: id}.Build(), options...)
}

// holdersOf finds those who have an entitlement, and gives a way to say who has it
// instead; nil where there is no such entitlement.
func holdersOf(w *integrationtest.World, id *v2.ResourceId, slug string) (holders []string, set func([]string)) {
	for n, team := range w.Teams {
		if id.GetResourceType() == teamType.GetId() && team.ID == id.GetResource() && slug == "member" {
			return team.Members, func(now []string) { w.Teams[n].Members = now }
		}
	}
	for n, vault := range w.Vaults {
		if id.GetResourceType() == vaultType.GetId() && vault.ID == id.GetResource() && slug != "member" {
			return vault.Holders[slug], func(now []string) {
				if vault.Holders == nil {
					w.Vaults[n].Holders = map[string][]string{}
				}
				w.Vaults[n].Holders[slug] = now
			}
		}
	}
	return nil, nil
}

// granting is a kind whose entitlements can be given and taken.
type granting struct{ tiny }

func (g granting) Grant(ctx context.Context, principal *v2.Resource, e *v2.Entitlement) ([]*v2.Grant, annotations.Annotations, error) {
	holder := principal.GetId().GetResourceType() + ":" + principal.GetId().GetResource()
	already, err := g.change(ctx, e, holder, true)
	if err != nil {
		return nil, nil, err
	}
	if already {
		return nil, annotations.New(&v2.GrantAlreadyExists{}), nil
	}
	return []*v2.Grant{granted(e.GetResource(), slugOf(e), holder)}, nil, nil
}

func (g granting) Revoke(ctx context.Context, gone *v2.Grant) (annotations.Annotations, error) {
	id := gone.GetPrincipal().GetId()
	already, err := g.change(ctx, gone.GetEntitlement(), id.GetResourceType()+":"+id.GetResource(), false)
	if err != nil || !already {
		return nil, err
	}
	return annotations.New(&v2.GrantAlreadyRevoked{}), nil
}

func slugOf(e *v2.Entitlement) string { return e.GetId()[strings.LastIndexByte(e.GetId(), ':')+1:] }

// change gives or takes an entitlement, unless it is so already.
func (g granting) change(ctx context.Context, e *v2.Entitlement, holder string, hold bool) (already bool, err error) {
	if _, err := g.read(ctx); err != nil {
		return false, err
	}
	err = integrationtest.ChangeWorld(g.World, func(w *integrationtest.World) error {
		holders, set := holdersOf(w, e.GetResource().GetId(), slugOf(e))
		if set == nil {
			return status.Errorf(codes.NotFound, "baton-tiny: there is no %s: nothing was changed", e.GetId())
		}
		if hold && !exists(w, holder) {
			return status.Errorf(codes.NotFound, "baton-tiny: there is no %s: nothing was changed", holder)
		}
		if already = slices.Contains(holders, holder) == hold; already {
			return nil
		}
		if hold {
			set(append(holders, holder))
		} else {
			set(slices.DeleteFunc(holders, func(h string) bool { return h == holder }))
		}
		return nil
	})
	return already, err
}

func exists(w *integrationtest.World, holder string) bool {
	return slices.ContainsFunc(w.People, func(p integrationtest.Person) bool { return "person:"+p.Login == holder }) ||
		slices.ContainsFunc(w.Teams, func(t integrationtest.Team) bool { return "team:"+t.ID == holder })
}

// people are the accounts: made, deleted, given new passwords.
type people struct{ tiny }

var passwords = []v2.CapabilityDetailCredentialOption{
	v2.CapabilityDetailCredentialOption_CAPABILITY_DETAIL_CREDENTIAL_OPTION_NO_PASSWORD,
	v2.CapabilityDetailCredentialOption_CAPABILITY_DETAIL_CREDENTIAL_OPTION_RANDOM_PASSWORD,
}

func (people) CreateAccountCapabilityDetails(context.Context) (*v2.CredentialDetailsAccountProvisioning, annotations.Annotations, error) {
	return v2.CredentialDetailsAccountProvisioning_builder{SupportedCredentialOptions: passwords, PreferredCredentialOption: passwords[0]}.Build(), nil, nil
}

func (p people) CreateAccount(_ context.Context, info *v2.AccountInfo, options *v2.LocalCredentialOptions) (
	connectorbuilder.CreateAccountResponse, []*v2.PlaintextData, annotations.Annotations, error,
) {
	text := func(key string) string { return info.GetProfile().GetFields()[key].GetStringValue() }
	made := integrationtest.Person{Login: text("login"), Name: text("name"), Email: text("email")}
	if made.Login == "" {
		made.Login = info.GetLogin()
	}
	if made.Login == "" {
		return nil, nil, nil, status.Error(codes.InvalidArgument, "baton-tiny: a person needs a login: nothing was created")
	}
	if made.Name == "" {
		made.Name = made.Login
	}
	there := false
	err := integrationtest.ChangeWorld(p.World, func(w *integrationtest.World) error {
		for _, known := range w.People {
			if there = known.Login == made.Login; there {
				made = known
				return nil
			}
		}
		w.People = append(w.People, made)
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := person(made)
	if err != nil {
		return nil, nil, nil, err
	}
	if there {
		return v2.CreateAccountResponse_AlreadyExistsResult_builder{Resource: r, IsCreateAccountResult: true}.Build(), nil, nil, nil
	}
	secret, err := password(options)
	return v2.CreateAccountResponse_SuccessResult_builder{Resource: r, IsCreateAccountResult: true}.Build(), secret, nil, err
}

// password makes one, if one is asked for; the world has no use for it.
func password(options *v2.LocalCredentialOptions) ([]*v2.PlaintextData, error) {
	if !options.HasRandomPassword() {
		return nil, nil
	}
	made, err := crypto.GenerateRandomPassword(options.GetRandomPassword())
	if err != nil {
		return nil, err
	}
	return []*v2.PlaintextData{v2.PlaintextData_builder{Name: "password", Bytes: []byte(made)}.Build()}, nil
}

func (people) RotateCapabilityDetails(context.Context) (*v2.CredentialDetailsCredentialRotation, annotations.Annotations, error) {
	return v2.CredentialDetailsCredentialRotation_builder{
		SupportedCredentialOptions: passwords[1:], PreferredCredentialOption: passwords[1],
	}.Build(), nil, nil
}

func (p people) Rotate(ctx context.Context, id *v2.ResourceId, options *v2.LocalCredentialOptions) ([]*v2.PlaintextData, annotations.Annotations, error) {
	if _, _, err := p.Get(ctx, id, nil); err != nil {
		return nil, nil, err
	}
	secret, err := password(options)
	return secret, nil, err
}

func (p people) Delete(_ context.Context, id, _ *v2.ResourceId) (annotations.Annotations, error) {
	return nil, integrationtest.ChangeWorld(p.World, func(w *integrationtest.World) error {
		gone := func(holder string) bool { return holder == "person:"+id.GetResource() }
		w.People = slices.DeleteFunc(w.People, func(p integrationtest.Person) bool { return p.Login == id.GetResource() })
		for n := range w.Teams {
			w.Teams[n].Members = slices.DeleteFunc(w.Teams[n].Members, gone)
		}
		for _, v := range w.Vaults {
			for level := range v.Holders {
				v.Holders[level] = slices.DeleteFunc(v.Holders[level], gone)
			}
		}
		return nil
	})
}

// GlobalActions registers lock_vault, which takes all access to a vault.
func (t tiny) GlobalActions(ctx context.Context, registry actions.ActionRegistry) error {
	return registry.Register(ctx, v2.BatonActionSchema_builder{
		Name: "lock_vault", DisplayName: "Lock a vault",
		Arguments:   []*configv1.Field{configv1.Field_builder{Name: "vault_id", DisplayName: "Vault", IsRequired: true, StringField: &configv1.StringField{}}.Build()},
		ReturnTypes: []*configv1.Field{configv1.Field_builder{Name: "success", DisplayName: "Success", BoolField: &configv1.BoolField{}}.Build()},
	}.Build(), func(_ context.Context, args *structpb.Struct) (*structpb.Struct, annotations.Annotations, error) {
		id, _ := actions.GetStringArg(args, "vault_id")
		err := integrationtest.ChangeWorld(t.World, func(w *integrationtest.World) error {
			n := slices.IndexFunc(w.Vaults, func(v integrationtest.Vault) bool { return v.ID == id })
			if n < 0 {
				return status.Errorf(codes.NotFound, "baton-tiny: there is no vault %q: nothing was changed", id)
			}
			clear(w.Vaults[n].Holders)
			return nil
		})
		return actions.NewReturnValues(err == nil), nil, err
	})
}

// EventFeeds is one: who opened which vault.
func (t tiny) EventFeeds(context.Context) []connectorbuilder.EventFeed {
	return []connectorbuilder.EventFeed{openings{t}}
}

type openings struct{ tiny }

func (openings) EventFeedMetadata(context.Context) *v2.EventFeedMetadata {
	return v2.EventFeedMetadata_builder{Id: "openings", SupportedEventTypes: []v2.EventType{v2.EventType_EVENT_TYPE_USAGE}}.Build()
}

// ListEvents gives a page of openings; the cursor is how many were told.
func (o openings) ListEvents(ctx context.Context, _ *timestamppb.Timestamp, token *pagination.StreamToken) (
	[]*v2.Event, *pagination.StreamState, annotations.Annotations, error,
) {
	w, err := o.read(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	told := 0
	if token != nil && token.Cursor != "" {
		if told, err = strconv.Atoi(token.Cursor); err != nil || told < 0 {
			return nil, nil, nil, status.Errorf(codes.InvalidArgument, "baton-tiny: %q is no cursor", token.Cursor)
		}
	}
	told = min(told, len(w.Openings))
	until := min(told+o.PageSize, len(w.Openings))
	var events []*v2.Event
	for _, e := range w.Openings[told:until] {
		ref := func(kind *v2.ResourceType, id string) *v2.Resource {
			return v2.Resource_builder{Id: v2.ResourceId_builder{ResourceType: kind.GetId(), Resource: id}.Build(), DisplayName: id}.Build()
		}
		events = append(events, v2.Event_builder{Id: e.ID, OccurredAt: timestamppb.New(e.At), UsageEvent: v2.UsageEvent_builder{
			TargetResource: ref(vaultType, e.Vault), ActorResource: ref(personType, e.Login),
		}.Build()}.Build())
	}
	return events, &pagination.StreamState{Cursor: fmt.Sprint(until), HasMore: until < len(w.Openings)}, nil, nil
}
