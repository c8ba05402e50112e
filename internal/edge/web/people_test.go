package web_test

import (
	"bytes"
	"crypto/tls"
	"encoding/csv"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"airlock/internal/edge/web"
	"airlock/internal/identity"
	"airlock/internal/inventory"
)

// ask makes a request as somebody; a form is posted.
func (c *company) ask(token, path string, form url.Values, headers ...string) answer {
	c.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
		headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
	}
	return c.send(token, method, path, body, headers...)
}

func (c *company) send(token, method, path string, body io.Reader, headers ...string) answer {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	check(c.t, err)
	for n := 0; n+1 < len(headers); n += 2 {
		request.Header.Set(headers[n], headers[n+1])
	}
	request.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: token})
	client := &http.Client{
		// The test's own certificate has no other proof.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.t.Cleanup(client.CloseIdleConnections)
	response, err := client.Do(request)
	check(c.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(c.t, err)
	return answer{response, string(text)}
}

// rows is a page's CSV, without its heads.
func (c *company) rows(token, path string) [][]string {
	c.t.Helper()
	got := c.ask(token, path, nil, "Accept", "text/csv")
	if got.StatusCode != http.StatusOK || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/csv") {
		c.t.Fatalf("%s: %d %s %s", path, got.StatusCode, got.Header.Get("Content-Type"), got.text)
	}
	list, err := csv.NewReader(strings.NewReader(got.text)).ReadAll()
	check(c.t, err)
	return list[1:]
}

// firsts are the first fields of rows.
func firsts(rows [][]string) string {
	var list []string
	for _, row := range rows {
		list = append(list, row[0])
	}
	return strings.Join(list, ", ")
}

func TestTablesAreFilteredInTheAddressAndExportedFromIt(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	prod := "/apps/" + c.prod.ID
	for path, want := range map[string]string{
		"/apps": "Airflow (prod), Airflow (staging)", "/apps?q=PROD": "Airflow (prod)", "/apps/unmanaged": "Workday",
		prod + "/entitlements?risk=critical":                         "Admin",
		prod + "/entitlements?requestable=yes":                       "Op, payroll-editor, Viewer",
		prod + "/entitlements?sort=-holders&risk=medium":             "User, ml-trainer, Op, payroll-editor, Admin, gdpr-operator, release-bot",
		prod + "/entitlements?q=payroll-e":                           "payroll-editor",
		prod + "/entitlements?type=prod/resource&q=passwords":        "can_edit on Passwords",
		prod + "/accounts?match=unmatched":                           "Contractor 7, J. Doe, Payroll service, Release bot",
		prod + "/accounts?match=orphaned":                            "Carla Rossi, Marcus Bell",
		prod + "/accounts?kind=service&status=enabled":               "Payroll service, Release bot",
		prod + "/accounts?q=hvogel":                                  "Hannah Vogel",
		prod + "/resources?type=prod/role&q=view":                    "Viewer",
		prod + "/grants?holder=prod/user&q=hannah":                   "Hannah Vogel, Hannah Vogel",
		"/entitlements/prod%2Frole%2Fpayroll-editor%2Fassigned":      "Hannah Vogel, Marcus Bell, Payroll service, Sofia Almeida",
		"/accounts/prod%2Fuser%2Fhvogel":                             "finance-reader, payroll-editor",
		"/accounts/prod%2Fuser%2Ftlindqvist/past":                    "payroll-editor",
		"/entitlements/prod%2Frole%2Fpayroll-editor%2Fassigned/past": "Leila Haddad, Tomas Lindqvist",
		"/people?q=okafor":                                           "Daniel Okafor", "/people?status=deleted": "Marcus Bell", "/people?department=Legal": "Ruth Abrams",
		"/people?manager=" + c.people["hannah.vogel"]: "Daniel Okafor, Marcus Bell, Sofia Almeida",
		"/people/" + c.people["daniel.okafor"]:        "User, finance-reader",
		"/resources/prod%2Fdag%2Fgdpr_erasure":        "can_delete on gdpr_erasure, can_edit on gdpr_erasure, can_read on gdpr_erasure, run.can_create on gdpr_erasure, run.can_read on gdpr_erasure",
	} {
		if got := firsts(c.rows(token, path)); got != want {
			t.Errorf("%s: %s\nnot %s", path, got, want)
		}
	}
	if rows := c.rows(token, "/entitlements/prod%2Fdag%2Fpayroll_close%2Fcan_edit?by=inherited&q=hannah"); len(rows) != 1 || rows[0][1] != "payroll-editor → can_edit on payroll_close" {
		t.Errorf("the path is missing: %q", rows)
	}
}

