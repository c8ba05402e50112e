package web

import (
	"strings"
	"testing"

	"airlock/internal/integration/catalog"
)

func TestHowToRunAConnectorNamesWhatItNeeds(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	known := running{program: "baton-bank", clientID: "calm-lantern-1@airlock.test/ccc", secret: "secret-token:x", ca: pem, fields: []catalog.Field{
		{Name: "bank-url", DisplayName: "Base URL", Required: true}, {Name: "bank-password", DisplayName: "Pass\nword", Secret: true}, {Name: "page-size"},
	}}
	for _, one := range known.texts() {
		for _, want := range []string{"BATON_CLIENT_ID", known.clientID, known.secret, "BATON_BANK_URL", "BATON_BANK_PASSWORD", "Pass word", "SSL_CERT_DIR", caFolder, "MIIB", "baton-bank", "BATON_PROVISIONING"} {
			if !strings.Contains(one.text, want) {
				t.Errorf("%s has no %s:\n%s", one.title, want, one.text)
			}
		}
		if strings.Contains(one.text, "PAGE_SIZE") || strings.Contains(one.text, "#SSL_CERT_DIR") {
			t.Errorf("%s has too much:\n%s", one.title, one.text)
		}
	}
	for _, one := range (running{clientID: "a", secret: "b"}).texts() {
		if !strings.Contains(one.text, "each as BATON_ and its name") || strings.Contains(one.text, "MIIB") || strings.Contains(one.text, "airlock-ca") {
			t.Errorf("%s of what isn't known:\n%s", one.title, one.text)
		}
		for line := range strings.Lines(one.text) {
			if strings.Contains(line, "SSL_CERT_DIR") && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				t.Errorf("%s names a CA that there isn't: %s", one.title, line)
			}
		}
	}
}
