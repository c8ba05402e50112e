package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/identity"
	"airlock/internal/integration"
	"airlock/internal/inventory"
)

// company is what a small company has: people, a managed app with two syncs behind
// it and a year of grants, another one that isn't connected yet, and an unmanaged
// app. Ids that the test names itself speak: "prod/role/Op", "prod/role/Op/assigned",
// "prod/user/hvogel".
type company struct {
	*domain
	prod, staging, payroll inventory.App
	connector              integration.Connector // of prod
	people                 map[string]string     // id by the local part of the e-mail
}

// staff are e-mail's local part, name, department, job title, manager, status.
const staff = `elena.petrova|Elena Petrova|Data platform|Head of data platform||enabled
ines.marchetti|Ines Marchetti|Data platform|Platform lead|elena.petrova|enabled
hannah.vogel|Hannah Vogel|Finance systems|Head of finance systems||enabled
daniel.okafor|Daniel Okafor|Finance systems|Payroll systems analyst|hannah.vogel|enabled
sofia.almeida|Sofia Almeida|Finance systems|Payroll analyst|hannah.vogel|enabled
marcus.bell|Marcus Bell|Finance systems|Analyst|hannah.vogel|deleted
chen.wei|Chen Wei|Machine learning|ML lead|elena.petrova|enabled
priya.raman|Priya Raman|Analytics|Head of analytics||enabled
owen.gallagher|Owen Gallagher|Data platform|Release engineer|ines.marchetti|enabled
ruth.abrams|Ruth Abrams|Legal|Privacy officer||enabled
leila.haddad|Leila Haddad|Machine learning|ML engineer|chen.wei|enabled
tomas.lindqvist|Tomas Lindqvist|Data platform|Engineer|ines.marchetti|enabled
gustav.berg|Gustav Berg|IT|Directory admin||enabled
amara.diallo|Amara Diallo|Analytics|Analyst|priya.raman|enabled
ben.cho|Ben Cho|Analytics|Analyst|priya.raman|enabled
carla.rossi|Carla Rossi|Analytics|Analyst|priya.raman|disabled
dmitri.ivanov|Dmitri Ivanov|Machine learning|ML engineer|chen.wei|enabled
eva.novak|Eva Novak|Analytics|Analyst|priya.raman|enabled
farid.aziz|Farid Aziz|Operations|Dispatcher||enabled
grace.kim|Grace Kim|Operations|Dispatcher|farid.aziz|enabled
hugo.martin|Hugo Martin|Operations|Planner|farid.aziz|enabled
iris.janssen|Iris Janssen|Operations|Planner|farid.aziz|enabled
jonas.weber|Jonas Weber|Operations|Planner|farid.aziz|enabled
kira.yamada|Kira Yamada|Analytics|Analyst|priya.raman|enabled
luis.ortega|Luis Ortega|Analytics|Analyst|priya.raman|enabled
mina.park|Mina Park|Machine learning|ML engineer|chen.wei|enabled
nils.hansen|Nils Hansen|Operations|Planner|farid.aziz|enabled
olga.sokolova|Olga Sokolova|Analytics|Analyst|priya.raman|enabled
pedro.silva|Pedro Silva|Operations|Dispatcher|farid.aziz|enabled
quinn.murphy|Quinn Murphy|Operations|Dispatcher|farid.aziz|enabled
rosa.lopez|Rosa Lopez|Analytics|Analyst|priya.raman|enabled
sven.lund|Sven Lund|Data platform|Engineer|ines.marchetti|enabled
tara.singh|Tara Singh|Machine learning|ML engineer|chen.wei|enabled
umar.khan|Umar Khan|Operations|Dispatcher|farid.aziz|enabled
vera.popova|Vera Popova|Analytics|Analyst|priya.raman|enabled
wim.bakker|Wim Bakker|Operations|Planner|farid.aziz|enabled
xenia.costa|Xenia Costa|Analytics|Analyst|priya.raman|enabled`

