package identity

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"airlock/internal/base/id"
)

// DirectoryPerson is a person as a directory tells of them.
type DirectoryPerson struct {
	ExternalID   string // of the account in the directory
	Name         string
	Emails       []string // the first is the primary one
	Usernames    []string
	EmployeeIDs  []string
	Department   string
	JobTitle     string
	ManagerID    string // external id of the manager's account, or ''
	ManagerEmail string
	Kind         string // human, service, system
	Status       string // enabled, disabled, deleted
	Profile      map[string]any
}

// ImportResult counts what an import did, or would do.
type ImportResult struct {
	Added     int `json:"added"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
	Gone      int `json:"gone"` // left the directory: they are deleted, and stay on record
}

// book is all people, with what they are found by, while an import is planned.
// What a source says of a person replaces what that source said before, and
// nothing that another did.
type book struct {
	source string
	now    time.Time
	ids    id.Series
	people map[string]Person
	keys   map[string]map[string][]personKey // person → source → sorted keys
	owners map[personKey][]string            // persons, once each

	plan  plan
	touch map[string]bool // who is part of this import
}

// plan is what an import will write.
type plan struct {
	result ImportResult
	steps  []step
}

// step is what an import will write of one person.
type step struct {
	person    Person
	isNew     bool
	isChanged bool
	seen      time.Time // when one who is changed was changed before
	rekeyed   bool
	keys      []personKey // that the source knows one who is rekeyed by, sorted
	rematched bool        // accounts will be matched otherwise
}

func newBook(source string, now time.Time) *book {
	return &book{
		source: source, now: now,
		people: map[string]Person{}, keys: map[string]map[string][]personKey{}, owners: map[personKey][]string{},
		touch: map[string]bool{},
	}
}

func (b *book) addKey(person, source string, key personKey) {
	if b.keys[person] == nil {
		b.keys[person] = map[string][]personKey{}
	}
	b.keys[person][source] = append(b.keys[person][source], key)
	if !slices.Contains(b.owners[key], person) {
		b.owners[key] = append(b.owners[key], person)
	}
}

// only is the one person who has a key; ” if there are none or several.
func (b *book) only(kind, text string) string {
	if owners := b.owners[personKey{kind, Fold(text)}]; len(owners) == 1 && Fold(text) != "" {
		return owners[0]
	}
	return ""
}

// put plans that a person is as given, with these keys of the source.
func (b *book) put(after Person, keys []personKey) {
	before, known := b.people[after.ID]
	b.touch[after.ID] = true
	next := b.rekey(after, keys)
	switch {
	case !known:
		next.isNew, next.person.CreatedAt, next.person.UpdatedAt = true, b.now, b.now
		b.plan.result.Added++
	case !next.rekeyed && samePerson(before, after):
		b.plan.result.Unchanged++
		return
	default:
		next.isChanged, next.seen, next.person.UpdatedAt = true, before.UpdatedAt, b.now
		b.plan.result.Changed++
	}
	b.plan.steps = append(b.plan.steps, next)
}

// rekey is the step that lets these, sorted, be the keys that the source knows a
// person by. No account is matched by a name.
func (b *book) rekey(person Person, keys []personKey) step {
	named := func(key personKey) bool { return key.kind == byName }
	before := b.keys[person.ID][b.source]
	return step{
		person: person, keys: keys, rekeyed: !slices.Equal(before, keys),
		rematched: !slices.Equal(slices.DeleteFunc(slices.Clone(before), named), slices.DeleteFunc(slices.Clone(keys), named)),
	}
}

// samePerson compares all but when they were last changed.
func samePerson(a, b Person) bool {
	a.UpdatedAt = b.UpdatedAt
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}

// importRows plans what a file of people changes. By employee id, else e-mail,
// else username a row finds the person it is about.
func (b *book) importRows(rows []personRow) error {
	var wrong rowErrors
	found := make([]string, len(rows)) // person of each row
	lines := map[string]int{}          // of each person
	for n, row := range rows {
		found[n] = b.personOf(row, &wrong)
		if found[n] == "" {
			found[n] = b.ids.Next()
		} else if line, twice := lines[found[n]]; twice {
			wrong.addf(row.line, "it is about %s, as line %d is", b.people[found[n]].Name, line)
		}
		lines[found[n]] = row.line
	}
	emails := map[string]string{}
	for n, row := range rows {
		if email := Fold(row.columns[byEmail]); email != "" {
			emails[email] = found[n]
		}
	}
	for n, row := range rows {
		b.clashes(row, found[n], lines, &wrong)
		manager := ""
		if email := row.columns["manager"]; email != "" {
			if manager = emails[Fold(email)]; manager == "" {
				manager = b.only(byEmail, email)
			}
			switch manager {
			case "":
				wrong.addf(row.line, "its manager %q is neither in the file nor known", email)
			case found[n]:
				wrong.addf(row.line, "its manager is the person themself")
			}
		}
		before, known := b.people[found[n]]
		if !known {
			before = Person{ID: found[n], Kind: Human, Status: Enabled, Source: SourceCSV}
		}
		after := row.onto(before, manager)
		b.put(after, Keys{
			Emails: b.said(row, after.ID, byEmail), Usernames: b.said(row, after.ID, byUsername), EmployeeIDs: b.said(row, after.ID, byEmployeeID),
		}.all(after.Name))
	}
	return wrong.err()
}

// said is what files say that a person has of a kind of key: this one, or those
// before where this one has no such column.
func (b *book) said(row personRow, person, kind string) []string {
	if value, there := row.columns[kind]; there {
		return []string{value}
	}
	var values []string
	for _, key := range b.keys[person][b.source] {
		if key.kind == kind {
			values = append(values, key.value)
		}
	}
	return values
}

// personOf finds who a row is about; ” is somebody new.
func (b *book) personOf(row personRow, wrong *rowErrors) string {
	for _, by := range []string{byEmployeeID, byEmail, byUsername} {
		value := row.columns[by]
		owners := slices.Clone(b.owners[personKey{by, Fold(value)}])
		if by == byUsername { // directories have usernames of their own
			owners = slices.DeleteFunc(owners, func(person string) bool { return b.people[person].Source != SourceCSV })
		}
		switch {
		case value == "" || len(owners) == 0:
			continue
		case len(owners) > 1:
			wrong.addf(row.line, "its %s %q is that of %d known people", by, value, len(owners))
		case by != byEmployeeID && differ(b.people[owners[0]].EmployeeID, row.columns[byEmployeeID]):
			wrong.addf(row.line, "its %s %q is that of %s, who has the employee id %q", by, value, b.people[owners[0]].Name, b.people[owners[0]].EmployeeID)
		}
		return owners[0]
	}
	return ""
}

func differ(a, b string) bool { return a != "" && b != "" && Fold(a) != Fold(b) }

// clashes finds keys of a row that somebody else has, and keeps: by these two
// the accounts of one would be taken for the other's.
func (b *book) clashes(row personRow, person string, lines map[string]int, wrong *rowErrors) {
	for _, by := range []string{byEmployeeID, byEmail} {
		key := personKey{by, Fold(row.columns[by])}
		for _, owner := range b.owners[key] {
			if owner == person {
				continue
			}
			keeps := lines[owner] == 0 // not in the file
			for source, keys := range b.keys[owner] {
				keeps = keeps || source != b.source && slices.Contains(keys, key)
			}
			if keeps {
				wrong.addf(row.line, "its %s %q is that of %s too", by, row.columns[by], b.people[owner].Name)
			}
		}
	}
}

// undirected reports whether no directory tells of a person: files have the say.
func (p Person) undirected() bool {
	return p.Source == "" || p.Source == SourceCSV || p.Source == SourceManual
}

// onto is a person as a row says. Whom a directory tells of, the file adds to: it
// empties nothing, and whether they are enabled is for the directory to say.
func (r personRow) onto(p Person, manager string) Person {
	own := p.undirected()
	set := func(column string, field *string) {
		if value, there := r.columns[column]; there && (own || value != "") {
			*field = value
		}
	}
	set(byEmail, &p.Email)
	set(byUsername, &p.Username)
	set(byEmployeeID, &p.EmployeeID)
	set("department", &p.Department)
	set("job_title", &p.JobTitle)
	set(byName, &p.Name)
	if p.Name == "" {
		p.Name = firstOf(p.Email, p.Username, p.EmployeeID)
	}
	if _, there := r.columns["manager"]; there && (own || manager != "") {
		p.ManagerID = manager
	}
	p.Kind = firstOf(r.columns["kind"], p.Kind)
	if own {
		p.Status = firstOf(r.columns["status"], p.Status)
	}
	p.Profile = maps.Clone(p.Profile)
	for heading, value := range r.profile {
		switch {
		case value != "" && p.Profile == nil:
			p.Profile = map[string]any{heading: value}
		case value != "":
			p.Profile[heading] = value
		case own:
			delete(p.Profile, heading)
		}
	}
	return p
}

func firstOf(list ...string) string {
	for _, text := range list {
		if text != "" {
			return text
		}
	}
	return ""
}

// importDirectory plans what a directory's whole list of people changes.
func (b *book) importDirectory(list []DirectoryPerson) {
	known := map[string]string{} // external id → person
	for _, person := range b.people {
		if person.Source == b.source {
			known[person.ExternalID] = person.ID
		}
	}
	found := map[string]string{} // external id → person, of the list
	taken := map[string]bool{}
	for _, d := range list {
		if person := known[d.ExternalID]; person != "" {
			found[d.ExternalID], taken[person] = person, true
		}
	}
	for _, d := range list {
		if found[d.ExternalID] != "" {
			continue
		}
		person := b.sameAs(d, taken)
		if person == "" {
			person = b.ids.Next()
		}
		found[d.ExternalID], taken[person] = person, true
	}
	emails := map[string]string{}
	for _, d := range list {
		for _, email := range folded(d.Emails) {
			emails[email] = found[d.ExternalID]
		}
	}
	for _, d := range list {
		person := found[d.ExternalID]
		if b.touch[person] {
			continue // the same account again
		}
		manager := found[d.ManagerID]
		if manager == "" {
			manager = emails[Fold(d.ManagerEmail)]
		}
		if manager == "" {
			manager = b.only(byEmail, d.ManagerEmail)
		}
		if manager == person {
			manager = ""
		}
		before, old := b.people[person]
		if !old {
			before = Person{ID: person, Kind: Human, Status: Enabled}
		}
		after := d.onto(before, b.source, manager)
		b.put(after, Keys{Emails: d.Emails, Usernames: d.Usernames, EmployeeIDs: d.EmployeeIDs}.all(after.Name))
	}
	b.retire()
}

// sameAs finds the person, known from elsewhere, whom a directory tells of: by
// one employee id or e-mail that is nobody else's.
func (b *book) sameAs(d DirectoryPerson, taken map[string]bool) string {
	owners := map[string]bool{}
	for _, key := range (Keys{Emails: d.Emails, EmployeeIDs: d.EmployeeIDs}).all("") {
		if key.kind == byLocalPart {
			continue
		}
		for _, owner := range b.owners[key] {
			owners[owner] = true
		}
	}
	if len(owners) != 1 {
		return ""
	}
	for owner := range owners {
		// One of this directory whose account got another id is the same person;
		// one that the list names by another account isn't.
		if !taken[owner] {
			return owner
		}
	}
	return ""
}

// onto is a person as their directory says. The directory to which they belong
// overwrites what it knows; another one only adds what is missing. So it is with an
// administrator who was made by hand: accounts are matched to them by what the
// directory says, but it doesn't disable them. They are there to let people in when
// the directory, or the provider behind it, is broken or in the wrong hands.
func (d DirectoryPerson) onto(p Person, source, manager string) Person {
	if p.Source != SourceManual && (p.undirected() || p.Status == Deleted) {
		p.Source, p.ExternalID = source, d.ExternalID
	}
	own := p.Source == source
	if own {
		p.ExternalID = d.ExternalID
		p.Status = firstOf(d.Status, Enabled)
		p.Kind = firstOf(d.Kind, p.Kind)
	}
	set := func(field *string, value string) {
		if value != "" && (own || *field == "") {
			*field = value
		}
	}
	set(&p.Name, d.Name)
	set(&p.Email, firstOf(d.Emails...))
	set(&p.Username, firstOf(d.Usernames...))
	set(&p.EmployeeID, firstOf(d.EmployeeIDs...))
	set(&p.Department, d.Department)
	set(&p.JobTitle, d.JobTitle)
	set(&p.ManagerID, manager)
	if p.Name == "" {
		p.Name = firstOf(p.Email, p.Username, p.EmployeeID, d.ExternalID)
	}
	if own && len(d.Profile) > 0 {
		p.Profile = maps.Clone(p.Profile)
		if p.Profile == nil {
			p.Profile = map[string]any{}
		}
		maps.Copy(p.Profile, d.Profile)
	}
	return p
}

// retire plans what becomes of those whom the directory doesn't list any more:
// who belongs to it is deleted, which takes nothing off the record; who belongs
// elsewhere isn't found by its keys any more.
func (b *book) retire() {
	for _, person := range slices.Sorted(maps.Keys(b.people)) {
		if b.touch[person] {
			continue
		}
		gone := b.people[person]
		switch {
		case gone.Source == b.source && gone.Status != Deleted:
			next := step{person: gone, isChanged: true, seen: gone.UpdatedAt}
			next.person.Status, next.person.UpdatedAt = Deleted, b.now
			b.plan.steps = append(b.plan.steps, next)
			b.plan.result.Gone++
		case gone.Source != b.source && len(b.keys[person][b.source]) > 0:
			b.plan.steps = append(b.plan.steps, b.rekey(gone, nil))
		}
	}
}
