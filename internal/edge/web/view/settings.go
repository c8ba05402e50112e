package view

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"airlock/internal/base/fault"
	"airlock/internal/integration/catalog"
)

// Settings is the form of a connector's settings, made from what the connector
// says of itself.
type Settings struct {
	Entry  catalog.Entry
	Values map[string]string      // what is set, without secrets; of a form that wasn't taken, what was typed
	Kept   func(name string) bool // whether a secret is set
	Errors Errors
}

// value is what a field begins with.
func (s Settings) value(f catalog.Field) string {
	text, set := s.Values[f.Name]
	if !set {
		text = or(f.Suggested, f.Default)
	}
	return fromSetting(f, text)
}

// field is a setting as a field of the form.
func (s Settings) field(f catalog.Field) Field {
	field := Field{
		Name: f.Name, Label: or(f.DisplayName, f.Name), Value: s.value(f), Hint: Sentence(f.Description), Placeholder: f.Placeholder,
		Error: s.Errors[f.Name], Row: true, Complete: "off",
	}
	if f.Secret || f.Kind == catalog.OAuth {
		field.Complete = "new-password"
		field.Value = ""
	}
	if !f.Required && f.Kind != catalog.Bool {
		field.Aside = "optional"
	}
	switch f.Kind {
	default:
	case catalog.List:
		if len(f.Options) > 0 {
			break
		}
		field.Hint = strings.TrimSpace(field.Hint + " One a line.")
	case catalog.Map:
		field.Hint = strings.TrimSpace(field.Hint + " One key=value a line.")
	case catalog.Int:
		field.Attributes = map[string]any{"inputmode": "numeric"}
	}
	return field
}

// ways are the groups of settings there are, as one choice.
func (s Settings) ways() (Field, []Option) {
	f := Field{Name: catalog.GroupSetting, Label: "How it signs in", Value: s.Values[catalog.GroupSetting], Error: s.Errors[catalog.GroupSetting], Row: true}
	var options []Option
	for _, g := range s.Entry.Groups {
		options = append(options, Option{Value: g.Name, Title: or(g.DisplayName, g.Name), What: g.Help})
		if f.Value == "" && g.Default {
			f.Value = g.Name
		}
	}
	return f, options
}

func (s Settings) kept(f catalog.Field) bool { return s.Kept != nil && s.Kept(f.Name) }

func selectable(f catalog.Field) []Option {
	var list []Option
	if !f.Required {
		list = append(list, Option{Title: "–"})
	}
	for _, o := range f.Options {
		list = append(list, Option{Value: o.Value, Title: or(o.DisplayName, o.Value)})
	}
	return list
}

func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// ReadSettings are the settings that a form sends: those to set, and the names
// of those to unset. A secret that was left empty stays as it is. Files are
// asked for by their field.
func ReadSettings(entry catalog.Entry, form url.Values, file func(name string) ([]byte, error)) (set map[string]string, unset []string, err error) {
	set = map[string]string{}
	group := form.Get(catalog.GroupSetting)
	if group != "" && len(entry.Groups) > 0 {
		set[catalog.GroupSetting] = group
	}
	for _, f := range entry.Fields {
		if group != "" && len(f.Groups) > 0 && !slices.Contains(f.Groups, group) {
			unset = append(unset, f.Name)
			continue
		}
		if f.Kind == catalog.File {
			content, err := file(f.Name)
			if err != nil {
				return nil, nil, err
			}
			if len(content) > 0 {
				set[f.Name] = fileSetting(content)
			}
			if len(content) == 0 && form.Get(f.Name+"-remove") == "true" {
				unset = append(unset, f.Name)
			}
			continue
		}
		text := toSetting(f, form[f.Name])
		switch {
		case text != "":
			set[f.Name] = text
		case (f.Secret || f.Kind == catalog.OAuth) && form.Get(f.Name+"-remove") != "true":
		default:
			unset = append(unset, f.Name)
		}
	}
	if len(set) == 0 && len(unset) == 0 {
		return nil, nil, fault.New(fault.Invalid, "there is no setting in what was sent; nothing was changed")
	}
	return set, unset, nil
}

// fileSetting is a file's content as a setting holds it.
func fileSetting(content []byte) string {
	if utf8.Valid(content) && !strings.HasPrefix(string(content), "data:") {
		return string(content)
	}
	return "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(content)
}

// toSetting is what was typed, as a setting holds it.
func toSetting(f catalog.Field, values []string) string {
	text := strings.Join(values, "\n")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	switch f.Kind {
	default:
	case catalog.List:
		var list []string
		for _, one := range listed(text) {
			if one = strings.TrimSpace(one); one != "" {
				list = append(list, one)
			}
		}
		if len(list) == 0 {
			return ""
		}
		var out strings.Builder
		w := csv.NewWriter(&out)
		_ = w.Write(list) // to memory
		w.Flush()
		return strings.TrimSuffix(out.String(), "\n")
	case catalog.Map:
		m := map[string]string{}
		for _, one := range listed(text) {
			if key, value, ok := strings.Cut(one, "="); ok {
				m[strings.TrimSpace(key)] = strings.TrimSpace(value)
			} else if strings.TrimSpace(one) != "" {
				return text // as it is, to be refused with words
			}
		}
		if len(m) == 0 {
			return ""
		}
		out, err := json.Marshal(m)
		if err != nil {
			return text
		}
		return string(out)
	case catalog.Bool:
		if text == "true" {
			return "true"
		}
		if f.Default == "true" {
			return "false"
		}
		return ""
	}
	if f.Secret || f.Kind == catalog.OAuth {
		return text
	}
	return strings.TrimSpace(text)
}

// fromSetting is a setting as it is typed.
func fromSetting(f catalog.Field, text string) string {
	switch f.Kind {
	default:
	case catalog.List:
		if records, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err == nil && len(records) == 1 {
			return strings.Join(records[0], "\n")
		}
	case catalog.Map:
		m := map[string]string{}
		if json.Unmarshal([]byte(text), &m) == nil {
			var lines []string
			for _, key := range slices.Sorted(maps.Keys(m)) {
				lines = append(lines, key+"="+m[key])
			}
			return strings.Join(lines, "\n")
		}
	}
	return text
}
