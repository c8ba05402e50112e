package catalog

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/conductorone/baton-sdk/pkg/field"

	"airlock/internal/base/fault"
)

// Limits that the SDK and Linux set: a file is read up to 2 MB, and one variable
// of an environment has at most 128 KiB.
const (
	maxFile     = 2 << 20
	maxVariable = 128<<10 - 256
)

// Check reports everything that is wrong with settings, as the program itself
// would judge them: errors of kind Invalid, each at its field, joined into one.
// No error holds a value, since it may be a secret.
func (e Entry) Check(settings map[string]string) error {
	if e.Problem != "" {
		return fault.New(fault.NotReady, "the connector %s can't be used: %s", e.Name, e.Problem)
	}
	var wrong []error
	report := func(name, format string, args ...any) {
		wrong = append(wrong, fault.New(fault.Invalid, format, args...).At(name))
	}
	group, ok := e.group(settings)
	if !ok {
		report(GroupSetting, "there is no %s %q; there are %s", GroupSetting, settings[GroupSetting], strings.Join(e.groupNames(), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		_, known := e.Field(name)
		switch {
		case known || (name == GroupSetting && len(e.Groups) > 0):
		case slices.Contains(ours, name):
			report(name, "%s isn't a setting: Airlock sets it where it is needed", name)
		default:
			report(name, "there is no setting %s; %s%s has %s", name, prefix, e.Name, strings.Join(e.fieldNames(), ", "))
		}
	}
	set, present := map[string]bool{}, map[string]bool{}
	for _, f := range e.Fields {
		text := settings[f.Name]
		set[f.Name] = text != ""
		if !f.in(group) {
			if text != "" {
				report(f.Name, "%s doesn't go with the %s %s, only with %s", f.Name, GroupSetting, group.Name, strings.Join(f.Groups, ", "))
			}
			continue
		}
		value, err := f.parse(f.effective(text))
		if err != nil {
			report(f.Name, "%s %w", f.Name, err)
			continue
		}
		present[f.Name] = !value.empty()
		if f.Required && (value.empty() || (text == "" && len(e.Groups) == 0)) {
			report(f.Name, "%s is needed (%s)", f.Name, f.DisplayName)
			continue
		}
		if err := f.judge(value); err != nil {
			report(f.Name, "%s: %w", f.Name, err)
		}
	}
	for _, c := range e.Constraints {
		if words := c.broken(set, present); words != "" {
			report(c.Fields[0], "%s", words)
		}
	}
	return errors.Join(wrong...)
}

// group is the chosen one, or the default; ok is false if the chosen one isn't
// there. Without groups it has no name.
func (e Entry) group(settings map[string]string) (Group, bool) {
	chosen := settings[GroupSetting]
	for _, g := range e.Groups {
		if g.Name == chosen || (chosen == "" && g.Default) {
			return g, true
		}
	}
	for _, g := range e.Groups {
		if g.Default {
			return g, false
		}
	}
	return Group{}, true
}

func (e Entry) groupNames() []string {
	var names []string
	for _, g := range e.Groups {
		names = append(names, g.Name)
	}
	return names
}

func (e Entry) fieldNames() []string {
	var names []string
	for _, f := range e.Fields {
		names = append(names, f.Name)
	}
	return names
}

// in reports whether a field goes with a group: those in none go with all.
func (f Field) in(g Group) bool {
	return len(f.Groups) == 0 || slices.Contains(f.Groups, g.Name)
}

func (f Field) effective(text string) string {
	if text == "" {
		return f.Default
	}
	return text
}

// value is a setting, read; its kind says which part counts.
type value struct {
	text string
	yes  bool
	n    int
	list []string
	m    map[string]string
}

func (v value) empty() bool {
	return v.text == "" && !v.yes && v.n == 0 && len(v.list) == 0 && len(v.m) == 0
}

// parse reads the text of a setting.
func (f Field) parse(text string) (v value, err error) {
	if text == "" {
		return value{}, nil
	}
	if strings.ContainsRune(text, 0) {
		return value{}, errors.New("has a zero byte in it")
	}
	if len(text) > maxVariable && f.Kind != File {
		return value{}, fmt.Errorf("is longer than %d KiB", maxVariable>>10)
	}
	switch f.Kind {
	case Bool:
		if v.yes, err = strconv.ParseBool(text); err != nil {
			return value{}, errors.New("must be true or false")
		}
	case Int:
		if v.n, err = strconv.Atoi(text); err != nil {
			return value{}, errors.New("must be a whole number")
		}
	case List:
		records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(records) != 1 {
			return value{}, errors.New("must be one line of values with commas between, those with a comma in double quotes")
		}
		v.list = records[0]
	case Map:
		if v.m, err = parseMap(text); err != nil {
			return value{}, err
		}
	case File:
		content, err := fileContent(text)
		if err != nil {
			return value{}, err
		}
		v.text = string(content)
	case Other:
		return value{}, errors.New("is of a kind that can't be set here")
	case Text, Select, Random, OAuth, Derived:
		v.text = text
	}
	return v, nil
}

// parseMap reads a JSON object of texts, or key=value with commas between.
func parseMap(text string) (map[string]string, error) {
	m := map[string]string{}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return nil, errors.New("must be a JSON object whose values are texts")
		}
	} else {
		records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(records) != 1 {
			return nil, errors.New("must be key=value with commas between, or a JSON object")
		}
		for _, pair := range records[0] {
			key, val, ok := strings.Cut(pair, "=")
			if !ok {
				return nil, errors.New("must be key=value with commas between, or a JSON object")
			}
			m[key] = val
		}
	}
	for key, val := range m {
		// The SDK (v0.25.0, cli.VisitFlags) joins the pairs with commas and splits
		// them again: what has these characters would come out as something else.
		if key == "" || strings.ContainsAny(key, "=,\"\r\n") || strings.ContainsAny(val, ",\"\r\n") {
			return nil, errors.New("can't have a comma, a quote or a line break in a key or value, nor an equals sign in a key")
		}
	}
	return m, nil
}

