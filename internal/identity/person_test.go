package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"airlock/internal/audit"
	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/base/id"
)

func TestFoldMakesCaseAndSpaceEqual(t *testing.T) {
	for _, pair := range [][2]string{
		{" Ada@Example.COM\t", "ada@example.com"}, {"STRAẞE", "straße"}, {"ΣΊΣΥΦΟΣ", "σίσυφος"}, {"\u212aelvin", "kelvin"}, {"ÅSA", "åsa"}, {"\u212bsa", "åsa"},
	} {
		if Fold(pair[0]) != Fold(pair[1]) {
			t.Errorf("%q folds to %q, and %q to %q", pair[0], Fold(pair[0]), pair[1], Fold(pair[1]))
		}
	}
	if got := Fold("Ada Lovelace-42"); got != "ada lovelace-42" {
		t.Error(got)
	}
	if Fold("ada") == Fold("âda") || Fold("İ") == Fold("i") || Fold("ı") == Fold("i") {
		t.Error("letters that differ fold to the same")
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if Fold(Fold(a)) != Fold(a) {
			t.Fatalf("%q folds twice", a)
		}
		a, b = strings.TrimSpace(a), strings.TrimSpace(b)
		if strings.EqualFold(a, b) != (Fold(a) == Fold(b)) {
			t.Fatalf("%q and %q", a, b)
		}
		if upper := strings.ToUpper(a); strings.EqualFold(a, upper) && Fold(upper) != Fold(a) {
			t.Fatalf("%q and %q", a, upper)
		}
	})
}

