package catalog

import (
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/field"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"airlock/internal/base/fault"
)

// entryOf is the entry of a program with a form.
func entryOf(t testing.TB, form field.Configuration) Entry {
	t.Helper()
	text, err := form.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Name: "x", DisplayName: "x"}
	if err := e.read(text); err != nil {
		t.Fatal(err)
	}
	return e
}

var (
	url      = field.StringField("base-url", field.WithDisplayName("URL"), field.WithRequired(true), field.WithString(func(r *field.StringRuler) { r.IsURI() }))
	user     = field.StringField("user", field.WithPlaceholder("jane"))
	password = field.StringField("password", field.WithIsSecret(true), field.WithString(func(r *field.StringRuler) { r.MinLen(8) }))
	token    = field.StringField("token", field.WithIsSecret(true))
	mood     = field.SelectField("mood", []string{"calm", "busy"}, field.WithDefaultValue("calm"))
	deep     = field.BoolField("deep", field.WithDefaultValue(true))
	pages    = field.IntField("pages", field.WithDefaultValue(10), field.WithInt(func(r *field.IntRuler) { r.Gte(1).Lte(50) }))
	zones    = field.StringSliceField("zones", field.WithSuggestedValue([]string{"a", "b,c"}))
	labels   = field.StringMapField("labels", field.WithDefaultValue(map[string]any{"a": "b", "n": 1}))
	cert     = field.FileUploadField("ca.cert", []string{".pem", ".crt"})
	oauth    = field.Oauth2Field("sign-in")
	pin      = field.RandomField("pin")
)

func plain(t testing.TB) Entry {
	t.Helper()
	return entryOf(t, field.NewConfiguration(
		[]field.SchemaField{url, user, password, token, mood, deep, pages, zones, labels, cert, oauth, pin},
		field.WithConnectorDisplayName("X"),
		field.WithConstraints(
			field.FieldsMutuallyExclusive(password, token),
			field.FieldsAtLeastOneUsed(password, token),
			field.FieldsDependentOn([]field.SchemaField{password}, []field.SchemaField{user}),
			field.FieldsRequiredTogether(oauth, pin),
		),
	))
}