// roles are name, who has it (logins), and what it permits: slugs on resources;
// dag:* stands for all 148.
const roles = `Admin|epetrova imarchetti ogallagher|Users:can_create,can_edit,can_delete,can_read Roles:can_create,can_edit,can_delete,can_read Passwords:can_edit Connections:can_read,can_create,can_edit,can_delete Variables:can_read,can_edit dag:*:can_edit,can_delete,can_read,run.can_create
Op|imarchetti ogallagher tlindqvist slund|Connections:can_read,can_create,can_edit Variables:can_read,can_create,can_edit dag:*:can_edit,can_read,run.can_create
payroll-editor|hvogel salmeida mbell svc-payroll|Connections:can_read Variables:can_read dag:payroll_close:can_edit,can_read,run.can_create dag:payroll_adjust:can_edit,can_read,run.can_create dag:payroll_archive:can_edit,can_read,run.can_create
gdpr-operator|rabrams|Variables:can_read,can_edit dag:gdpr_erasure:can_read,run.can_create
User|adiallo bcho crossi enovak kyamada lortega osokolova rlopez vpopova xcosta cwei dokafor|dag:*:can_edit,can_read,run.can_create
ml-trainer|cwei lhaddad divanov mpark tsingh|dag:ml_train:can_edit,can_read,run.can_create dag:ml_score:can_edit,can_read,run.can_create
release-bot|svc-release|dag:*:can_edit
finance-reader|dokafor hvogel salmeida|dag:payroll_close:can_read,run.can_read dag:payroll_adjust:can_read,run.can_read
Viewer|faziz gkim hmartin ijanssen jweber nhansen psilva qmurphy ukhan wbakker adiallo bcho gberg epetrova|dag:*:can_read,run.can_read
Access||`

// strangers are accounts that belong to nobody: login, name, kind, status.
const strangers = `svc-payroll|Payroll service|service|enabled
svc-release|Release bot|service|enabled
contractor7|Contractor 7|unknown|enabled
jdoe|J. Doe|human|disabled`

// newCompany fills the domain.
func newCompany(t *testing.T) *company {
	t.Helper()
	c := &company{domain: newDomain(t, nil), people: map[string]string{}}
	c.hire()
	ctx := t.Context()
	connector, _, err := c.Integration.Add(ctx, identity.Operator(), integration.AddConnector{
		Catalog: "airflow", App: "Airflow (prod)", Owners: []string{"ines.marchetti@kestrelfreight.com", "elena.petrova@kestrelfreight.com"},
	})
	check(t, err)
	c.connector = connector
	c.prod, err = c.Inventory.AppByID(ctx, c.DB, connector.AppID)
	check(t, err)
	second, _, err := c.Integration.Add(ctx, identity.Operator(), integration.AddConnector{Catalog: "airflow", App: "Airflow (staging)"})
	check(t, err)
	c.staging, err = c.Inventory.AppByID(ctx, c.DB, second.AppID)
	check(t, err)
	c.write(func(ctx context.Context, tx *db.Tx) (err error) {
		c.payroll, err = c.Inventory.AddApp(ctx, tx, identity.Operator(), inventory.App{Name: "Workday", Description: "Payroll and staff records. Its access is read from a file by hand."})
		if err != nil {
			return err
		}
		return c.Inventory.SetOwners(ctx, tx, identity.Operator(), c.prod.ID, []inventory.Owner{
			{Kind: inventory.OwnerPerson, ID: c.people["ines.marchetti"]}, {Kind: inventory.OwnerPerson, ID: c.people["elena.petrova"]},
		})
	})
	check(t, c.Integration.Hello(ctx, identity.Connector(connector.ID, connector.Name), integration.Greeting{Host: "k8s-data-2", Version: "1.0.0", Package: "baton-airflow"}))
	c.fill()
	c.sync()
	return c
}

func (c *company) write(do func(ctx context.Context, tx *db.Tx) error) {
	c.t.Helper()
	check(c.t, c.DB.Write(c.t.Context(), do))
}

