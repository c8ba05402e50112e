package view

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
	"airlock/internal/integration/catalog"
)

var now = time.Date(2026, 11, 23, 9, 40, 12, 0, time.UTC)

func TestTimesAndDurationsAreWords(t *testing.T) {
	for got, want := range map[string]string{
		Relative(now, now):                            "now",
		Relative(now, now.Add(-3*time.Second)):        "3 s ago",
		Relative(now, now.Add(-4*time.Minute)):        "4 min ago",
		Relative(now, now.Add(35*time.Minute)):        "in 35 min",
		Relative(now, now.Add(-12*time.Hour)):         "12 h ago",
		Relative(now, now.AddDate(0, 0, -1)):          "1 day ago",
		Relative(now, now.AddDate(0, 0, 7)):           "in 7 days",
		Relative(now, now.AddDate(0, -3, 0)):          "23 Aug",
		Relative(now, now.AddDate(-1, 0, 0)):          "23 Nov 2025",
		Relative(now, time.Time{}):                    "Never",
		Moment(now, now):                              "09:40 today",
		Moment(now, now.AddDate(0, 0, -1)):            "22 Nov, 09:40",
		Duration(4 * time.Hour):                       "4 hours",
		Duration(time.Hour):                           "1 hour",
		Duration(36 * time.Hour):                      "1 day 12 hours",
		Duration(30 * 24 * time.Hour):                 "30 days",
		Duration(0):                                   "No limit",
		Took(350 * time.Millisecond):                  "350 ms",
		Took(2300 * time.Millisecond):                 "2.3 s",
		Took(41 * time.Second):                        "41 s",
		Took(72 * time.Second):                        "1 min 12 s",
		Took(125 * time.Minute):                       "2 h 5 min",
		Took(72 * time.Hour):                          "3 days",
		Count(1, "grant"):                             "1 grant",
		Count(4210, "grant"):                          "4,210 grants",
		Count(0, "person", "people"):                  "0 people",
		Number(-1234567):                              "−1,234,567",
		initials("Ines Marchetti"):                    "IM",
		initials("  åsa "):                            "Å",
		initials("🦊"):                                 "?",
		Sentence("the password is wrong"):             "The password is wrong.",
		Sentence("base-url is needed (Base URL)"):     "base-url is needed (Base URL).",
		Sentence("Airflow refused the sign-in, why?"): "Airflow refused the sign-in, why?",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestErrorsComeToTheirFields(t *testing.T) {
	err := errors.Join(
		fault.New(fault.Invalid, "this is not an address").At("url"),
		fmt.Errorf("set: %w", errors.Join(fault.New(fault.Invalid, "a password is needed").At("pass"), fault.New(fault.Invalid, "it is too short").At("pass"))),
		fault.New(fault.Conflict, "somebody else changed the settings"),
		errors.New("dial tcp: secret"),
	)
	want := Errors{
		"url": "This is not an address.", "pass": "A password is needed. It is too short.",
		"": "Somebody else changed the settings. Something went wrong inside; the server's log says what.",
	}
	got := ErrorsOf(err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type row struct{ name, count string }

func TestNoCellOfAnExportIsAFormula(t *testing.T) {
	table := Table[row]{Columns: []Column[row]{
		{Title: "Name", Text: func(r row) string { return r.name }},
		{Title: "Count", Number: true, Text: func(r row) string { return r.count }},
		{Title: "Action"},
	}}
	var out strings.Builder
	err := table.Export(func(yield func(row) error) error {
		for _, r := range []row{{"=HYPERLINK(1)", "-5"}, {"@x", "1"}, {"+1", ""}, {"a,\"b", ""}, {"\tx", ""}} {
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	})(&out)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "Name,Count\n'=HYPERLINK(1),-5\n'@x,1\n'+1,\n\"a,\"\"b\",\n'\tx,\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestNamesOfOthersAreNeverMarkup(t *testing.T) {
	evil := `"><script>alert(1)</script>`
	table := Table[row]{
		ID: "t", Name: evil, Rows: []row{{evil, evil}}, Key: func(r row) string { return r.name }, Search: evil,
		View:    ParseView(url.Values{"q": {evil}}),
		Actions: []Action{{Verb: evil, To: "/x"}},
		Columns: []Column[row]{{ID: evil, Title: evil, Main: true, Sorts: true, Text: func(r row) string { return r.name }}},
	}
	page := &url.URL{Path: "/x", RawQuery: url.Values{"q": {evil}, "b": {evil}}.Encode()}
	var out strings.Builder
	if err := table.Draw().Render(WithFrame(context.Background(), Frame{Now: now, URL: page}), &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "<script") {
		t.Error(out.String())
	}
	out.Reset()
	if err := Link("javascript:alert(1)", "x").Render(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "javascript:") {
		t.Error(out.String())
	}
}

func TestAReaderChoosesColumns(t *testing.T) {
	table := Table[row]{ID: "t", Columns: []Column[row]{{ID: "a", Main: true}, {ID: "b"}, {ID: "c", Extra: true}, {ID: "d", End: true}}}
	for chosen, want := range map[string]string{"": "a b d", "c": "a c d", "b c": "a b c d", "nonsense": "a d"} {
		sheet := table.draw(Frame{URL: &url.URL{}, Choices: func(string) Choice { return Choice{Columns: strings.Fields(chosen)} }})
		var ids []string
		for _, h := range sheet.headings {
			ids = append(ids, h.id)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("who chose %q sees %s, not %s", chosen, got, want)
		}
	}
}

func TestChartsHaveRoundNumbers(t *testing.T) {
	for most, want := range map[float64][2]float64{0: {1, 1}, 1: {.2, 5}, 3: {1, 3}, 7: {2, 4}, 48: {10, 5}, 176: {50, 4}, 1_000_000: {200_000, 5}} {
		step, count := ticks(most)
		if step != want[0] || float64(count) != want[1] {
			t.Errorf("%v: %d of %v", most, count, step)
		}
		if step*float64(count) < most {
			t.Errorf("%v doesn't fit", most)
		}
	}
}

func TestAChartWithoutNumbersIsDrawn(t *testing.T) {
	for name, c := range map[string]Chart{
		"none": {}, "one": {Series: []Series{{Points: []Point{{now, 3}}}}}, "empty": {Series: []Series{{Name: "x"}}},
	} {
		var out strings.Builder
		if err := c.Draw().Render(context.Background(), &out); err != nil || strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}

func settingsEntry() catalog.Entry {
	return catalog.Entry{
		Groups: []catalog.Group{{Name: "password", Default: true}, {Name: "token"}},
		Fields: []catalog.Field{
			{Name: "url", Kind: catalog.Text},
			{Name: "pass", Kind: catalog.Text, Secret: true, Groups: []string{"password"}},
			{Name: "token", Kind: catalog.Text, Secret: true, Groups: []string{"token"}},
			{Name: "off", Kind: catalog.Bool, Default: "true"},
			{Name: "list", Kind: catalog.List},
			{Name: "map", Kind: catalog.Map},
			{Name: "ca", Kind: catalog.File},
		},
	}
}

func TestSettingsAreReadFromTheirForm(t *testing.T) {
	form := url.Values{
		"auth-method": {"password"}, "url": {" https://a "}, "pass": {" secret "}, "token": {"of the other way"},
		"list": {"a\r\n b,c \r\n\r\n"}, "map": {"k=v\nx = y"},
	}
	set, unset, err := ReadSettings(settingsEntry(), form, func(string) ([]byte, error) { return []byte{0xff}, nil })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"auth-method": "password", "url": "https://a", "pass": " secret ", "off": "false", "list": `a,"b,c"`, "map": `{"k":"v","x":"y"}`,
		"ca": "data:application/octet-stream;base64,/w==",
	}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"token"}, unset); diff != "" {
		t.Error(diff)
	}
}

func TestASecretThatIsLeftEmptyStays(t *testing.T) {
	none := func(string) ([]byte, error) { return nil, nil }
	_, unset, err := ReadSettings(settingsEntry(), url.Values{"auth-method": {"password"}, "pass": {""}, "url": {""}}, none)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(unset, " "); got != "url token list map" {
		t.Errorf("unset: %s", got)
	}
	_, unset, err = ReadSettings(settingsEntry(), url.Values{"auth-method": {"password"}, "pass-remove": {"true"}, "ca-remove": {"true"}}, none)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(unset, " "); got != "url pass token list map ca" {
		t.Errorf("unset: %s", got)
	}
}

func TestWhatIsSetIsShownAsItIsTypedAndSecretsAreNot(t *testing.T) {
	s := Settings{
		Entry:  settingsEntry(),
		Values: map[string]string{"list": `a,"b,c"`, "map": `{"k":"v"}`, "pass": "very secret"},
		Kept:   func(name string) bool { return name == "pass" },
	}
	var out strings.Builder
	if err := s.Fields().Render(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a\nb,c</textarea>", "k=v</textarea>", "Unchanged"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "very secret") {
		t.Error("a secret is shown")
	}
}