func TestFieldsOfEveryKind(t *testing.T) {
	t.Parallel()
	want := []Field{
		{Name: "base-url", DisplayName: "URL", Kind: Text, Required: true},
		{Name: "user", DisplayName: "user", Placeholder: "jane", Kind: Text},
		{Name: "password", DisplayName: "password", Kind: Text, Secret: true},
		{Name: "token", DisplayName: "token", Kind: Text, Secret: true},
		{Name: "mood", DisplayName: "mood", Kind: Select, Default: "calm", Options: []Option{{"calm", "calm"}, {"busy", "busy"}}},
		{Name: "deep", DisplayName: "deep", Kind: Bool, Default: "true"},
		{Name: "pages", DisplayName: "pages", Kind: Int, Default: "10"},
		{Name: "zones", DisplayName: "zones", Kind: List, Suggested: `a,"b,c"`},
		{Name: "labels", DisplayName: "labels", Kind: Map, Default: `{"a":"b","n":"1"}`},
		{Name: "ca.cert", DisplayName: "ca.cert", Kind: File, Extensions: []string{".pem", ".crt"}},
		{Name: "sign-in", DisplayName: "sign-in", Kind: OAuth, Secret: true},
		{Name: "pin", DisplayName: "pin", Kind: Random},
	}
	e := plain(t)
	if diff := cmp.Diff(want, e.Fields, cmpopts.IgnoreUnexported(Field{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"password", "token", "sign-in"}, e.Secrets()); diff != "" {
		t.Error(diff)
	}
}

// problems are the errors of a check, by field.
func problems(t *testing.T, err error) map[string]string {
	t.Helper()
	found := map[string]string{}
	if err == nil {
		return found
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	for _, one := range joined.Unwrap() {
		var f *fault.Error
		if !errors.As(one, &f) || f.Code != fault.Invalid {
			t.Errorf("%v isn't Invalid", one)
			continue
		}
		found[f.Field] += f.Message
	}
	return found
}

func TestCheckTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	good := map[string]string{"base-url": "https://x.example", "user": "jane", "password": "long enough"}
	big := base64.StdEncoding.EncodeToString(make([]byte, maxFile+1))
	tests := map[string]struct {
		change map[string]string
		want   map[string]string
	}{
		"good": {nil, map[string]string{}},
		"all kinds": {map[string]string{
			"mood": "busy", "deep": "FALSE", "pages": "50", "zones": `a,"b,c"`, "labels": "k=v,k2=v=2", "ca.cert": "-----BEGIN",
			"sign-in": "x", "pin": "1",
		}, map[string]string{}},
		"nothing at all": {map[string]string{"base-url": "", "user": "", "password": ""}, map[string]string{
			"base-url": "base-url is needed (URL)", "password": "one of these is needed: password, token",
		}},
		"rules": {map[string]string{"base-url": "nowhere", "password": "short", "mood": "sad", "pages": "51"}, map[string]string{
			"base-url": "base-url: value must be a valid URL", "password": "password: value must be at least 8 characters long",
			"mood": "mood: value must be one of [calm busy]", "pages": "pages: value must be less than or equal to 50",
		}},
		"forms": {map[string]string{"deep": "maybe", "pages": "many", "zones": "\"a", "labels": "k", "user": "a\x00b"}, map[string]string{
			"deep": "deep must be true or false", "pages": "pages must be a whole number",
			"zones":  "zones must be one line of values with commas between, those with a comma in double quotes",
			"labels": "labels must be key=value with commas between, or a JSON object",
			"user":   "user has a zero byte in it", "password": "password needs user as well",
		}},
		"a map the SDK can't take": {map[string]string{"labels": `{"a":"b,c"}`}, map[string]string{
			"labels": "labels can't have a comma, a quote or a line break in a key or value, nor an equals sign in a key",
		}},
		"a map of numbers": {map[string]string{"labels": `{"a":1}`}, map[string]string{"labels": "labels must be a JSON object whose values are texts"}},
		"too long": {map[string]string{"user": strings.Repeat("x", maxVariable+1), "ca.cert": "data:;base64," + big}, map[string]string{
			"user": "user is longer than 127 KiB", "ca.cert": "ca.cert is larger than 2 MB", "password": "password needs user as well",
		}},
		"a broken file": {map[string]string{"ca.cert": "data:x,y"}, map[string]string{
			"ca.cert": "ca.cert must be a file's content, or data:…;base64,… with its content in base64",
		}},
		"both ways in":     {map[string]string{"token": "t"}, map[string]string{"password": "only one of password, token can be set, not password and token"}},
		"without its user": {map[string]string{"user": ""}, map[string]string{"password": "password needs user as well"}},
		"half of a pair":   {map[string]string{"pin": "1"}, map[string]string{"sign-in": "sign-in, pin go together; missing: sign-in"}},
		"unknown": {map[string]string{"colour": "red", "client-id": "x", "auth-method": "y"}, map[string]string{
			"colour":    "there is no setting colour; baton-x has base-url, user, password, token, mood, deep, pages, zones, labels, ca.cert, sign-in, pin",
			"client-id": "client-id isn't a setting: Airlock sets it where it is needed", "auth-method": "auth-method isn't a setting: Airlock sets it where it is needed",
		}},
	}
	e := plain(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := maps.Clone(good)
			maps.Copy(settings, test.change)
			err := e.Check(settings)
			if diff := cmp.Diff(test.want, problems(t, err)); diff != "" {
				t.Error(diff)
			}
			for _, secret := range []string{"short", "long enough"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%q is in %q", secret, err)
				}
			}
		})
	}
}