// fileContent is the content of a file that a setting holds.
func fileContent(text string) ([]byte, error) {
	content := []byte(text)
	if rest, ok := strings.CutPrefix(text, "data:"); ok {
		_, encoded, ok := strings.Cut(rest, ";base64,")
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			return nil, errors.New("must be a file's content, or data:…;base64,… with its content in base64")
		}
		content = decoded
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("is larger than %d MB", maxFile>>20)
	}
	return content, nil
}

// judge asks the SDK's own rules, in whose words the value comes last.
func (f Field) judge(v value) error {
	var err error
	switch r := f.rules; f.Kind {
	case Bool:
		err = field.ValidateBoolRules(r.GetBoolField().GetRules(), v.yes, f.Name)
	case Int:
		err = field.ValidateIntRules(r.GetIntField().GetRules(), v.n, f.Name)
	case List:
		err = field.ValidateRepeatedStringRules(r.GetStringSliceField().GetRules(), v.list, f.Name)
	case Map:
		anys := map[string]any{}
		for key, val := range v.m {
			anys[key] = val
		}
		err = field.ValidateStringMapRules(r.GetStringMapField().GetRules(), anys, f.Name)
	case Text, Select, File, Random, OAuth, Derived:
		err = field.ValidateStringRules(r.GetStringField().GetRules(), v.text, f.Name)
	case Other:
	}
	if err == nil {
		return nil
	}
	words, _, _ := strings.Cut(err.Error(), " but got ")
	words = strings.TrimPrefix(strings.TrimPrefix(words, "field "+f.Name), ":")
	return errors.New(strings.TrimSpace(words))
}

// broken says how a constraint is violated. The SDK asks twice: its command line
// for what is set, and its validation for what has a value, be it a default.
func (c Constraint) broken(set, present map[string]bool) string {
	which := func(of map[string]bool, names []string, want bool) (out []string) {
		for _, name := range names {
			if of[name] == want {
				out = append(out, name)
			}
		}
		return out
	}
	all := strings.Join(c.Fields, ", ")
	for _, of := range []map[string]bool{set, present} {
		have := which(of, c.Fields, true)
		switch c.Kind {
		case MutuallyExclusive:
			if len(have) > 1 {
				return fmt.Sprintf("only one of %s can be set, not %s", all, strings.Join(have, " and "))
			}
		case RequiredTogether:
			if len(have) > 0 && len(have) < len(c.Fields) {
				return fmt.Sprintf("%s go together; missing: %s", all, strings.Join(which(of, c.Fields, false), ", "))
			}
		case AtLeastOne:
			if len(have) == 0 {
				return "one of these is needed: " + all
			}
		}
	}
	if missing := which(present, c.On, false); c.Kind == DependentOn && len(missing) > 0 {
		if have := which(present, c.Fields, true); len(have) > 0 {
			return fmt.Sprintf("%s needs %s as well", strings.Join(have, ", "), strings.Join(missing, ", "))
		}
	}
	return ""
}

// Environment gives settings as the program reads them: variables BATON_…, and
// files, by name, that must lie in dir when it starts. Settings that don't pass
// Check are left out.
func (e Entry) Environment(settings map[string]string, dir string) (environment []string, files map[string][]byte) {
	files = map[string][]byte{}
	group, _ := e.group(settings)
	if group.Name != "" {
		environment = append(environment, variable(GroupSetting)+"="+group.Name)
	}
	for _, f := range e.Fields {
		v, err := f.parse(settings[f.Name])
		if settings[f.Name] == "" || err != nil || !f.in(group) {
			continue
		}
		text := v.text
		switch f.Kind {
		case Bool:
			text = strconv.FormatBool(v.yes)
		case Int:
			text = strconv.Itoa(v.n)
		case List:
			text = listText(v.list)
		case Map:
			text = jsonText(v.m)
		case File:
			name := f.Name
			if len(f.Extensions) > 0 && nameForm.MatchString(strings.TrimPrefix(f.Extensions[0], ".")) {
				name += "." + strings.TrimPrefix(f.Extensions[0], ".")
			}
			files[name] = []byte(v.text)
			text = filepath.Join(dir, name)
		case Text, Select, Random, OAuth, Derived, Other:
		}
		environment = append(environment, variable(f.Name)+"="+text)
	}
	return environment, files
}

// SecretValues are the secrets among settings, as the program gets to see them.
func (e Entry) SecretValues(settings map[string]string) []string {
	var secrets []string
	for _, f := range e.Fields {
		text := f.effective(settings[f.Name])
		if v, err := f.parse(text); f.Secret && err == nil && text != "" {
			secrets = append(secrets, text)
			if f.Kind == List {
				secrets = append(secrets, v.list...)
			}
			if f.Kind == File {
				secrets = append(secrets, v.text)
			}
			secrets = slices.AppendSeq(secrets, maps.Values(v.m))
		}
	}
	return secrets
}

// variable is the name of a setting in the environment.
func variable(name string) string {
	return "BATON_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