func TestListsGoOnPageByPage(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	seen, path := 0, "/apps/"+c.prod.ID+"/resources"
	for pages := 0; path != ""; pages++ {
		if pages > 3 {
			t.Fatal("the list has no end")
		}
		got := c.ask(token, path, nil)
		seen += strings.Count(got.text, "<tr id=\"resources-")
		_, rest, more := strings.Cut(got.text, `rel="next"`)
		_ = rest
		path = ""
		if more {
			before, _, _ := strings.Cut(got.text, `" rel="next"`)
			path = strings.ReplaceAll(before[strings.LastIndex(before, `href="`)+len(`href="`):], "&amp;", "&")
		}
	}
	held, err := c.Inventory.Holdings(t.Context(), identity.Operator(), c.prod.ID)
	check(t, err)
	if int64(seen) != held.Resources {
		t.Errorf("%d of %d resources were shown", seen, held.Resources)
	}
	if got := c.ask(token, "/apps/"+c.prod.ID+"/resources?after=%20nonsense", nil); got.StatusCode != http.StatusOK {
		t.Errorf("a cursor that is none: %d", got.StatusCode)
	}
}

func TestWhatIsNotThereAndWhatOneMayNotSee(t *testing.T) {
	c := newCompany(t)
	_, admin := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	for _, path := range []string{"/apps/none", "/apps/none/entitlements", "/entitlements/none", "/accounts/none", "/people/none", "/resources/none", "/apps/none/remove"} {
		if got := c.ask(admin, path, nil); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	_, user := c.as("plain@airlock.test", 0)
	for name, path := range c.pages() {
		if got := c.ask(user, path, nil); got.StatusCode != http.StatusForbidden && name != "app-new" && name != "people-import" {
			t.Errorf("a plain user sees %s: %d", path, got.StatusCode)
		}
	}
	_, auditor := c.as("auditor@airlock.test", identity.Auditor)
	for path, form := range map[string]url.Values{
		"/apps/new":                                        {"name": {"Mine"}},
		"/apps/" + c.payroll.ID + "/settings":              {"name": {"Mine"}, "matching": {"narrow"}},
		"/apps/" + c.payroll.ID + "/remove":                {},
		"/apps/" + c.prod.ID + "/accounts/kind?kind=human": {"id": {"prod/user/hvogel"}},
		"/entitlements/prod%2Frole%2FOp%2Fassigned":        {"risk": {"low"}},
		"/accounts/prod%2Fuser%2Fsvc-payroll/person":       {"person": {c.people["daniel.okafor"]}},
		"/accounts/prod%2Fuser%2Fsvc-payroll/free":         {},
		"/accounts/prod%2Fuser%2Fsvc-payroll/kind":         {"kind": {"human"}},
		"/people/import":                                   {"csv": {"email\na@b.c\n"}, "confirm": {"true"}},
	} {
		if got := c.ask(auditor, path, form); got.StatusCode != http.StatusForbidden {
			t.Errorf("an auditor posts to %s: %d", path, got.StatusCode)
		}
	}
	if got := c.ask(auditor, "/apps/"+c.prod.ID+"/accounts", nil); strings.Contains(got.text, "data-bulk") || got.StatusCode != http.StatusOK {
		t.Errorf("an auditor is offered what they may not do: %d", got.StatusCode)
	}
}

func TestAnAppIsAddedChangedAndRemoved(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	got := c.ask(token, "/apps/new", url.Values{"name": {"Wiki"}, "owners": {"nobody@kestrelfreight.com"}})
	if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.text, `id="f-owners-error"`) || !strings.Contains(got.text, `value="Wiki"`) {
		t.Errorf("an owner who isn't known: %d", got.StatusCode)
	}
	got = c.ask(token, "/apps/new", url.Values{"name": {"Wiki"}, "owners": {"hannah.vogel@kestrelfreight.com\nchen.wei@kestrelfreight.com"}})
	to := got.Header.Get("Location")
	if got.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/apps/") {
		t.Fatalf("%d %s", got.StatusCode, got.text)
	}
	if got := c.ask(token, to, nil); !strings.Contains(got.text, "Chen Wei and Hannah Vogel") && !strings.Contains(got.text, "Hannah Vogel and Chen Wei") {
		t.Error("the owners aren't shown")
	}
	got = c.ask(token, to+"/settings", url.Values{"name": {"workday"}, "matching": {"broad"}})
	if got.StatusCode != http.StatusConflict || !strings.Contains(got.text, `id="f-name-error"`) {
		t.Errorf("a name that is taken: %d", got.StatusCode)
	}
	got = c.ask(token, to+"/settings", url.Values{"name": {"Handbook"}, "matching": {"broad"}, "description": {"Of the company"}})
	if got.StatusCode != http.StatusSeeOther {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	got = c.ask(token, to+"/remove", nil)
	if !strings.Contains(got.text, "Remove Handbook?") {
		t.Error("the question is missing")
	}
	if got = c.ask(token, to+"/remove", url.Values{}); got.StatusCode != http.StatusSeeOther {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got = c.ask(token, to, nil); got.StatusCode != http.StatusNotFound {
		t.Errorf("it is still there: %d", got.StatusCode)
	}
}

func TestTheKindOfAccountsIsSetForThoseThatAreChosenOrAllThatMatch(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	path := "/apps/" + c.prod.ID + "/accounts"
	got := c.ask(token, path+"/kind?kind=system", url.Values{"id": {"prod/user/jdoe"}, "query": {"q=doe"}})
	if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != path+"?q=doe" {
		t.Errorf("%d to %s: %s", got.StatusCode, got.Header.Get("Location"), got.text)
	}
	got = c.ask(token, path+"/kind?kind=service", url.Values{"all": {"true"}, "query": {"match=unmatched"}, "id": {"prod/user/hvogel"}})
	if got.StatusCode != http.StatusSeeOther {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := firsts(c.rows(token, path+"?kind=service")); got != "Contractor 7, J. Doe, Payroll service, Release bot" {
		t.Errorf("these are services: %s", got)
	}
	if got := c.ask(token, path+"/kind?kind=alien", url.Values{"id": {"prod/user/jdoe"}}); got.StatusCode != http.StatusBadRequest {
		t.Errorf("an alien: %d", got.StatusCode)
	}
}

func TestRulesOfAnEntitlementAreSetByAForm(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	path := "/entitlements/prod%2Frole%2FUser%2Fassigned"
	got := c.ask(token, path, url.Values{"owner": {"who?"}, "longest": {"8h"}})
	if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.text, `id="f-owner-error"`) {
		t.Errorf("an owner who isn't known: %d", got.StatusCode)
	}
	got = c.ask(token, path, url.Values{"longest": {"soon"}})
	if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.text, `id="f-longest-error"`) {
		t.Errorf("a duration that is none: %d", got.StatusCode)
	}
	got = c.ask(token, path, url.Values{"owner": {"priya.raman@kestrelfreight.com"}, "risk": {"medium"}, "requestable": {"true"}, "longest": {"30d"}})
	if got.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %s", got.StatusCode, got.text)
	}
	e, err := c.Inventory.EntitlementByID(t.Context(), c.DB, "prod/role/User/assigned")
	check(t, err)
	if e.OwnerID != c.people["priya.raman"] || e.Risk != inventory.Medium || !e.Requestable || e.Longest.Hours() != 720 {
		t.Errorf("%+v", e.Rules)
	}
}

