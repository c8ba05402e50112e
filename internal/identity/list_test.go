package identity

import (
	"slices"
	"strings"
	"testing"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
)

func TestTheDirectoryIsSearchedFilteredAndPaged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newSite(t, d)
		_, err := r.ImportPeople(t.Context(), Operator(), strings.NewReader(
			"name,email,username,employee_id,department,status\nAnn Lee,ann@x.test,al,1,Sales,enabled\nBob Ray,bob@x.test,br,2,Sales,disabled\nCy Oh,cy@x.test,co,3,Ops,enabled\nD_n,dn@x.test,dn,4,Ops,enabled\n"))
		if err != nil {
			t.Fatal(err)
		}
		list := func(q PersonQuery) (names []string) {
			q.Limit = 2
			for {
				page, more, err := r.Directory(t.Context(), Operator(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, person := range page {
					names = append(names, person.Name)
				}
				if !more {
					return names
				}
				q.AfterName, q.AfterID = page[len(page)-1].Name, page[len(page)-1].ID
			}
		}
		for _, c := range []struct {
			query PersonQuery
			want  []string
		}{
			{PersonQuery{}, []string{"Ann Lee", "Bob Ray", "Cy Oh", "D_n"}},
			{PersonQuery{Search: " LEE"}, []string{"Ann Lee"}},
			{PersonQuery{Search: "bob@"}, []string{"Bob Ray"}},
			{PersonQuery{Search: "_"}, []string{"D_n"}},
			{PersonQuery{Department: "Ops"}, []string{"Cy Oh", "D_n"}},
			{PersonQuery{Department: "Sales", PersonFilter: PersonFilter{Status: Disabled}}, []string{"Bob Ray"}},
			{PersonQuery{Search: "nobody"}, nil},
		} {
			if got := list(c.query); !slices.Equal(got, c.want) {
				t.Errorf("%+v: %q", c.query, got)
			}
		}
		facets, err := r.Facets(t.Context(), Operator())
		if err != nil || facets.People != 4 || !slices.Equal(facets.Departments, []string{"Ops", "Sales"}) || !slices.Equal(facets.Sources, []string{SourceCSV}) {
			t.Errorf("%+v, %v", facets, err)
		}
		if _, _, err := r.Directory(t.Context(), PersonActor("p", "P", User), PersonQuery{}); !fault.Is(err, fault.Forbidden) {
			t.Errorf("everybody reads the directory: %v", err)
		}
		if _, err := r.Facets(t.Context(), PersonActor("p", "P", User)); !fault.Is(err, fault.Forbidden) {
			t.Errorf("everybody counts the directory: %v", err)
		}
	})
}
