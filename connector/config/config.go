// Package config declares the settings of baton-airflow: its flags, its
// environment variables (BATON_ + the flag in capitals) and the form that a
// control plane shows.
package config

import (
	"github.com/conductorone/baton-sdk/pkg/field"
)

// The settings. Names, environment variables and display names are those of
// the connector's published documentation and stay as they are for ever.
var (
	BaseURL = field.StringField("airflow-base-url",
		field.WithDisplayName("Airflow Base URL"),
		field.WithDescription("Where Airflow is reached by people and programs, with its path if it has one."),
		field.WithPlaceholder("https://airflow.example.com"),
		field.WithRequired(true),
		field.WithString(func(r *field.StringRuler) { r.IsURI() }), // so that whoever shows the form refuses what is none
	)
	Username = field.StringField("airflow-username",
		field.WithDisplayName("Username"),
		field.WithDescription("The Airflow account the connector signs in with. With a token: the account the token belongs to."),
		field.WithPlaceholder("airlock"),
	)
	Password = field.StringField("airflow-password",
		field.WithDisplayName("Password"),
		field.WithDescription("The password of that account."),
		field.WithIsSecret(true),
	)
	Token = field.StringField("airflow-token",
		field.WithDisplayName("Token"),
		field.WithDescription("A ready-made API token instead of a password. It is used until it expires and can't be renewed."),
		field.WithIsSecret(true),
	)
	CACert = field.FileUploadField("airflow-ca-cert", []string{".pem", ".crt"},
		field.WithDisplayName("CA certificate"),
		field.WithDescription("PEM file with the certificates that sign Airflow's own, beside the system's."),
	)
	TimeZone = field.StringField("airflow-time-zone",
		field.WithDisplayName("Time zone"),
		field.WithDescription("IANA name of the zone Airflow's server runs in: its times of sign-in and creation carry none."),
		field.WithDefaultValue("UTC"),
		field.WithPlaceholder("Europe/Vienna"),
	)
	DefaultRole = field.StringField("default-role",
		field.WithDisplayName("Default role"),
		field.WithDescription("Role that a new account gets when none is asked for."),
		field.WithDefaultValue("Viewer"),
	)
	SyncPermissions = field.BoolField("sync-permissions",
		field.WithDisplayName("Sync permissions"),
		field.WithDescription("Also read what each role may do: on each DAG and on Airflow's other resources. Needs the permission to read DAGs."),
		field.WithDefaultValue(true),
	)
)

//go:generate go run ./gen
//go:generate gofmt -w conf.gen.go

// Config is the whole of the settings.
var Config = field.NewConfiguration(
	[]field.SchemaField{BaseURL, Username, Password, Token, CACert, TimeZone, DefaultRole, SyncPermissions},
	field.WithConnectorDisplayName("Apache Airflow"),
	field.WithHelpUrl("/docs/baton/airflow"),
	field.WithIconUrl("/static/app-icons/airflow.svg"),
	field.WithConstraints(
		field.FieldsAtLeastOneUsed(Password, Token),
		field.FieldsMutuallyExclusive(Password, Token),
		field.FieldsDependentOn([]field.SchemaField{Password}, []field.SchemaField{Username}),
	),
)
