package web

import (
	"cmp"
	"fmt"
	"strings"

	"airlock/internal/integration/catalog"
)

// running is a connector that somebody runs themself, with what it is started
// with.
type running struct {
	program          string // baton-…; "" where nobody knows yet what it is
	clientID, secret string
	fields           []catalog.Field // its own settings, where they are known
	ca               string          // PEM, where the server's certificate is signed by its own CA
}

// runManual is a way to run a connector.
type runManual struct{ id, title, what, text string }

// caFolder is a folder that holds a private CA alone.
const caFolder = "/etc/baton/control-plane-ca"

// texts are the ways to run it.
func (r running) texts() []runManual {
	return []runManual{
		{"kubernetes", "Kubernetes", "Secret and Deployment: kubectl apply -f -", r.kubernetes()},
		{"docker", "Docker", "A file of variables, and the container", r.docker()},
		{"systemd", "systemd", "A file of variables, and the unit", r.systemd()},
	}
}

func (r running) name() string { return cmp.Or(r.program, "baton-connector") }

func (r running) image() string {
	return "public.ecr.aws/conductorone/" + cmp.Or(r.program, "baton-NAME") + ":latest"
}

// variable is a variable of its environment.
type variable struct{ name, value, words string }

// variables are what it is started with: its credentials, and what is its own.
func (r running) variables() []variable {
	list := []variable{{"BATON_CLIENT_ID", r.clientID, ""}, {"BATON_CLIENT_SECRET", r.secret, ""}}
	for _, f := range r.fields {
		if f.Required || f.Secret {
			name := "BATON_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(f.Name))
			words := "yours: " + f.DisplayName
			if f.Secret {
				words += "; Airlock never sees it"
			}
			list = append(list, variable{name, "", strings.Join(strings.Fields(words), " ")})
		}
	}
	if len(r.fields) == 0 {
		list = append(list, variable{"", "", "and the settings of the connector itself, each as BATON_ and its name"})
	}
	return append(list, variable{"BATON_PROVISIONING", "true", "leave out: read only"})
}

// environment is a file of variables, as Docker and systemd read it.
func (r running) environment(file, ca string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# %s, mode 0600\n", file)
	for _, v := range r.variables() {
		if v.words != "" {
			fmt.Fprintf(&out, "# %s\n", v.words)
		}
		if v.name != "" {
			fmt.Fprintf(&out, "%s=%s\n", v.name, v.value)
		}
	}
	if r.ca != "" {
		fmt.Fprintf(&out, "SSL_CERT_DIR=%s\n", ca)
	} else {
		fmt.Fprintf(&out, "# where Airlock's certificate is signed by a private CA: a folder that holds that CA alone\n#SSL_CERT_DIR=%s\n", ca)
	}
	return out.String()
}

func (r running) kubernetes() string {
	name := r.name()
	var out strings.Builder
	fmt.Fprintf(&out, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\ntype: Opaque\nstringData:\n", name)
	for _, v := range r.variables() {
		switch {
		case v.name == "":
			fmt.Fprintf(&out, "  # %s\n", v.words)
		case v.words != "":
			fmt.Fprintf(&out, "  %s: %q # %s\n", v.name, v.value, v.words)
		default:
			fmt.Fprintf(&out, "  %s: %q\n", v.name, v.value)
		}
	}
	if r.ca != "" {
		fmt.Fprintf(&out, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: airlock-ca\ndata:\n  ca.pem: |\n    %s\n",
			strings.ReplaceAll(strings.TrimSpace(r.ca), "\n", "\n    "))
	}
	fmt.Fprintf(&out, `---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: 1
  strategy: { type: Recreate }
  selector: { matchLabels: { app: %[1]s } }
  template:
    metadata: { labels: { app: %[1]s } }
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: { runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532 }
      containers:
        - name: connector
          image: %[2]s
          workingDir: /tmp
          envFrom: [{ secretRef: { name: %[1]s } }]
          env:
            - name: BATON_HOST_ID # one name a pod
              valueFrom: { fieldRef: { fieldPath: metadata.name } }
`, name, r.image())
	if r.ca != "" {
		fmt.Fprintf(&out, "            - { name: SSL_CERT_DIR, value: %s }\n", caFolder)
	} else {
		fmt.Fprintf(&out, "            # where Airlock's certificate is signed by a private CA, mounted here alone:\n            # - { name: SSL_CERT_DIR, value: %s }\n", caFolder)
	}
	out.WriteString(`          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
          volumeMounts:
            - { name: tmp, mountPath: /tmp }
`)
	if r.ca != "" {
		fmt.Fprintf(&out, "            - { name: ca, mountPath: %s, readOnly: true }\n", caFolder)
	}
	out.WriteString("      volumes:\n        - { name: tmp, emptyDir: {} }\n")
	if r.ca != "" {
		out.WriteString("        - { name: ca, configMap: { name: airlock-ca } }\n")
	}
	return out.String()
}

func (r running) docker() string {
	mount := ""
	if r.ca != "" {
		mount = " \\\n  -v " + caFolder + ":" + caFolder + ":ro"
	}
	return r.environment("connector.env", caFolder) + r.caNote() + fmt.Sprintf(`
docker run --detach --name %s --restart unless-stopped \
  --env-file connector.env --env BATON_HOST_ID="$(hostname)"%s \
  %s
`, r.name(), mount, r.image())
}

func (r running) systemd() string {
	return r.environment("/etc/baton/"+r.name()+".env", caFolder) + r.caNote() + fmt.Sprintf(`
# /etc/systemd/system/%[1]s.service
[Unit]
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/%[1]s
EnvironmentFile=/etc/baton/%[1]s.env
Restart=always
RestartSec=10
KillSignal=SIGINT
KillMode=mixed
DynamicUser=yes
PrivateTmp=yes
WorkingDirectory=/tmp
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes

[Install]
WantedBy=multi-user.target
`, r.name())
}

// caNote is the CA to be put into its folder.
func (r running) caNote() string {
	if r.ca == "" {
		return ""
	}
	return "\n# " + caFolder + "/ca.pem\n" + strings.TrimSpace(r.ca) + "\n"
}
