// Command baton-tiny is a Baton connector for tests: its world is a JSON file
// with people, teams and vaults (integrationtest.World). It shows and does what
// the connector of a real system may, in another way than baton-airflow: other
// resource types, entitlements and grants asked for by resource, groups within
// groups, and settings of every kind.
package main

import (
	"context"
	"reflect"

	"github.com/conductorone/baton-sdk/pkg/config"
	"github.com/conductorone/baton-sdk/pkg/connectorrunner"
	"github.com/conductorone/baton-sdk/pkg/field"
)

// settings are the connector's. Without them it can't tell its capabilities.
type settings struct {
	World      string         `mapstructure:"world"`
	Passphrase string         `mapstructure:"passphrase"`
	Token      string         `mapstructure:"token"`
	Badge      []byte         `mapstructure:"badge"`
	Mood       string         `mapstructure:"mood"`
	Levels     []string       `mapstructure:"levels"`
	Labels     map[string]any `mapstructure:"labels"`
	Vaults     bool           `mapstructure:"with-vaults"`
	PageSize   int            `mapstructure:"page-size"`
	DelayMS    int            `mapstructure:"delay-ms"`
}

var (
	world      = field.StringField("world", field.WithDisplayName("World"), field.WithDescription("File with all there is."), field.WithRequired(true))
	passphrase = field.StringField("passphrase", field.WithDisplayName("Passphrase"), field.WithIsSecret(true))
	token      = field.StringField("token", field.WithDisplayName("Token"), field.WithDescription("Instead of the passphrase."), field.WithIsSecret(true))
	badge      = field.FileUploadField("badge", []string{".txt"}, field.WithDisplayName("Badge"))
	mood       = field.SelectField("mood", []string{"calm", "busy"}, field.WithDisplayName("Mood"), field.WithDefaultValue("calm"))
	levels     = field.StringSliceField("levels", field.WithDisplayName("Levels"), field.WithDefaultValue([]string{"look", "open"}))
	labels     = field.StringMapField("labels", field.WithDisplayName("Labels"))
	withVaults = field.BoolField("with-vaults", field.WithDisplayName("With vaults"), field.WithDefaultValue(true))
	pageSize   = field.IntField("page-size", field.WithDisplayName("Page size"), field.WithDefaultValue(100),
		field.WithInt(func(r *field.IntRuler) { r.Gte(1).Lte(1000) }))
	delay = field.IntField("delay-ms", field.WithDisplayName("Delay"), field.WithDescription("How long each answer takes."))

	form = field.NewConfiguration(
		[]field.SchemaField{world, passphrase, token, badge, mood, levels, labels, withVaults, pageSize, delay},
		field.WithConnectorDisplayName("Tiny Bank"),
		field.WithHelpUrl("/docs/baton/tiny"),
		field.WithConstraints(field.FieldsMutuallyExclusive(passphrase, token)),
	)
)

func main() {
	config.RunConnector(context.Background(), "baton-tiny", "v0.1.0", form, open, connectorrunner.WithSessionStoreEnabled())
}

// of is the setting of a name, or the zero value.
func of[T any](s *settings, name string) (value T) {
	v := reflect.ValueOf(s).Elem()
	for n := range v.NumField() {
		if found, ok := reflect.TypeAssert[T](v.Field(n)); ok && v.Type().Field(n).Tag.Get("mapstructure") == name {
			return found
		}
	}
	return value
}

// GetString and the others are how the SDK reads settings.
func (s *settings) GetString(name string) string {
	if name == badge.FieldName {
		return string(s.Badge)
	}
	return of[string](s, name)
}
func (s *settings) GetBool(name string) bool                { return of[bool](s, name) }
func (s *settings) GetInt(name string) int                  { return of[int](s, name) }
func (s *settings) GetStringSlice(name string) []string     { return of[[]string](s, name) }
func (s *settings) GetStringMap(name string) map[string]any { return of[map[string]any](s, name) }