// each splits lines of fields.
func each(text string, do func(fields []string)) {
	for line := range strings.SplitSeq(text, "\n") {
		do(strings.Split(line, "|"))
	}
}

func (c *company) hire() {
	c.t.Helper()
	file := "email,name,department,job_title,manager,status\n"
	each(staff, func(f []string) {
		manager := f[4]
		if manager != "" {
			manager += "@kestrelfreight.com"
		}
		file += fmt.Sprintf("%s@kestrelfreight.com,%s,%s,%s,%s,%s\n", f[0], f[1], f[2], f[3], manager, f[5])
	})
	_, err := c.People.ImportPeople(c.t.Context(), identity.Operator(), strings.NewReader(file))
	check(c.t, err)
	list, err := c.People.List(c.t.Context(), identity.Operator(), identity.PersonFilter{Limit: 1000})
	check(c.t, err)
	for _, person := range list {
		name, _, _ := strings.Cut(person.Email, "@")
		c.people[name] = person.ID
	}
}

// fill writes what prod's connector read: half a year ago, with changes since.
func (c *company) fill() {
	c.t.Helper()
	day := func(ago int) time.Time { return c.clock.Now().AddDate(0, 0, -ago) }
	stamp := inventory.Stamp{AppID: c.prod.ID, SyncID: "sync-402", At: day(266)}
	type list = []inventory.ResourceRow
	var rows list
	var rights []inventory.EntitlementRow
	var grants []inventory.GrantRow
	var edges []inventory.Edge
	var types []inventory.TypeRow
	for _, kind := range [][3]string{{"user", "User", "user"}, {"role", "Role", "role"}, {"dag", "DAG"}, {"resource", "Airflow resource"}, {"instance", "Airflow", "app"}} {
		row := inventory.TypeRow{ID: "prod/" + kind[0], ExternalID: kind[0], Name: kind[1], Traits: []string{}}
		if kind[2] != "" {
			row.Traits = append(row.Traits, kind[2])
		}
		types = append(types, row)
	}
	made := map[string]bool{}
	thing := func(kind, id string) string {
		key := "prod/" + kind + "/" + id
		if !made[key] {
			made[key] = true
			rows = append(rows, inventory.ResourceRow{ID: key, TypeID: "prod/" + kind, ExternalID: id, Name: id, Search: inventory.Fold(id), Profile: "{}", Source: []byte{}, Hash: []byte{}})
		}
		return key
	}
	right := func(kind, id, slug string) string {
		of := thing(kind, id)
		key := of + "/" + slug
		if !made[key] {
			made[key] = true
			row := inventory.EntitlementRow{
				ID: key, ResourceID: of, ExternalID: kind + ":" + id + ":" + slug, Slug: slug, Name: slug + " on " + id, Description: "May " + slug + " on " + id + "; comes with roles",
				Purpose: "permission", GrantableTo: []string{"role", "user"}, Immutable: true, Source: []byte{}, Hash: []byte{},
			}
			if kind == "role" {
				row.Name, row.Description, row.Purpose, row.GrantableTo, row.Immutable = "Assigned", "Has the role, and with it all that the role permits", "assignment", []string{"user"}, false
			}
			row.Search = inventory.Fold(row.Name + "\n" + row.ExternalID)
			rights = append(rights, row)
		}
		return key
	}
	dags := []string{"payroll_close", "payroll_adjust", "payroll_archive", "gdpr_erasure", "ml_train", "ml_score"}
	for n := len(dags); n < 148; n++ {
		dags = append(dags, fmt.Sprintf("dbt_%03d", n))
	}
	for _, name := range dags {
		thing("dag", name)
	}
	rows = append(rows, inventory.ResourceRow{
		ID: "prod/instance/airflow", TypeID: "prod/instance", ExternalID: "airflow", Name: "Airflow 3.1.3 at https://airflow.kestrelfreight.com", Search: "airflow",
		Description: "Airflow 3.1.3 with FAB 2.4", Profile: `{"users_total":41,"roles_total":10,"dags_total":148,"airflow_version":"3.1.3"}`, Source: []byte{}, Hash: []byte{},
	})
	account := func(login, name, email string, kind inventory.AccountKind, status inventory.AccountStatus) {
		last := day(len(rows) % 40)
		if status == inventory.Disabled {
			last = time.Time{}
		}
		rows = append(rows, inventory.ResourceRow{
			ID: "prod/user/" + login, TypeID: "prod/user", ExternalID: login, Name: name, Search: inventory.Fold(name + "\n" + login + "\n" + email),
			Profile: `{"login_count": 214, "groups": ["data"], "active": true}`, Source: []byte{}, Hash: []byte{}, Account: &inventory.AccountRow{
				Login: login, Email: email, Keys: identity.Keys{Emails: []string{email}, Usernames: []string{login}}, Kind: kind, Status: status, LastLoginAt: last, CreatedAt: day(400), MatchedAt: stamp.At,
			},
		})
	}
	each(staff, func(f []string) {
		first, last, _ := strings.Cut(f[0], ".")
		account(first[:1]+last, f[1], f[0]+"@kestrelfreight.com", inventory.Human, inventory.Enabled)
	})
	each(strangers, func(f []string) {
		account(f[0], f[1], "", inventory.AccountKind(f[2]), inventory.AccountStatus(f[3]))
	})
	var ended, ending []inventory.Pair
	var later []inventory.GrantRow
	each(roles, func(f []string) {
		role := right("role", f[0], "assigned")
		for n, login := range strings.Fields(f[1]) {
			grant := inventory.GrantRow{EntitlementID: role, PrincipalID: "prod/user/" + login}
			if n%3 == 2 {
				later = append(later, grant)
				continue
			}
			grants = append(grants, grant)
		}
		for _, login := range []string{"tlindqvist", "lhaddad"} { // who had it once
			if f[0] == "payroll-editor" {
				pair := inventory.Pair{EntitlementID: role, PrincipalID: "prod/user/" + login}
				grants = append(grants, inventory.GrantRow{EntitlementID: role, PrincipalID: pair.PrincipalID})
				ended, ending = append(ended, pair), append(ending, pair)
			}
		}
		for part := range strings.FieldsSeq(f[2]) {
			at := strings.LastIndexByte(part, ':')
			kind, id := "resource", part[:at]
			if rest, isDAG := strings.CutPrefix(id, "dag:"); isDAG {
				kind, id = "dag", rest
			}
			on := []string{id}
			if id == "*" {
				on = dags
			}
			for _, one := range on {
				for slug := range strings.SplitSeq(part[at+1:], ",") {
					target := right(kind, one, slug)
					grants = append(grants, inventory.GrantRow{EntitlementID: target, PrincipalID: "prod/role/" + f[0], Flags: inventory.FlagImmutable | inventory.FlagExpandable})
					edges = append(edges, inventory.Edge{TargetID: target, PrincipalID: "prod/role/" + f[0], SourceID: role, TypeID: "prod/user", Shallow: true})
				}
			}
		}
	})
	c.write(func(ctx context.Context, tx *db.Tx) error {
		if err := inventory.PutTypes(ctx, tx, c.prod.ID, types, stamp.At); err != nil {
			return err
		}
		if err := c.Inventory.Own(ctx, tx, c.prod, rows); err != nil {
			return err
		}
		if err := inventory.AddResources(ctx, tx, stamp, rows); err != nil {
			return err
		}
		if err := inventory.AddEntitlements(ctx, tx, stamp, rights); err != nil {
			return err
		}
		if err := inventory.AddGrants(ctx, tx, stamp, grants); err != nil {
			return err
		}
		if err := inventory.AddEdges(ctx, tx, c.prod.ID, edges); err != nil {
			return err
		}
		for n, pair := range ended {
			if _, err := inventory.EndGrants(ctx, tx, c.prod.ID, []inventory.Pair{pair}, inventory.Ending{At: day(160 - 60*n), SyncID: "sync-1302", Unless: c.clock.Now()}); err != nil {
				return err
			}
		}
		for n, grant := range later {
			stamp := inventory.Stamp{AppID: c.prod.ID, SyncID: "sync-2202", At: day(130 - 7*n)}
			if err := inventory.AddGrants(ctx, tx, stamp, []inventory.GrantRow{grant}); err != nil {
				return err
			}
		}
		return nil
	})
	for role, rules := range map[string]inventory.Rules{
		"Admin": {Risk: inventory.Critical, Longest: 2 * time.Hour, OwnerID: c.people["elena.petrova"]}, "Op": {Risk: inventory.High, Requestable: true, Longest: 24 * time.Hour, OwnerID: c.people["ines.marchetti"]},
		"payroll-editor": {Risk: inventory.High, Requestable: true, Longest: 8 * time.Hour, OwnerID: c.people["hannah.vogel"]},
		"Viewer":         {Risk: inventory.Low, Requestable: true},
	} {
		check(c.t, c.Inventory.SetRules(c.t.Context(), identity.Operator(), "prod/role/"+role+"/assigned", func(r *inventory.Rules) { *r = rules }))
	}
}

