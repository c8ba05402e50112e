package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// directives returns the settings of a unit file's section. A setting given
// more than once has its values joined by a space, as systemd adds them up.
func directives(t *testing.T, path, section string) map[string]string {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	in := ""
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			in = strings.Trim(line, "[]")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("%s: %q is no setting", path, line)
		}
		if in == section {
			found[name] = strings.TrimSpace(found[name] + " " + value)
		}
	}
	return found
}

const unit = "../systemd/baton-airflow.service"

func TestUnit(t *testing.T) {
	service := directives(t, unit, "Service")
	for name, want := range map[string]string{
		"Type": "exec", "ExecStart": "/usr/local/bin/baton-airflow", "EnvironmentFile": "/etc/baton/airflow.env",
		"Restart": "always", "RestartSec": "10", "KillSignal": "SIGINT", "KillMode": "mixed",
		"DynamicUser": "yes", "PrivateTmp": "yes", "WorkingDirectory": "/tmp",
		"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes",
		"SystemCallFilter": "@system-service ~@privileged",
	} {
		if got, ok := service[name]; !ok || got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	// The greeting to the control plane tells the system, which is read from
	// /proc/stat and the like.
	if _, ok := service["ProcSubset"]; ok {
		t.Error("ProcSubset hides what the connector must read to start")
	}
	if directives(t, unit, "Unit")["StartLimitIntervalSec"] != "0" {
		t.Error("systemd gives up on the connector when the control plane is away for long")
	}
}

const serverUnit = "../systemd/airlock.service"

func TestServerUnit(t *testing.T) {
	service := directives(t, serverUnit, "Service")
	for name, want := range map[string]string{
		"Type": "exec", "ExecStart": "/usr/local/lib/airlock/airlock serve", "Environment": "AIRLOCK_DATA_DIR=/var/lib/airlock",
		"DynamicUser": "yes", "StateDirectory": "airlock", "StateDirectoryMode": "0700", "Restart": "always",
		"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
	} {
		if got, ok := service[name]; !ok || got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
}

func TestUnitsAreKnownToSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not on this machine")
	}
	for file, program := range map[string]string{unit: "/usr/local/bin/baton-airflow", serverUnit: "/usr/local/lib/airlock/airlock"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// It checks that the program is there, so it is given one that is.
		copied := filepath.Join(t.TempDir(), filepath.Base(file))
		text = []byte(strings.Replace(string(text), program, "/bin/true", 1))
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", copied).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", file, err, out)
		}
	}
}

func TestEnvironmentFile(t *testing.T) {
	file, err := os.ReadFile("../systemd/airflow.env")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(file)) {
		// A setting that is commented out is one without a space after the #.
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), "=")
		if ok && !strings.Contains(name, " ") {
			seen[name] = true
			if name != "SSL_CERT_DIR" {
				checkVariable(t, name)
			}
		}
	}
	for _, name := range []string{"BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_AIRFLOW_BASE_URL", "BATON_AIRFLOW_USERNAME", "BATON_AIRFLOW_PASSWORD"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
