package catalog

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	configv1 "github.com/conductorone/baton-sdk/pb/c1/config/v1"
	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Entry is a connector that can be hosted.
type Entry struct {
	Name        string `json:"name"`         // of the program, without baton-
	DisplayName string `json:"display_name"` // the name where the program gives none
	HelpURL     string `json:"help_url,omitempty"`
	Path        string `json:"path"`
	Version     string `json:"version,omitempty"`
	// Problem says why it can't be used and what to do; empty if it can.
	Problem string `json:"problem,omitempty"`
	// Directory says that its accounts are people.
	Directory   bool         `json:"directory,omitempty"`
	Fields      []Field      `json:"fields,omitempty"`
	Groups      []Group      `json:"groups,omitempty"`
	Constraints []Constraint `json:"constraints,omitempty"`
	Icon        Icon         `json:"icon"`
	// Capabilities is nil where the program needs settings before it tells: then
	// they come with its first Hello.
	Capabilities *v2.ConnectorCapabilities `json:"-"`
}

// Kind is a kind of setting, which says what its text must be.
type Kind string

// The kinds. Settings are kept as text, empty for one that isn't set.
const (
	Text    Kind = "text"
	Bool    Kind = "bool"    // true, false
	Int     Kind = "int"     // decimal
	List    Kind = "list"    // with commas between; what holds a comma stands in double quotes
	Map     Kind = "map"     // key=value with commas between, or a JSON object
	Select  Kind = "select"  // one of Options
	File    Kind = "file"    // the file's content, or data:…;base64,… for what isn't text
	Random  Kind = "random"  // a text that a form fills by chance
	OAuth   Kind = "oauth"   // what a sign-in at the service gives; always secret
	Derived Kind = "derived" // one of what the connector itself offers: a text here
	Other   Kind = "other"   // can't be set here
)

// Field is one setting.
type Field struct {
	Name        string   `json:"name"` // the connector's own flag
	DisplayName string   `json:"display_name"`
	Description string   `json:"description,omitempty"`
	Placeholder string   `json:"placeholder,omitempty"`
	Kind        Kind     `json:"kind"`
	Required    bool     `json:"required,omitempty"` // within its groups, if there are groups
	Secret      bool     `json:"secret,omitempty"`
	Default     string   `json:"default,omitempty"`   // what holds if it isn't set
	Suggested   string   `json:"suggested,omitempty"` // what a form begins with
	Options     []Option `json:"options,omitempty"`   // of a Select; of a List, what may be in it
	Extensions  []string `json:"extensions,omitempty"`
	Groups      []string `json:"groups,omitempty"` // names of those it is in; none where it is in all

	rules *configv1.Field
}

// Option is one of the values of a field.
type Option struct {
	Value       string `json:"value"`
	DisplayName string `json:"display_name"`
}

// Group is one of several ways to set a connector up, such as by password or by
// token. The setting GroupSetting names the one that is chosen.
type Group struct {
	Name        string   `json:"name"`
	DisplayName string   `json:"display_name"`
	Help        string   `json:"help,omitempty"`
	Fields      []string `json:"fields"`
	Default     bool     `json:"default,omitempty"` // one is, if there are any
}

// GroupSetting is the setting that names the chosen group.
const GroupSetting = "auth-method"

// Constraint is what must hold between fields.
type Constraint struct {
	// Kind is required_together, at_least_one, mutually_exclusive or dependent_on.
	Kind   string   `json:"kind"`
	Fields []string `json:"fields"`
	On     []string `json:"on,omitempty"` // what the fields depend on
	Help   string   `json:"help,omitempty"`
}

// The kinds of constraint.
const (
	RequiredTogether  = "required_together"
	AtLeastOne        = "at_least_one"
	MutuallyExclusive = "mutually_exclusive"
	DependentOn       = "dependent_on"
)