// sync notes that prod was synced 4 minutes ago.
func (c *company) sync() {
	c.t.Helper()
	list, err := c.Integration.Syncs(c.t.Context(), identity.Operator(), integration.SyncFilter{ConnectorID: c.connector.ID}, "", 1)
	check(c.t, err)
	now := c.clock.Now()
	c.clock.Advance(-4 * time.Minute)
	step := func(from, to integration.SyncState, change func(*integration.Sync)) {
		c.write(func(ctx context.Context, tx *db.Tx) error {
			return c.Integration.Advance(ctx, tx, list[0].ID, []integration.SyncState{from}, func(s *integration.Sync) {
				s.State = to
				change(s)
			})
		})
	}
	step(integration.Waiting, integration.Reading, func(s *integration.Sync) { s.StartedAt = now.Add(-5 * time.Minute) })
	step(integration.Reading, integration.Comparing, func(s *integration.Sync) { s.UploadedAt = now.Add(-4 * time.Minute) })
	step(integration.Comparing, integration.Applied, func(s *integration.Sync) {
		s.BeganAt, s.EndedAt = now.Add(-5*time.Minute), now.Add(-4*time.Minute)
		s.Counts = json.RawMessage(`{"resources":{"user":41,"role":10,"dag":148,"resource":5,"instance":1},"accounts":41,"entitlements":500,"grants":1100,"edges":1050}`)
		s.Totals = json.RawMessage(`{"user":{"source":41,"file":41},"role":{"source":10,"file":10},"dag":{"source":148,"file":148}}`)
		s.Changes = json.RawMessage(`{"types":{"added":0,"changed":0,"removed":0},"accounts":{"added":2,"changed":1,"removed":0},"resources":{"added":3,"changed":1,"removed":0},"entitlements":{"added":4,"changed":0,"removed":1},"grants":{"added":7,"changed":0,"removed":2},"edges":{"added":0,"changed":0,"removed":0}}`)
	})
	c.write(func(ctx context.Context, tx *db.Tx) error {
		return inventory.Finish(ctx, tx, c.prod.ID, list[0].ID, now.Add(-4*time.Minute), now.Add(-5*time.Minute))
	})
	c.clock.Advance(4 * time.Minute)
	c.prod, err = c.Inventory.AppByID(c.t.Context(), c.DB, c.prod.ID)
	check(c.t, err)
}

func TestTheCompanyStands(t *testing.T) {
	c := newCompany(t)
	held, err := c.Inventory.Holdings(t.Context(), identity.Operator(), c.prod.ID)
	check(t, err)
	if held.Accounts != 41 || c.prod.SyncedAt.IsZero() {
		t.Errorf("%+v, synced %v", held, c.prod.SyncedAt)
	}
	overview, err := c.Integration.Show(t.Context(), identity.Operator(), c.connector.ID)
	check(t, err)
	if overview.State != integration.Connected {
		t.Errorf("prod is %s", overview.State)
	}
}
