package web

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/integration/catalog"
	"airlock/internal/inventory"
)

// byFile is the card of a file that is brought by hand; integration.AnyCatalog is
// that of a connector that somebody runs themself.
const byFile = "file"

// connectorCard is a way to connect an application.
type connectorCard struct {
	name, title, what string
	icon              string // of ours
	image             string // or the address of its own
	initials          string // or these
	facts             []view.Fact
	chip              string
	problem           string
}

func (s *Server) connectorCatalog(c *Call) (Page, error) {
	cards, err := s.cards(c)
	if err != nil {
		return Page{}, err
	}
	query, found := strings.TrimSpace(c.View().Query), 0
	var shown []connectorCard
	for _, one := range cards {
		fits := strings.Contains(inventory.Fold(one.title+" "+one.name), inventory.Fold(query))
		if fits {
			found++
		}
		if fits || one.name == integration.AnyCatalog || one.name == byFile { // which do for everything
			shown = append(shown, one)
		}
	}
	return Page{Title: "Add connector", Section: integrations, Body: catalogBody(shown, query, found)}, nil
}

// cards are all ways to connect an application: hosted here, run by somebody, by
// file.
func (s *Server) cards(c *Call) ([]connectorCard, error) {
	if err := identity.Can(c.Actor(), identity.Read, identity.Object{Kind: "catalog"}); err != nil {
		return nil, err
	}
	entries, err := s.Catalog.List(c.Context())
	if err != nil {
		return nil, err
	}
	var cards []connectorCard
	for _, entry := range entries {
		one := connectorCard{name: entry.Name, title: entry.DisplayName, initials: entry.Icon.Initials, chip: "Hosted here", problem: entry.Problem}
		if len(entry.Icon.Data) > 0 {
			one.image = "/connector-icons/" + entry.Name
		}
		one.what = "baton-" + entry.Name
		if entry.Version != "" {
			one.what += " " + entry.Version
		}
		switch {
		case entry.Problem != "":
		case entry.Capabilities != nil:
			for _, can := range canDo(entry.Capabilities) {
				one.facts = append(one.facts, view.Fact{Name: can.of, Value: view.Text(strings.Join(can.verbs, ", "))})
			}
		default:
			one.facts = []view.Fact{{Name: "Can do", Value: view.Text("it tells once it has its settings")}}
		}
		cards = append(cards, one)
	}
	slices.SortStableFunc(cards, func(a, b connectorCard) int { return cmp.Compare(min(len(a.problem), 1), min(len(b.problem), 1)) })
	return append(cards,
		connectorCard{
			name: integration.AnyCatalog, title: "Baton", what: "Any connector that you run yourself", icon: "plug", chip: "You run it",
			facts: []view.Fact{{Name: "Can do", Value: view.Text("what your connector can do")}, {Name: "Needs", Value: view.Text("only outgoing HTTPS to Airlock")}},
		},
		connectorCard{
			name: byFile, title: "File", what: "A .c1z that a connector wrote, where no network leads out", icon: "folder", chip: "Upload",
			facts: []view.Fact{{Name: "Can do", Value: view.Text("read only, as of the file")}, {Name: "Needs", Value: view.Text("a new file whenever it is to be up to date")}},
		}), nil
}

// ability is what can be done with a type.
type ability struct {
	of    string
	verbs []string
}

// canDo says capabilities by type: "Role: read, grant, revoke".
func canDo(all *v2.ConnectorCapabilities) []ability {
	var list []ability
	for _, one := range all.GetResourceTypeCapabilities() {
		a := ability{of: cmp.Or(one.GetResourceType().GetDisplayName(), one.GetResourceType().GetId())}
		for _, known := range abilities {
			if slices.Contains(one.GetCapabilities(), known.is) {
				a.verbs = append(a.verbs, known.words)
			}
		}
		if len(a.verbs) > 0 {
			list = append(list, a)
		}
	}
	return list
}