func TestOfGroupsOneIsChosen(t *testing.T) {
	t.Parallel()
	byPassword, byToken := field.StringField("password", field.WithRequired(true), field.WithIsSecret(true)), field.StringField("token", field.WithRequired(true))
	host := field.StringField("host", field.WithRequired(true))
	e := entryOf(t, field.NewConfiguration([]field.SchemaField{host, byPassword, byToken, deep}, field.WithFieldGroups([]field.SchemaFieldGroup{
		{Name: "by-password", DisplayName: "Password", Fields: []field.SchemaField{host, byPassword}},
		{Name: "by-token", Fields: []field.SchemaField{host, byToken}},
	})))
	if diff := cmp.Diff([]Group{
		{Name: "by-password", DisplayName: "Password", Fields: []string{"host", "password"}, Default: true},
		{Name: "by-token", DisplayName: "by-token", Fields: []string{"host", "token"}},
	}, e.Groups); diff != "" {
		t.Error(diff)
	}
	tests := []struct{ settings, want map[string]string }{
		{map[string]string{"host": "h", "password": "p", "deep": "false"}, map[string]string{}},
		{map[string]string{"host": "h", "token": "t", GroupSetting: "by-token"}, map[string]string{}},
		{map[string]string{"token": "t"}, map[string]string{
			"host": "host is needed (host)", "password": "password is needed (password)", "token": "token doesn't go with the auth-method by-password, only with by-token",
		}},
		{map[string]string{"host": "h", "password": "p", GroupSetting: "by-luck"}, map[string]string{
			GroupSetting: `there is no auth-method "by-luck"; there are by-password, by-token`,
		}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, problems(t, e.Check(test.settings))); diff != "" {
			t.Errorf("%v: %s", test.settings, diff)
		}
	}
	environment, _ := e.Environment(map[string]string{"host": "h", "token": "t", "password": "left from before", GroupSetting: "by-token"}, "/room")
	if diff := cmp.Diff([]string{"BATON_AUTH_METHOD=by-token", "BATON_HOST=h", "BATON_TOKEN=t"}, environment); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	environment, files := plain(t).Environment(map[string]string{
		"base-url": "https://x.example", "password": "p\nq", "deep": "F", "pages": "007", "zones": `a,"b,c"`, "labels": "b=2,a=1",
		"ca.cert": "data:application/x-pem-file;base64,AP8=", "user": "", "mood": "busy",
	}, "/room")
	want := []string{
		"BATON_BASE_URL=https://x.example", "BATON_PASSWORD=p\nq", "BATON_MOOD=busy", "BATON_DEEP=false", "BATON_PAGES=7",
		`BATON_ZONES=a,"b,c"`, `BATON_LABELS={"a":"1","b":"2"}`, "BATON_CA.CERT=/room/ca.cert.pem",
	}
	if diff := cmp.Diff(want, environment); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string][]byte{"ca.cert.pem": {0, 0xff}}, files); diff != "" {
		t.Error(diff)
	}
}

func TestListsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	list := Field{Kind: List}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.StringMatching(`[^\x00\r]*`), 1, 5).Draw(t, "list")
		if len(want) == 1 && want[0] == "" {
			return // the same as a list that isn't set
		}
		got, err := list.parse(listText(want))
		if err != nil {
			t.Fatalf("%q: %v", listText(want), err)
		}
		if diff := cmp.Diff(want, got.list); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Whatever a program says of itself, it is read, checked and put into words
// without a panic.
func FuzzForm(f *testing.F) {
	form := field.NewConfiguration([]field.SchemaField{url, password, mood, deep, pages, zones, labels, cert})
	text, err := form.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text), "x")
	f.Add(`{"constraints":[{},{"kind":"CONSTRAINT_KIND_AT_LEAST_ONE"}],"fieldGroups":[{}],"fields":[{"name":"a"},{"name":"a","resourceIdField":{}}]}`, "1")
	f.Add(`{"fields":[{"name":"a","stringField":{"rules":{"pattern":"("}}}]}`, "{}")
	f.Fuzz(func(t *testing.T, form, value string) {
		e := Entry{Name: "x"}
		if e.read([]byte(form)) != nil {
			return
		}
		settings := map[string]string{}
		for _, f := range e.Fields {
			settings[f.Name] = value
		}
		_ = e.Check(settings)
		for _, variable := range first(e.Environment(settings, "/room")) {
			if strings.ContainsRune(variable, 0) {
				t.Errorf("%q has a zero byte", variable)
			}
		}
	})
}

func first[A, B any](a A, _ B) A { return a }