// people are all that there are, by name, with times and ids left out.
func (s site) people(t testing.TB) []Person {
	t.Helper()
	list, err := s.List(t.Context(), Operator(), PersonFilter{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, person := range list {
		names[person.ID] = person.Name
	}
	for n := range list {
		list[n].ID, list[n].ManagerID = "", names[list[n].ManagerID]
		list[n].CreatedAt, list[n].UpdatedAt = time.Time{}, time.Time{}
	}
	return list
}

func (s site) mustImport(t testing.TB, text string) ImportResult {
	t.Helper()
	result, err := s.ImportPeople(t.Context(), Operator(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

const firstFile = "\ufeffE-Mail,Name,User Name,Employee ID,department,job_title,Manager,status,kind,Cost centre\r\n" +
	"Ada@example.com,Ada Lovelace,ada,E1,Analysis,Countess,,,,42\r\n" +
	"bob@example.com,\"Bob \"\"the\"\" Builder, jr.\",bob,E2,Works,Builder,ada@EXAMPLE.com,disabled,human,\r\n" +
	",,airflow-bot,,,,bob@example.com,,service,\r\n"

func TestPeopleComeFromAFile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		preview, err := s.PreviewPeople(t.Context(), Operator(), strings.NewReader(firstFile))
		if err != nil || len(s.people(t)) != 0 {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ImportResult{Added: 3}, preview); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(ImportResult{Added: 3}, s.mustImport(t, firstFile)); diff != "" {
			t.Fatal(diff)
		}
		want := []Person{
			{
				Name: "Ada Lovelace", Email: "Ada@example.com", Username: "ada", EmployeeID: "E1", Department: "Analysis", JobTitle: "Countess",
				Kind: Human, Status: Enabled, Source: SourceCSV, Profile: map[string]any{"Cost centre": "42"},
			},
			{
				Name: `Bob "the" Builder, jr.`, Email: "bob@example.com", Username: "bob", EmployeeID: "E2", Department: "Works", JobTitle: "Builder",
				ManagerID: "Ada Lovelace", Kind: Human, Status: Disabled, Source: SourceCSV, Profile: map[string]any{},
			},
			{
				Name: "airflow-bot", Username: "airflow-bot", ManagerID: `Bob "the" Builder, jr.`, Kind: ServicePerson, Status: Enabled, Source: SourceCSV,
				Profile: map[string]any{},
			},
		}
		if diff := cmp.Diff(want, s.people(t)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(ImportResult{Unchanged: 3}, s.mustImport(t, firstFile)); diff != "" {
			t.Fatal(diff)
		}

		// By employee id else e-mail else username; columns that aren't there stay;
		// empty cells empty; who isn't in the file stays.
		second := "employee_id;email;username;department;Cost centre\nE1;ada@new.example;ada;;\n;bob@example.com;bobby;Works;7\n;;AIRFLOW-bot;Data;\n;new@example.com;;;\n"
		if diff := cmp.Diff(ImportResult{Added: 1, Changed: 3}, s.mustImport(t, second)); diff != "" {
			t.Fatal(diff)
		}
		want[0].Email, want[0].Department, want[0].Profile = "ada@new.example", "", map[string]any{}
		want[1].Username, want[1].EmployeeID, want[1].Profile = "bobby", "", map[string]any{"Cost centre": "7"}
		want[2].Username, want[2].Department = "AIRFLOW-bot", "Data"
		want = append(want, Person{Name: "new@example.com", Email: "new@example.com", Kind: Human, Status: Enabled, Source: SourceCSV, Profile: map[string]any{}})
		if diff := cmp.Diff(want, s.people(t)); diff != "" {
			t.Fatal(diff)
		}

		events, err := s.audit.List(t.Context(), Operator(), audit.Filter{Action: "people.imported"})
		if err != nil || len(events) != 3 {
			t.Fatal(len(events), err)
		}
		if got := string(events[0].Detail); !strings.HasPrefix(got, `{"added":1,"changed":3,"unchanged":0,"gone":0,"sha256":"`) || events[0].Actor != Operator() {
			t.Error(got)
		}
	})
}

func TestAFileWithAWrongRowChangesNothing(t *testing.T) {
	windows := []byte("email,name\na@example.com,Ada\nb@example.com,J\xfcrgen\n")
	utf16 := append([]byte{0xff, 0xfe}, []byte("e\x00")...)
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.mustImport(t, "email,name,employee_id\nada@example.com,Ada,E1\nbob@example.com,Bob,E2\n")
	before := s.people(t)
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"empty":           {"", []string{"row of headings"}},
		"only headings":   {"email,name\n", []string{"no people"}},
		"no key":          {"name,department\nAda,x\n", []string{"line 1: there must be a column email"}},
		"twice":           {"email,E-mail,Email,x,x\na@example.com,b,c,d,e\n", []string{`line 1: the heading "E-mail" is there twice`, `line 1: the heading "Email" is there twice`, `line 1: the heading "x" is there twice`}},
		"Windows-1252":    {string(windows), []string{"line 3 isn't in UTF-8, but probably in Windows-1252"}},
		"UTF-16":          {string(utf16), []string{"UTF-16"}},
		"a null byte":     {"email\na@example.com\x00\n", []string{"line 2"}},
		"fields":          {"email,name\na@example.com\n\nb@example.com,B,C\n", []string{"line 2: it has 1 fields, and the headings are 2", "line 4: it has 3 fields"}},
		"quotes":          {"email,name\n\"a@example.com,A\nb@example.com,\"B\"\n", []string{"line 2: "}},
		"values":          {"email,status,kind,manager\nnobody,gone,robot,someone\n,enabled,human,\n", []string{`line 2: email should be an e-mail address, and is "nobody"`, `line 2: status should be enabled, disabled, deleted, and is "gone"`, `line 2: kind should be human, service, system, and is "robot"`, "line 2: manager should be", "line 3: it has no email, employee_id or username"}},
		"the same twice":  {"email,username,employee_id\na@example.com,a,1\nA@EXAMPLE.com,A,1\n", []string{`line 3: its employee_id "1" is that of line 2 too`, `line 3: its email "A@EXAMPLE.com" is that of line 2 too`, `line 3: its username "A" is that of line 2 too`}},
		"manager":         {"email,manager\nx@example.com,nobody@example.com\ny@example.com,Y@example.com\n", []string{`line 2: its manager "nobody@example.com" is neither`, "line 3: its manager is the person themself"}},
		"two of one":      {"email,employee_id\nx@example.com,E1\nada@example.com,\n", []string{"line 3: it is about Ada, as line 2 is"}},
		"other's number":  {"email,employee_id\nada@example.com,E9\n", []string{`line 2: its email "ada@example.com" is that of Ada, who has the employee id "E1"`}},
		"other's mail":    {"email,employee_id\nbob@example.com,E1\n", []string{`line 2: its email "bob@example.com" is that of Bob too`}},
		"no heading":      {"email,\na@example.com,x\nb@example.com,\n", []string{"line 2: field 2 has no heading"}},
		"swallowed quote": {"email,name\na@example.com,\"" + strings.Repeat("x", maxField+1) + "\"\n", []string{"line 2: name has 4097 bytes"}},
	} {
		_, err := s.ImportPeople(t.Context(), Operator(), strings.NewReader(test.text))
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
	many := "email\n" + strings.Repeat("nobody\n", 150)
	if _, err := s.ImportPeople(t.Context(), Operator(), strings.NewReader(many)); !strings.HasSuffix(err.Error(), "and 199 more") {
		t.Error(err)
	}
	if _, err := s.ImportPeople(t.Context(), Operator(), bytes.NewReader(make([]byte, maxCSV+1))); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	if _, err := s.ImportPeople(t.Context(), Connector("c", "c"), strings.NewReader("")); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	if diff := cmp.Diff(before, s.people(t)); diff != "" {
		t.Error(diff)
	}
}

func TestMailsMayChangeHandsWithinAFile(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.mustImport(t, "email,name,employee_id\nada@example.com,Ada,E1\nbob@example.com,Bob,E2\n")
	if diff := cmp.Diff(ImportResult{Changed: 2}, s.mustImport(t, "email,employee_id\nbob@example.com,E1\nada@example.com,E2\n")); diff != "" {
		t.Fatal(diff)
	}
	person, err := s.Find(t.Context(), s.db, "bob@example.com")
	if err != nil || person.Name != "Ada" {
		t.Fatal(person.Name, err)
	}
}

func FuzzReadPeople(f *testing.F) {
	f.Add([]byte(firstFile))
	f.Add([]byte("email;name\na@example.com;\"A\n;B\"\n"))
	f.Add([]byte("\xff\xfee\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := readPeople(bytes.NewReader(data))
		if err != nil && fault.CodeOf(err) == fault.Internal {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		_ = newBook(SourceCSV, time.Time{}).importRows(rows)
	})
}

func (s site) directory(t testing.TB, source string, list ...DirectoryPerson) (result ImportResult) {
	t.Helper()
	s.clock.Advance(time.Minute)
	noted := ImportResult{}
	result, err := s.ReadDirectory(t.Context(), source, list, func(_ context.Context, _ *db.Tx, result ImportResult) error {
		noted = result
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if result != noted && result != (ImportResult{Unchanged: result.Unchanged}) {
		t.Errorf("%+v was noted, not %+v", noted, result)
	}
	return result
}

func TestPeopleComeFromADirectory(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		ada := DirectoryPerson{
			ExternalID: "u1", Name: "Ada Lovelace", Emails: []string{"ada@example.com", "countess@example.com"}, Usernames: []string{"ada"}, EmployeeIDs: []string{"E1"},
			Status: Enabled, Profile: map[string]any{"floor": 3.5, "tags": []any{"a"}},
		}
		bob := DirectoryPerson{ExternalID: "u2", Emails: []string{"bob@example.com"}, ManagerID: "u1", Status: Disabled, Kind: Human}
		eve := DirectoryPerson{ExternalID: "u3", Name: "Eve", ManagerEmail: "COUNTESS@example.com"}
		if diff := cmp.Diff(ImportResult{Added: 3}, s.directory(t, "okta", ada, bob, eve, ada)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(ImportResult{Unchanged: 3}, s.directory(t, "okta", eve, bob, ada)); diff != "" {
			t.Fatal(diff)
		}
		bob.Status, bob.Emails = Enabled, []string{"robert@example.com"}
		if diff := cmp.Diff(ImportResult{Unchanged: 1, Changed: 1, Gone: 1}, s.directory(t, "okta", ada, bob)); diff != "" {
			t.Fatal(diff)
		}
		want := []Person{
			{
				Name: "Ada Lovelace", Email: "ada@example.com", Username: "ada", EmployeeID: "E1", Kind: Human, Status: Enabled, Source: "okta", ExternalID: "u1",
				Profile: map[string]any{"floor": 3.5, "tags": []any{"a"}},
			},
			{Name: "Eve", Kind: Human, Status: Deleted, Source: "okta", ExternalID: "u3", ManagerID: "Ada Lovelace", Profile: map[string]any{}},
			{Name: "bob@example.com", Email: "robert@example.com", Kind: Human, Status: Enabled, Source: "okta", ExternalID: "u2", ManagerID: "Ada Lovelace", Profile: map[string]any{}},
		}
		if diff := cmp.Diff(want, s.people(t)); diff != "" {
			t.Fatal(diff)
		}
		// Who is gone is still known by what they had, and may come back.
		if person, err := s.Find(t.Context(), d, "eve"); err != nil || person.Status != Deleted {
			t.Error(person, err)
		}
		if diff := cmp.Diff(ImportResult{Unchanged: 2, Changed: 1}, s.directory(t, "okta", ada, bob, eve)); diff != "" {
			t.Fatal(diff)
		}
		if _, err := s.Find(t.Context(), d, "bob@example.com"); err != nil {
			t.Error("he has that name: ", err)
		}
		if id, _, err := s.Match(t.Context(), d, Keys{Emails: []string{"bob@example.com"}}, false); id != "" || err != nil {
			t.Error("he still has the e-mail that was taken from him", err)
		}
	})
}

func TestADirectoryAndAFileAreOfOnePerson(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.mustImport(t, "email,name,employee_id,department,status\nada@example.com,Ada,E1,Analysis,disabled\ntwin@example.com,One,E2,,\ntwo@example.com,Two,E3,,\n")
	ada := DirectoryPerson{ExternalID: "u1", Name: "Ada Lovelace", Emails: []string{"ADA@example.com"}, Status: Enabled}
	both := DirectoryPerson{ExternalID: "u2", Name: "Both", Emails: []string{"twin@example.com", "two@example.com"}}
	if diff := cmp.Diff(ImportResult{Added: 1, Changed: 1}, s.directory(t, "okta", ada, both)); diff != "" {
		t.Fatal(diff)
	}
	got := s.people(t)
	want := Person{
		Name: "Ada Lovelace", Email: "ADA@example.com", EmployeeID: "E1", Department: "Analysis", Kind: Human, Status: Enabled, Source: "okta", ExternalID: "u1", Profile: map[string]any{},
	}
	if diff := cmp.Diff(want, got[0]); diff != "" || len(got) != 4 {
		t.Fatal(diff, len(got))
	}
	// The file goes on to add what the directory doesn't have, and doesn't say who is
	// enabled.
	s.mustImport(t, "employee_id,department,status,email,name\nE1,Engines,deleted,,\n")
	want.Department = "Engines"
	if diff := cmp.Diff(want, s.people(t)[0]); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(ImportResult{Unchanged: 2}, s.directory(t, "okta", ada, both)); diff != "" {
		t.Fatal(diff)
	}
	// A second directory adds, and takes nothing over until the first lets go.
	ad := DirectoryPerson{ExternalID: "a1", Name: "Countess", Emails: []string{"ada@example.com", "ada@ad.example"}, JobTitle: "Analyst", Status: Disabled}
	s.directory(t, "ad", ad)
	want.JobTitle = "Analyst"
	if diff := cmp.Diff(want, s.people(t)[0]); diff != "" {
		t.Fatal(diff)
	}
	match := func(email string) string {
		id, _, err := s.Match(t.Context(), s.db, Keys{Emails: []string{email}}, false)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if match("ada@ad.example") == "" || match("ada@ad.example") != match("ada@example.com") {
		t.Error("her second e-mail isn't known")
	}
	s.directory(t, "okta", both)
	s.directory(t, "ad", ad)
	want.Source, want.ExternalID, want.Status, want.Name, want.Email = "ad", "a1", Disabled, "Countess", "ada@example.com"
	got = s.people(t)
	if diff := cmp.Diff(want, got[1]); diff != "" {
		t.Fatal(diff)
	}
	s.directory(t, "okta", ada)
	s.directory(t, "okta")
	if match("ada@example.com") == "" {
		t.Error("the first directory took away what the second says")
	}
}

func TestMatchFindsTheOneWhoFits(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name,username,employee_id\n"+
			"ada@example.com,Ada,ada,E1\nbob@example.com,Bob,rob,E2\nrob@example.com,Rob,,E3\n,Twin,twin,\neve@one.example,Eve,,\neve@two.example,Eve,,\n")
		names := map[string]string{}
		list, err := s.List(t.Context(), Operator(), PersonFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, person := range list {
			names[person.ID] = person.Name
		}
		for _, test := range []struct {
			keys        Keys
			narrow, all string // name and by what
		}{
			{Keys{}, " ", " "},
			{Keys{Emails: []string{"  ADA@Example.com "}}, "Ada email", "Ada email"},
			{Keys{EmployeeIDs: []string{"e2"}}, "Bob employee_id", "Bob employee_id"},
			{Keys{Emails: []string{"ada@example.com"}, EmployeeIDs: []string{"E1"}}, "Ada email", "Ada email"},
			{Keys{Emails: []string{"ada@example.com"}, EmployeeIDs: []string{"E2"}}, " ", " "},
			{Keys{Emails: []string{"ada@example.com", "bob@example.com"}}, " ", " "},
			{Keys{Emails: []string{"ada@elsewhere.example"}}, " ", "Ada username"},
			{Keys{Usernames: []string{"ADA"}}, " ", "Ada username"},
			{Keys{Usernames: []string{"bob"}}, " ", "Bob username"},              // local part
			{Keys{Usernames: []string{"ada@example.com"}}, " ", "Ada email"},     // a username that is an e-mail
			{Keys{Usernames: []string{"rob"}}, " ", " "},                         // Bob's username, and Rob's local part
			{Keys{Usernames: []string{"eve"}}, " ", " "},                         // both Eves
			{Keys{Usernames: []string{"twin"}}, " ", "Twin username"},            // who has no e-mail
			{Keys{Usernames: []string{"", " "}, Emails: []string{""}}, " ", " "}, // nothing is like nothing
			{Keys{Emails: []string{"ada@example.com"}, Usernames: []string{"twin"}}, "Ada email", "Ada email"},
			{Keys{Usernames: []string{"nobody' OR '1'='1"}}, " ", " "},
		} {
			for broad, want := range map[bool]string{false: test.narrow, true: test.all} {
				id, by, err := s.Match(t.Context(), d, test.keys, broad)
				if got := names[id] + " " + by; err != nil || got != want {
					t.Errorf("%+v, broad %v: got %q, want %q; %v", test.keys, broad, got, want, err)
				}
			}
		}
		huge := Keys{}
		for n := range 5000 {
			huge.Emails = append(huge.Emails, fmt.Sprint(n, "@example.com"), strings.Repeat("x", 5000)+fmt.Sprint(n))
			huge.Usernames = append(huge.Usernames, fmt.Sprint(n))
		}
		if id, _, err := s.Match(t.Context(), d, huge, true); id != "" || err != nil {
			t.Error(id, err)
		}
	})
}

func TestFindSaysWhoOrWhyNot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name,username,employee_id\nada@example.com,Ada,ada,E1\nx@example.com,Eve,,\ny@example.com,Eve,,\n")
		ada, err := s.Find(t.Context(), d, "ADA@example.com")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{ada.ID, "e1", "Ada", " ada "} {
			if found, err := s.Find(t.Context(), d, text); err != nil || cmp.Diff(ada, found, cmpopts.EquateEmpty()) != "" {
				t.Errorf("%q: %v, %v", text, found, err)
			}
		}
		if _, err := s.Find(t.Context(), d, "eve"); !fault.Is(err, fault.Conflict) {
			t.Error(err)
		}
		for _, text := range []string{"", "nobody"} {
			if _, err := s.Find(t.Context(), d, text); !fault.Is(err, fault.NotFound) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if _, err := s.ByID(t.Context(), d, "x"); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	})
}

func TestListPagesByName(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name,status\n1@example.com,B,\n2@example.com,A,disabled\n3@example.com,B,\n4@example.com,C,\n5@example.com,a,\n")
		var names []string
		for f := (PersonFilter{Limit: 2}); ; {
			page, err := s.List(t.Context(), Operator(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, person := range page {
				names = append(names, person.Name)
				f.AfterName, f.AfterID = person.Name, person.ID
			}
			if len(page) < 2 {
				break
			}
		}
		if got := strings.Join(names, ""); got != "ABBCa" {
			t.Error(got)
		}
		if list, err := s.List(t.Context(), Operator(), PersonFilter{Status: Disabled, Source: SourceCSV}); err != nil || len(list) != 1 {
			t.Error(list, err)
		}
		if _, err := s.List(t.Context(), Connector("c", "c"), PersonFilter{}); !fault.Is(err, fault.Forbidden) {
			t.Error(err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			s := newSite(b, dbtest.Open(b, engine))
			s.directory(b, "okta", crowd(10_000)...)
			for b.Loop() {
				if id, _, err := s.Match(b.Context(), s.db, Keys{Emails: []string{"u77@example.com"}, Usernames: []string{"u77"}}, true); id == "" || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The directory tells what it told before.
func BenchmarkReadDirectoryAgain(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			s := newSite(b, dbtest.Open(b, engine))
			list := crowd(10_000)
			s.directory(b, "okta", list...)
			for b.Loop() {
				if result := s.directory(b, "okta", list...); result.Unchanged != len(list) {
					b.Fatal(result)
				}
			}
		})
	}
}

func crowd(size int) (list []DirectoryPerson) {
	for n := range size {
		name := fmt.Sprint("u", n)
		list = append(list, DirectoryPerson{ExternalID: name, Name: name, Emails: []string{name + "@example.com"}, Usernames: []string{name}, EmployeeIDs: []string{name}})
	}
	return list
}

func TestWhatCannotBeSeenIsInNoName(t *testing.T) {
	long := strings.Repeat("é", 101)
	for text, want := range map[string]string{
		"  Größe \u00a0 und\u3000Weite ": "Größe und Weite", "日本 👍\ufe0f": "日本 👍\ufe0f", "\tx\n": "x",
		"":               "error: an app needs a name",
		" \u00a0":        "error: an app needs a name",
		"a\x1b[31m":      `error: the name of an app "a\x1b[31m" has the character U+001B, which can't be seen; leave it out`,
		"a\nb":           `error: the name of an app "a\nb" has the character U+000A`,
		"a\u200bb":       "U+200B",
		"a\u202eb":       "U+202E",
		"a\u2028b":       "U+2028",
		"a\u2029b":       "U+2029",
		"a\u3164":        "U+3164",
		"\U000e0041":     "U+E0041",
		"a\xff":          "error: the name of an app isn't UTF-8 text",
		long:             "error: the name of an app has 202 bytes, and may have 200: \"" + strings.Repeat("é", 30) + "\"…",
		id.New():         "looks like an id",
		"' OR '1'='1":    "' OR '1'='1",
		"=cmd|'/C x'!A0": "=cmd|'/C x'!A0",
	} {
		got, err := Name("an app", text)
		if err != nil {
			got = "error: " + err.Error()
			if known, ours := errors.AsType[*fault.Error](err); !ours || known.Code != fault.Invalid || known.Field != "name" {
				t.Errorf("%q: %#v", text, err)
			}
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got, want := Shown(" a\x1b[2J\u202eb\r\nc\xff "+strings.Repeat("é", 10), 20), "a[2Jb c\uFFFD ééé…"; got != want {
		t.Errorf("shown as %q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		shown := Shown(text, 50)
		if line, err := Line("it", shown, 50); err != nil || line != shown {
			t.Fatalf("%q is shown as %q, which isn't a line: %v", text, shown, err)
		}
	})
}

func TestAFileOfPeopleHasNothingHiddenInIt(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	for text, want := range map[string]string{
		"email,name\na@example.com,A\u200bda\n":                            "line 2: name has the character U+200B, which can't be seen; leave it out",
		"email,Name\na@example.com,\"Ada\nLovelace\"\n":                    "line 2: Name has the character U+000A",
		"email\na@example.com\nb\u202e@example.com\n":                      "line 3: email has the character U+202E",
		"email,notes\na@example.com,\x1b]0;x\n":                            "line 2: notes has the character U+001B",
		"email,no\u200btes\na@example.com,x\n":                             `line 1: the heading 2, "no\u200btes", has the character U+200B`,
		"email,username\na@example.com," + strings.Repeat("x", 321) + "\n": "line 2: username has 321 bytes; it may have 320",
		"email,name\na@example.com,A\"da\n":                                "line 2: a quote is missing, or there is one too many",
	} {
		_, err := s.ImportPeople(t.Context(), Operator(), strings.NewReader(text))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nobody was imported") {
			t.Errorf("%q: %v", text, err)
		}
	}
	_, err := s.ImportPeople(t.Context(), Operator(), iotest.ErrReader(errors.New("read /etc: is a directory")))
	if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "/etc") || !strings.Contains(err.Error(), "nobody was imported") {
		t.Error(err)
	}
	if len(s.people(t)) != 0 {
		t.Error(s.people(t))
	}
	s.mustImport(t, "email,notes\na@example.com,\"two\nlines\"\n")
	if got := s.people(t)[0].Profile["notes"]; got != "two\nlines" {
		t.Error(got)
	}
}

// matched is whose accounts with some keys are.
func (s site) matched(t testing.TB, keys Keys) string {
	t.Helper()
	person, _, err := s.Match(t.Context(), s.db, keys, true)
	if err != nil || person == "" {
		return fmt.Sprint("nobody ", err)
	}
	found, err := s.ByID(t.Context(), s.db, person)
	if err != nil {
		t.Fatal(err)
	}
	return found.Name
}

func TestAColumnThatIsNotThereTakesNoKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name,username,employee_id\nada@example.com,Ada,countess,E1\n")
		s.mustImport(t, "email,department\nada@example.com,Analysis\n")
		for _, keys := range []Keys{{Usernames: []string{"countess"}}, {EmployeeIDs: []string{"e1"}}, {Emails: []string{"ada@example.com"}}} {
			if got := s.matched(t, keys); got != "Ada" {
				t.Errorf("%v is %s", keys, got)
			}
		}
		s.mustImport(t, "email,username\nada@example.com,\n")
		if got := s.matched(t, Keys{Usernames: []string{"countess"}}); got != "nobody <nil>" {
			t.Errorf("an empty cell left the username to %s", got)
		}
	})
}

func TestOnlyWhatAccountsAreMatchedByCallsForThat(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		calls := 0
		s.PeopleChanged = func(context.Context, *db.Tx) error {
			calls++
			return nil
		}
		ada := DirectoryPerson{ExternalID: "u1", Name: "Ada", Emails: []string{"ada@okta.example"}, EmployeeIDs: []string{"E1"}}
		for _, test := range []struct {
			what string
			do   func()
			want int
		}{
			{"a new person", func() { s.mustImport(t, "email,name,employee_id,status\nada@example.com,Ada,E1,\n") }, 1},
			{"the same", func() { s.mustImport(t, "email,name,employee_id,status\nada@example.com,Ada,E1,\n") }, 0},
			{"a name, a status", func() { s.mustImport(t, "email,name,employee_id,status\nada@example.com,Ada L.,E1,disabled\n") }, 0},
			{"an e-mail", func() { s.mustImport(t, "email,employee_id\nada@new.example,E1\n") }, 1},
			{"a directory", func() { s.directory(t, "okta", ada) }, 1},
			{"the same directory", func() { s.directory(t, "okta", ada) }, 0},
			{"another job", func() { ada.JobTitle = "Countess"; s.directory(t, "okta", ada) }, 0},
			{"a preview", func() {
				if _, err := s.PreviewPeople(t.Context(), Operator(), strings.NewReader("email\nbob@example.com\n")); err != nil {
					t.Fatal(err)
				}
			}, 0},
			{"another directory's e-mail", func() {
				s.directory(t, "ad", DirectoryPerson{ExternalID: "a", EmployeeIDs: []string{"E1"}, Emails: []string{"ada@ad.example"}})
			}, 1},
			{"that it is gone there", func() { s.directory(t, "ad") }, 1},
		} {
			calls = 0
			if test.do(); calls != test.want {
				t.Errorf("%s: called %d times, not %d", test.what, calls, test.want)
			}
		}
		s.PeopleChanged = func(context.Context, *db.Tx) error { return errors.New("no") }
		if _, err := s.ImportPeople(t.Context(), Operator(), strings.NewReader("email\nbob@example.com\n")); err == nil {
			t.Error("imported, though the call failed")
		}
		if len(s.people(t)) != 1 {
			t.Error("a person was added without the call")
		}
	})
}