var abilities = []struct {
	is    v2.Capability
	words string
}{
	{v2.Capability_CAPABILITY_SYNC, "read"},
	{v2.Capability_CAPABILITY_PROVISION, "grant and revoke"},
	{v2.Capability_CAPABILITY_ACCOUNT_PROVISIONING, "create accounts"},
	{v2.Capability_CAPABILITY_RESOURCE_CREATE, "create"},
	{v2.Capability_CAPABILITY_RESOURCE_DELETE, "delete"},
	{v2.Capability_CAPABILITY_CREDENTIAL_ROTATION, "set a new password"},
	{v2.Capability_CAPABILITY_CREDENTIAL_ISSUE, "issue credentials"},
	{v2.Capability_CAPABILITY_TARGETED_SYNC, "read back one at a time"},
}

// waysForm is how a connector is to be added.
type waysForm struct {
	Catalog   string   `form:"catalog"`
	Way       string   `form:"way"` // unmanaged, managed or new
	Unmanaged string   `form:"unmanaged"`
	Managed   string   `form:"managed"`
	Name      string   `form:"name"`    // of a new app
	Owners    []string `form:"owners"`  // chosen people, by id
	Owner     string   `form:"owner"`   // more of them, as typed
	Program   string   `form:"program"` // which connector somebody runs themself, if they say
}

// app is the app that was chosen, as integration.AddConnector takes it.
func (f waysForm) app() string {
	switch f.Way {
	case "unmanaged":
		return f.Unmanaged
	case "managed":
		return f.Managed
	}
	return f.Name
}

// connectorWays asks for the app and the owners of a new connector.
func (s *Server) connectorWays(c *Call) (Page, error) {
	in := waysForm{Catalog: c.Path("catalog"), Way: "new", Program: integration.AnyCatalog}
	switch person, err := s.People.ByID(c.Context(), s.DB, c.Actor().ID); {
	case err == nil:
		in.Owners = []string{person.ID}
	case !fault.Is(err, fault.NotFound): // the operator is nobody
		return Page{}, err
	}
	return s.waysPage(c, in, nil)
}

// ways is what the page shows.
type ways struct {
	waysForm
	card               connectorCard
	unmanaged, managed []view.Option
	people             []identity.Person // to choose from
	owners             []identity.Person // who are chosen
	programs           []view.Option
	wrong              view.Errors
}

// mostSuggested is how many people and apps a page offers.
const (
	mostSuggested = 200
	mostApps      = 2000
)

func (s *Server) waysPage(c *Call, in waysForm, wrong view.Errors) (Page, error) {
	cards, err := s.cards(c)
	if err != nil {
		return Page{}, err
	}
	n := slices.IndexFunc(cards, func(one connectorCard) bool { return one.name == in.Catalog })
	if n < 0 {
		return Page{}, fault.New(fault.NotFound, "there is no connector %q to add", in.Catalog)
	}
	w := ways{waysForm: in, card: cards[n], wrong: wrong}
	if w.card.problem != "" {
		return Page{}, fault.New(fault.NotReady, "the connector %s can't be used: %s", w.card.title, w.card.problem)
	}
	for after := (inventory.Key{}); len(w.managed)+len(w.unmanaged) < mostApps; {
		list, err := s.Inventory.Apps(c.Context(), c.Actor(), after, 500)
		if err != nil {
			return Page{}, err
		}
		for _, app := range list {
			option := view.Option{Value: app.ID, Title: app.Name}
			if app.Managed {
				w.managed = append(w.managed, option)
			} else {
				w.unmanaged = append(w.unmanaged, option)
			}
			after = inventory.Key{Name: app.Name, ID: app.ID}
		}
		if len(list) < 500 {
			break
		}
	}
	if w.Name == "" && wrong == nil {
		w.Name = w.card.title
		if w.Catalog == byFile {
			w.Name = ""
		}
	}
	if w.people, w.owners, err = s.ownerChoice(c, in.Owners); err != nil {
		return Page{}, err
	}
	if w.Catalog == integration.AnyCatalog {
		w.programs = []view.Option{{Value: integration.AnyCatalog, Title: "It tells when it starts"}}
		for _, one := range cards {
			if one.chip == "Hosted here" && one.problem == "" {
				w.programs = append(w.programs, view.Option{Value: one.name, Title: one.title + " (baton-" + one.name + ")"})
			}
		}
	}
	return Page{Title: "Add " + w.card.title, Section: integrations, Body: waysBody(w)}, nil
}

