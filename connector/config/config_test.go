package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conductorone/baton-sdk/pkg/field"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		given Airflow
		says  string // empty where all is well
	}{
		"username and password":          {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowUsername: "airlock", AirflowPassword: "p"}, ""},
		"a token":                        {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowToken: "t"}, ""},
		"a token and whose it is":        {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowToken: "t", AirflowUsername: "airlock"}, ""},
		"all":                            {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowUsername: "airlock", AirflowPassword: "p", AirflowTimeZone: "Europe/Vienna", DefaultRole: "Viewer", SyncPermissions: true}, ""},
		"no URL":                         {Airflow{AirflowUsername: "airlock", AirflowPassword: "p"}, "airflow-base-url"},
		"no credentials":                 {Airflow{AirflowBaseUrl: "https://airflow.example.com"}, "airflow-password"},
		"a username alone":               {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowUsername: "airlock"}, "airflow-token"},
		"a password and a token":         {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowUsername: "airlock", AirflowPassword: "p", AirflowToken: "t"}, "mutually exclusive"},
		"a password without an username": {Airflow{AirflowBaseUrl: "https://airflow.example.com", AirflowPassword: "p"}, "airflow-username"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := field.Validate(Config, &test.given)
			switch {
			case test.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("%v, want an error that says %q", err, test.says)
			}
		})
	}
}

// Names are an API for ever.
func TestNames(t *testing.T) {
	t.Parallel()
	secrets := map[string]bool{}
	for name, display := range map[string]string{
		"airflow-base-url": "Airflow Base URL", "airflow-username": "Username", "airflow-password": "Password", "airflow-token": "Token",
		"airflow-ca-cert": "CA certificate", "airflow-time-zone": "Time zone", "default-role": "Default role", "sync-permissions": "Sync permissions",
	} {
		found := false
		for _, f := range Config.Fields {
			if f.FieldName == name {
				found = true
				secrets[name] = f.Secret
				if got := f.ConnectorConfig.DisplayName; got != display {
					t.Errorf("%s is shown as %q, want %q", name, got, display)
				}
			}
		}
		if !found {
			t.Errorf("there is no setting %s", name)
		}
	}
	for name, secret := range secrets {
		if want := name == "airflow-password" || name == "airflow-token"; secret != want {
			t.Errorf("%s is a secret: %v, want %v", name, secret, want)
		}
	}
}