// A directory that is read in many transactions, the last of which fails, is read
// to its end by the next run.
func TestADirectoryIsReadOnWhereItWasLeft(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		list := crowd(3*somePeople + 10)
		calls, broken := 0, true
		s.PeopleChanged = func(context.Context, *db.Tx) error {
			if calls++; broken && calls > 2 {
				return errors.New("the power went")
			}
			return nil
		}
		notes := 0
		read := func() (ImportResult, error) {
			return s.ReadDirectory(t.Context(), "okta", list, func(context.Context, *db.Tx, ImportResult) error {
				notes++
				return nil
			})
		}
		if _, err := read(); err == nil {
			t.Fatal("it didn't break")
		}
		count, err := s.CountDirectory(t.Context(), d, "okta")
		if err != nil || count != 2*somePeople {
			t.Fatal(count, err)
		}
		broken, calls = false, 0
		result, err := read()
		if err != nil || result != (ImportResult{Added: somePeople + 10, Unchanged: 2 * somePeople}) {
			t.Fatal(result, err)
		}
		if notes != 2 || calls != 2 {
			t.Errorf("noted %d times, and %d calls", notes, calls)
		}
	})
}

// Who was added since an import was planned isn't added by it again.
func TestPeopleWhoChangeMeanwhileArePlannedAnew(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name\nbob@example.com,Bob\n")
		meanwhile := []string{"email,name\nada@example.com,Ada\n", "email,department\nbob@example.com,Works\n"}
		err := s.planned(t.Context(), "okta", func(b *book) error {
			b.importDirectory([]DirectoryPerson{{ExternalID: "1", Emails: []string{"ada@example.com"}}, {ExternalID: "2", Emails: []string{"bob@example.com"}, JobTitle: "Builder"}})
			if len(meanwhile) > 0 {
				s.clock.Advance(time.Second)
				s.mustImport(t, meanwhile[0])
				meanwhile = meanwhile[1:]
			}
			return s.part(t.Context(), b, b.plan.steps, false, func(context.Context, *db.Tx) error { return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		got := s.people(t)
		if len(got) != 2 || got[0].Source != "okta" || got[1].Department != "Works" || got[1].JobTitle != "Builder" {
			t.Error(got)
		}
	})
}

// Who was made by hand is there for when a directory fails: it adds to them, and
// disables or removes nobody of them.
func TestADirectoryAddsToWhomAnAdministratorMade(t *testing.T) {
	s := newSite(t, dbtest.Open(t, db.SQLite))
	s.write(t, func(ctx context.Context, tx *db.Tx) error {
		keys := Keys{Emails: []string{"ada@example.com"}}.all("Ada")
		return insertPerson(ctx, tx, Person{ID: id.New(), Name: "Ada", Email: "ada@example.com", Kind: Human, Status: Enabled, Source: SourceManual, CreatedAt: s.clock.Now(), UpdatedAt: s.clock.Now()}, keys)
	})
	is := func(when, status, username string) {
		t.Helper()
		if got := s.people(t); len(got) != 1 || got[0].Status != status || got[0].Source != SourceManual || got[0].Username != username {
			t.Errorf("%s: %+v", when, got)
		}
	}
	directory := DirectoryPerson{ExternalID: "u1", Name: "Ada L.", Emails: []string{"ada@example.com"}, Usernames: []string{"lovelace"}, Status: Disabled}
	for range 2 {
		s.directory(t, "okta", directory)
		is("a directory disables her", Enabled, "lovelace")
	}
	if got := s.matched(t, Keys{Usernames: []string{"lovelace"}}); got != "Ada" {
		t.Errorf("her account there is %q's", got)
	}
	s.directory(t, "okta")
	is("a directory doesn't know her any more", Enabled, "lovelace")
	if got := s.matched(t, Keys{Usernames: []string{"lovelace"}}); got != "nobody <nil>" {
		t.Errorf("what was her account there is %q's", got)
	}
	if result := s.mustImport(t, "email,status,username\nada@example.com,disabled,ada\n"); result != (ImportResult{Changed: 1}) {
		t.Error(result)
	}
	is("a file disables her", Disabled, "ada")
	directory.Status = Enabled
	s.directory(t, "okta", directory)
	is("a directory enables her", Disabled, "ada")
}

func TestWhomADirectoryToldOfStayWithoutIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.mustImport(t, "email,name,employee_id\nada@example.com,Ada,E1\n")
		ada := DirectoryPerson{ExternalID: "u1", Name: "Ada", Emails: []string{"ada@example.com", "countess@example.com"}, Status: Enabled}
		s.directory(t, "okta", ada, DirectoryPerson{ExternalID: "u2", Name: "Bob", Usernames: []string{"bob"}})
		s.directory(t, "ad", DirectoryPerson{ExternalID: "a1", Emails: []string{"ada@example.com"}, Usernames: []string{"lovelace"}}, DirectoryPerson{ExternalID: "a2", Name: "Eve"})
		for range 2 {
			if err := s.LeaveDirectory(t.Context(), "okta"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.LeaveDirectory(t.Context(), "ad"); err != nil {
			t.Fatal(err)
		}
		for _, person := range s.people(t) {
			if person.Source != SourceCSV || person.ExternalID != "" || person.Status != Enabled {
				t.Errorf("%+v", person)
			}
		}
		for _, keys := range []Keys{{Emails: []string{"countess@example.com"}}, {Usernames: []string{"lovelace"}}, {EmployeeIDs: []string{"E1"}}} {
			if got := s.matched(t, keys); got != "Ada" {
				t.Errorf("%v is %s", keys, got)
			}
		}
		// A file has the say now, and so has the next directory.
		s.mustImport(t, "username,status\nbob,disabled\n")
		if got := s.people(t)[1]; got.Name != "Bob" || got.Status != Disabled {
			t.Error(got)
		}
		if result := s.directory(t, "entra", ada); result != (ImportResult{Changed: 1}) {
			t.Error(result)
		}
	})
}

// The longest that others wait while 100,000 people are written.
func BenchmarkManyPeople(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			var longest time.Duration
			for b.Loop() {
				d := dbtest.Open(b, engine)
				d.Observe(func(held time.Duration) { longest = max(longest, held) })
				s := newSite(b, d)
				start := time.Now()
				s.directory(b, "okta", crowd(100_000)...)
				b.ReportMetric(float64(longest.Milliseconds()), "ms/longest-directory")
				b.ReportMetric(time.Since(start).Seconds(), "s/directory")
				var text strings.Builder
				text.WriteString("username,email,employee_id,name,department\n")
				for n := range 100_000 {
					fmt.Fprintf(&text, "c%d,c%d@example.org,c%d,c%d,x\n", n, n, n, n)
				}
				longest, start = 0, time.Now()
				s.mustImport(b, text.String())
				b.ReportMetric(float64(longest.Milliseconds()), "ms/longest-file")
				b.ReportMetric(time.Since(start).Seconds(), "s/file")
			}
		})
	}
}