// ownerChoice are people to choose owners from, and those who are chosen.
func (s *Server) ownerChoice(c *Call, ids []string) (people, owners []identity.Person, err error) {
	people, err = s.People.List(c.Context(), c.Actor(), identity.PersonFilter{Status: identity.Enabled, Limit: mostSuggested})
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		person, err := s.People.ByID(c.Context(), s.DB, id)
		if err != nil {
			return nil, nil, err
		}
		owners = append(owners, person)
	}
	return people, owners, nil
}

// owners are those who are chosen, and those who were typed: a name or an e-mail, or
// several with commas between.
func (s *Server) owners(c *Call, chosen []string, typed string) ([]string, error) {
	if typed == "" {
		return chosen, nil
	}
	person, err := s.People.Find(c.Context(), s.DB, typed)
	if err == nil {
		return append(slices.Clone(chosen), person.ID), nil
	}
	list := slices.Clone(chosen)
	for one := range strings.SplitSeq(typed, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		person, err := s.People.Find(c.Context(), s.DB, one)
		switch {
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict), fault.Is(err, fault.Invalid):
			return nil, fault.New(fault.Invalid, "%s", fault.Words(err)).At("owner")
		case err != nil:
			return nil, err
		}
		list = append(list, person.ID)
	}
	return list, nil
}

// addConnector adds a connector, hosted or not, and leads to its page.
func (s *Server) addConnector(c *Call) (Outcome, error) {
	var in waysForm
	err := c.Form(&in)
	add := integration.AddConnector{Catalog: in.Catalog, App: in.app(), Hosted: in.Catalog != integration.AnyCatalog}
	if add.Hosted {
		add.Later = true
		entry, failed := s.Catalog.Entry(c.Context(), in.Catalog)
		if failed != nil {
			return Outcome{}, failed
		}
		add.Directory = entry.Directory && in.Way == "new"
	} else if in.Program != "" {
		add.Catalog = in.Program
	}
	if err == nil {
		add.Owners, err = s.owners(c, in.Owners, in.Owner)
	}
	var added integration.Connector
	if err == nil {
		added, _, err = s.Integration.Add(c.Context(), c.Actor(), add)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.waysPage(c, in, wrongAt(wrong, in)) })
	}
	return Go("/connectors/"+added.ID, ""), nil
}

// uploadFile takes a .c1z for an app, as it comes.
func (s *Server) uploadFile(c *Call) (Outcome, error) {
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{}) // a test's server has none
	in := waysForm{}
	from, _, err := c.Upload("file", &in)
	in.Catalog = byFile
	var syncID string
	switch {
	case err != nil:
	case in.Way == "new":
		syncID, err = s.Ingest.IngestNew(c.Context(), c.Actor(), inventory.App{Name: in.Name, Managed: true}, from)
	case in.app() == "":
		err = fault.New(fault.Invalid, "choose an app; nothing was changed").At("app")
	default:
		syncID, err = s.Ingest.IngestFile(c.Context(), c.Actor(), in.app(), from)
	}
	if err != nil {
		return c.Again(err, func(wrong view.Errors) (Page, error) { return s.waysPage(c, in, wrongAt(wrong, in)) })
	}
	return Go("/syncs/"+syncID, "The file is here, and is being compared."), nil
}

// wrongAt puts what is wrong with the app to the field that gives it.
func wrongAt(wrong view.Errors, in waysForm) view.Errors {
	field := "name"
	if in.Way == "unmanaged" || in.Way == "managed" {
		field = in.Way
	}
	for _, from := range []string{"app", "name"} {
		if words := wrong[from]; words != "" {
			delete(wrong, from)
			wrong[field] = words
		}
	}
	return wrong
}

// entryOf is the catalog's entry of a connector; the zero Entry where there is none.
func (s *Server) entryOf(c *Call, connector integration.Connector) (catalog.Entry, error) {
	entry, err := s.Catalog.Entry(c.Context(), connector.Kind())
	if fault.Is(err, fault.NotFound) {
		return catalog.Entry{}, nil
	}
	return entry, err
}