var constraintKinds = map[configv1.ConstraintKind]string{
	configv1.ConstraintKind_CONSTRAINT_KIND_REQUIRED_TOGETHER:  RequiredTogether,
	configv1.ConstraintKind_CONSTRAINT_KIND_AT_LEAST_ONE:       AtLeastOne,
	configv1.ConstraintKind_CONSTRAINT_KIND_MUTUALLY_EXCLUSIVE: MutuallyExclusive,
	configv1.ConstraintKind_CONSTRAINT_KIND_DEPENDENT_ON:       DependentOn,
}

// ours are the SDK's flags, as far as a program offers them as settings, and
// other names of its environment, that are for whoever runs the program to set.
var ours = []string{
	"c1-api-host", "c1z-temp-dir", "client-id", "client-secret", "config-path", "connector-service-listener-fd", "file", "get-tasks",
	"health-check", "health-check-bind-address", "health-check-port", "host-id", "log-format", "log-level", "log-level-debug-expires-at",
	"log-path", "provisioning", "skip-full-sync", "storage-engine", "tmpdir", GroupSetting,
}

// Field is the setting of a name.
func (e Entry) Field(name string) (Field, bool) {
	n := slices.IndexFunc(e.Fields, func(f Field) bool { return f.Name == name })
	if n < 0 {
		return Field{}, false
	}
	return e.Fields[n], true
}

// Secrets are the names of the fields that hold secrets.
func (e Entry) Secrets() []string {
	var names []string
	for _, f := range e.Fields {
		if f.Secret {
			names = append(names, f.Name)
		}
	}
	return names
}

// read reads what the command config gave: c1.config.v1.Configuration as JSON.
func (e *Entry) read(form []byte) error {
	var c configv1.Configuration
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(form, &c); err != nil {
		return fmt.Errorf("what it says isn't the form of a connector: %w", err)
	}
	if c.GetDisplayName() != "" {
		e.DisplayName = shorten(c.GetDisplayName(), 200)
	}
	e.HelpURL, e.Directory = c.GetHelpUrl(), c.GetIsDirectory()
	for _, g := range c.GetFieldGroups() {
		group := Group{Name: g.GetName(), DisplayName: g.GetDisplayName(), Help: g.GetHelpText(), Fields: g.GetFields(), Default: g.GetDefault()}
		if group.DisplayName == "" {
			group.DisplayName = group.Name
		}
		e.Groups = append(e.Groups, group)
	}
	if len(e.Groups) > 0 && !slices.ContainsFunc(e.Groups, func(g Group) bool { return g.Default }) {
		e.Groups[0].Default = true // as the SDK has it
	}
	for _, f := range c.GetFields() {
		if f.GetIsOps() || slices.Contains(ours, f.GetName()) {
			continue
		}
		if !nameForm.MatchString(f.GetName()) {
			return fmt.Errorf("it has a setting with the odd name %q", f.GetName())
		}
		e.Fields = append(e.Fields, e.field(f))
	}
	for _, k := range c.GetConstraints() {
		if len(k.GetFieldNames()) == 0 {
			continue // it constrains nothing
		}
		e.Constraints = append(e.Constraints, Constraint{
			Kind: constraintKinds[k.GetKind()], Fields: k.GetFieldNames(), On: k.GetSecondaryFieldNames(), Help: k.GetHelpText(),
		})
	}
	return nil
}