func TestAFileOfPeopleIsLookedAtBeforeItIsImported(t *testing.T) {
	c := newCompany(t)
	_, token := c.as("ines@kestrelfreight.com", identity.SuperAdmin)
	upload := func(text string) answer {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("file", "people.csv")
		check(t, err)
		_, err = io.WriteString(part, text)
		check(t, err)
		check(t, form.Close())
		return c.send(token, http.MethodPost, "/people/import", &body, "Content-Type", form.FormDataContentType())
	}
	got := upload("email,name\nnew@kestrelfreight.com,New One\nwrong,Bad\nalso wrong,Bad\n")
	if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.text, "line 3: ") || !strings.Contains(got.text, "line 4: ") {
		t.Errorf("wrong lines aren't named: %d", got.StatusCode)
	}
	file := "email,name\nnew@kestrelfreight.com,New One\nchen.wei@kestrelfreight.com,Chen Wei\n"
	got = upload(file)
	if got.StatusCode != http.StatusOK || !strings.Contains(got.text, "Import 1 person") {
		t.Errorf("no preview: %d", got.StatusCode)
	}
	if rows := c.rows(token, "/people?q=new@"); len(rows) != 0 {
		t.Error("looking at a file imported it")
	}
	got = c.ask(token, "/people/import", url.Values{"csv": {file}, "confirm": {"true"}})
	if got.StatusCode != http.StatusSeeOther {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := firsts(c.rows(token, "/people?q=new@")); got != "New One" {
		t.Errorf("imported: %s", got)
	}
	if got := c.ask(token, "/people/import", url.Values{}); got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.text, `id="f-file-error"`) {
		t.Errorf("without a file: %d", got.StatusCode)
	}
}