func (e *Entry) field(f *configv1.Field) Field {
	field := Field{
		Name: f.GetName(), DisplayName: f.GetDisplayName(), Description: f.GetDescription(), Placeholder: f.GetPlaceholder(),
		Required: f.GetIsRequired(), Secret: f.GetIsSecret(), rules: f,
	}
	if field.DisplayName == "" {
		field.DisplayName = field.Name
	}
	for _, g := range e.Groups {
		if slices.Contains(g.Fields, field.Name) {
			field.Groups = append(field.Groups, g.Name)
		}
	}
	switch {
	case f.HasStringField():
		s := f.GetStringField()
		field.Kind, field.Default, field.Suggested, field.Extensions = Text, s.GetDefaultValue(), s.GetSuggestedValue(), s.GetAllowedExtensions()
		field.Options = options(s.GetOptions(), s.GetRules().GetIn())
		switch {
		case s.GetType() == configv1.StringFieldType_STRING_FIELD_TYPE_FILE_UPLOAD:
			field.Kind = File
		case s.GetType() == configv1.StringFieldType_STRING_FIELD_TYPE_RANDOM:
			field.Kind = Random
		case s.GetType() == configv1.StringFieldType_STRING_FIELD_TYPE_OAUTH2:
			field.Kind, field.Secret = OAuth, true
		case s.GetType() == configv1.StringFieldType_STRING_FIELD_TYPE_CONNECTOR_DERIVED_OPTIONS:
			field.Kind = Derived
		case len(field.Options) > 0:
			field.Kind = Select
		}
	case f.HasBoolField():
		field.Kind = Bool
		field.Default, field.Suggested = unless(false, f.GetBoolField().GetDefaultValue()), unless(false, f.GetBoolField().GetSuggestedValue())
	case f.HasIntField():
		field.Kind = Int
		field.Default, field.Suggested = unless(0, f.GetIntField().GetDefaultValue()), unless(0, f.GetIntField().GetSuggestedValue())
	case f.HasStringSliceField():
		s := f.GetStringSliceField()
		field.Kind, field.Default, field.Suggested = List, listText(s.GetDefaultValue()), listText(s.GetSuggestedValue())
		field.Options = options(nil, s.GetRules().GetItemRules().GetIn())
	case f.HasStringMapField():
		m := f.GetStringMapField()
		field.Kind, field.Default, field.Suggested = Map, mapText(m.GetDefaultValue()), mapText(m.GetSuggestedValue())
	default:
		field.Kind = Other
	}
	return field
}

// unless is a value as text; what is the same as none is empty.
func unless[T comparable](none, value T) string {
	if value == none {
		return ""
	}
	return fmt.Sprint(value)
}

func options(declared []*configv1.StringFieldOption, in []string) []Option {
	var list []Option
	for _, o := range declared {
		option := Option{Value: o.GetValue(), DisplayName: o.GetDisplayName()}
		if option.DisplayName == "" {
			option.DisplayName = option.Value
		}
		list = append(list, option)
	}
	if list != nil {
		return list
	}
	for _, value := range in {
		if value != "" {
			list = append(list, Option{Value: value, DisplayName: value})
		}
	}
	return list
}

// listText writes a list as one line of comma-separated values.
func listText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	var out strings.Builder
	w := csv.NewWriter(&out)
	_ = w.Write(list) // a builder takes all
	w.Flush()
	return strings.TrimSuffix(out.String(), "\n")
}

// mapText writes a map of google.protobuf.Value as JSON.
func mapText(m map[string]*anypb.Any) string {
	if len(m) == 0 {
		return ""
	}
	plain := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		var v structpb.Value
		if err := m[key].UnmarshalTo(&v); err != nil {
			continue
		}
		switch known := v.AsInterface().(type) {
		case string:
			plain[key] = known
		case float64:
			plain[key] = strconv.FormatFloat(known, 'g', -1, 64)
		default:
			plain[key] = fmt.Sprint(known)
		}
	}
	return jsonText(plain)
}

func jsonText(m map[string]string) string {
	text, err := json.Marshal(m)
	if err != nil {
		return "" // texts can always be written
	}
	return string(text)
}

// capabilities reads what the command capabilities gave, or nothing.
func capabilities(said []byte) *v2.ConnectorCapabilities {
	var wrapped anypb.Any
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(said, &wrapped); err != nil {
		return nil
	}
	var c v2.ConnectorCapabilities
	if err := wrapped.UnmarshalTo(&c); err != nil {
		return nil
	}
	return &c
}
