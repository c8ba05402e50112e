package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// The least that a chart of its own Secret needs.
const required = `
controlPlane: {clientId: "calm-heron-1@c1.example.com/ccc", clientSecret: "secret-token:conductorone.com:v1:abc"}
airflow: {baseUrl: "https://airflow.example.com/data", username: governor, password: 'a"b: c'}
`

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load("../helm/baton-airflow")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render returns what the chart makes of values, which are YAML documents,
// the later ones over the earlier, and the notes it shows.
func render(t *testing.T, values ...string) (objects []runtime.Object, notes string, err error) {
	t.Helper()
	merged := chartutil.Values{}
	for _, document := range values {
		given, err := chartutil.ReadValues([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		merged = chartutil.CoalesceTables(given, merged)
	}
	c := loadChart(t)
	release := chartutil.ReleaseOptions{Name: "finance", Namespace: "governance", Revision: 1, IsInstall: true}
	rendered, err := chartutil.ToRenderValues(c, merged, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Engine{Strict: true}.Render(c, rendered)
	if err != nil {
		return nil, "", err
	}
	for name, file := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = file
			continue
		}
		made, err := decode([]byte(file))
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, made...)
	}
	return objects, notes, nil
}

func mustRender(t *testing.T, values ...string) ([]runtime.Object, string) {
	t.Helper()
	objects, notes, err := render(t, values...)
	if err != nil {
		t.Fatal(err)
	}
	return objects, notes
}

func TestChart(t *testing.T) {
	objects, notes := mustRender(t, required)
	if len(objects) != 3 {
		t.Errorf("made %d objects, want a Secret, a Deployment and a ServiceAccount", len(objects))
	}
	deployment := one[*appsv1.Deployment](t, objects)
	container := checkPod(t, deployment)

	if deployment.Name != "finance-baton-airflow" {
		t.Errorf("Deployment is called %q", deployment.Name)
	}
	pod := deployment.Spec.Template
	for key, want := range map[string]string{
		"app": "baton-airflow", "baton": "true", "baton-app": "airflow", "app.kubernetes.io/instance": "finance",
	} {
		if pod.Labels[key] != want {
			t.Errorf("pod label %s is %q, want %q", key, pod.Labels[key], want)
		}
	}
	for key, want := range deployment.Spec.Selector.MatchLabels {
		if pod.Labels[key] != want {
			t.Errorf("Deployment selects %s=%s, its pods have %q", key, want, pod.Labels[key])
		}
	}
	if container.Image != "baton-airflow:latest" {
		t.Errorf("image is %q", container.Image)
	}
	for name, probe := range probes(container) {
		if probe == nil {
			t.Errorf("there is no %s probe", name)
		}
	}

	secret := one[*corev1.Secret](t, objects)
	if container.EnvFrom[0].SecretRef.Name != secret.Name {
		t.Errorf("pods read Secret %q, the chart makes %q", container.EnvFrom[0].SecretRef.Name, secret.Name)
	}
	for name := range secret.StringData {
		checkVariable(t, name)
	}
	if got, want := secret.StringData["BATON_AIRFLOW_PASSWORD"], `a"b: c`; got != want {
		t.Errorf("the password arrives as %q, want %q", got, want)
	}
	wantEnv(t, container, map[string]string{
		"BATON_AIRFLOW_BASE_URL": "https://airflow.example.com/data", "BATON_AIRFLOW_USERNAME": "governor",
		"BATON_PROVISIONING": "false", "BATON_SYNC_PERMISSIONS": "true", "BATON_LOG_LEVEL": "info",
		"BATON_HEALTH_CHECK": "true", "BATON_HEALTH_CHECK_PORT": "8081",
	})

	account := one[*corev1.ServiceAccount](t, objects)
	if pod.Spec.ServiceAccountName != account.Name {
		t.Errorf("pods run as %q, the chart makes %q", pod.Spec.ServiceAccountName, account.Name)
	}
	if account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
		t.Error("the ServiceAccount hands out tokens")
	}
	for _, want := range []string{"deployment/finance-baton-airflow", "It only reads"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes don't say %q:\n%s", want, notes)
		}
	}
}

func TestChartExistingSecret(t *testing.T) {
	objects, notes := mustRender(t, `
existingSecret: baton-airflow-secrets
serviceAccount: {create: false}
provisioning: true
`)
	container := checkPod(t, one[*appsv1.Deployment](t, objects))
	if len(objects) != 1 {
		t.Errorf("made %d objects, want the Deployment alone", len(objects))
	}
	if got := container.EnvFrom[0].SecretRef.Name; got != "baton-airflow-secrets" {
		t.Errorf("pods read Secret %q, want baton-airflow-secrets", got)
	}
	for _, name := range []string{"BATON_AIRFLOW_BASE_URL", "BATON_AIRFLOW_USERNAME"} {
		if env(container, name) != nil {
			t.Errorf("%s is set empty over what the Secret says", name)
		}
	}
	wantEnv(t, container, map[string]string{"BATON_PROVISIONING": "true"})
	if !strings.Contains(notes, "Secret baton-airflow-secrets") || strings.Contains(notes, "It only reads") {
		t.Error("notes don't fit an existing Secret with provisioning:\n", notes)
	}
}

func TestChartEverySetting(t *testing.T) {
	objects, notes := mustRender(t, required, `
image: {repository: registry.example.com/baton-airflow, digest: "sha256:`+strings.Repeat("0a", 32)+`"}
imagePullSecrets: [{name: registry}]
replicas: 2
strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
controlPlane: {caCertificate: {secret: company-ca, key: root.pem}}
airflow:
  password: ""
  token: eyJ
  caCert: {configMap: airflow-ca}
  timeZone: Europe/Vienna
  defaultRole: Viewer
syncPermissions: false
provisioning: true
logLevel: debug
healthCheck: {port: 9000}
extraEnv: [{name: BATON_TASK_CONCURRENCY, value: "1"}]
networkPolicy: {enabled: true, egressPorts: [443, 8080]}
resources: {limits: {memory: 1Gi}}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {podAntiAffinity: {}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
priorityClassName: high
podLabels: {team: platform}
podAnnotations: {owner: security}
fullnameOverride: airflow-governor
`)
	deployment := one[*appsv1.Deployment](t, objects)
	container := checkPod(t, deployment)
	pod := deployment.Spec.Template
	if want := "registry.example.com/baton-airflow@sha256:" + strings.Repeat("0a", 32); container.Image != want {
		t.Errorf("image is %q, want %q", container.Image, want)
	}
	wantEnv(t, container, map[string]string{
		"BATON_AIRFLOW_TIME_ZONE": "Europe/Vienna", "BATON_DEFAULT_ROLE": "Viewer", "BATON_SYNC_PERMISSIONS": "false",
		"BATON_PROVISIONING": "true", "BATON_LOG_LEVEL": "debug", "BATON_HEALTH_CHECK_PORT": "9000",
		"BATON_TASK_CONCURRENCY": "1",
	})
	if secret := one[*corev1.Secret](t, objects); secret.StringData["BATON_AIRFLOW_TOKEN"] != "eyJ" || secret.StringData["BATON_AIRFLOW_PASSWORD"] != "" {
		t.Error("the Secret does not hold the token alone")
	}

	// Both files of certificates are where the connector is told to look.
	for variable, want := range map[string]string{"BATON_AIRFLOW_CA_CERT": "airflow-ca", "SSL_CERT_DIR": "company-ca"} {
		set := env(container, variable)
		if set == nil {
			t.Fatalf("%s is not set", variable)
		}
		folder := strings.TrimSuffix(set.Value, "/ca.crt")
		i := slices.IndexFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == folder })
		if i < 0 {
			t.Fatalf("nothing is mounted at %s, where %s points", folder, variable)
		}
		volume := volumeOf(pod.Spec, container.VolumeMounts[i].Name)
		var source string
		var items []corev1.KeyToPath
		if volume.ConfigMap != nil {
			source, items = volume.ConfigMap.Name, volume.ConfigMap.Items
		} else {
			source, items = volume.Secret.SecretName, volume.Secret.Items
		}
		if source != want || len(items) != 1 || items[0].Path != "ca.crt" {
			t.Errorf("%s shows %s with items %v, want ca.crt of %s", variable, source, items, want)
		}
	}

	policy := one[*networkingv1.NetworkPolicy](t, objects)
	for key, want := range policy.Spec.PodSelector.MatchLabels {
		if pod.Labels[key] != want {
			t.Errorf("NetworkPolicy selects %s=%s, the pods have %q", key, want, pod.Labels[key])
		}
	}
	var ports []int32
	for _, port := range policy.Spec.Egress[1].Ports {
		ports = append(ports, port.Port.IntVal)
	}
	if !slices.Equal(ports, []int32{443, 8080}) || len(policy.Spec.Ingress) != 0 {
		t.Errorf("NetworkPolicy lets out to %v and in by %d rules, want 443, 8080 and none", ports, len(policy.Spec.Ingress))
	}

	for name, set := range map[string]bool{
		"imagePullSecrets": pod.Spec.ImagePullSecrets != nil, "nodeSelector": pod.Spec.NodeSelector["disk"] == "ssd",
		"tolerations": pod.Spec.Tolerations != nil, "affinity": pod.Spec.Affinity != nil,
		"topologySpreadConstraints": pod.Spec.TopologySpreadConstraints != nil,
		"priorityClassName":         pod.Spec.PriorityClassName == "high", "podLabels": pod.Labels["team"] == "platform",
		"podAnnotations": pod.Annotations["owner"] == "security", "resources": !container.Resources.Limits.Memory().IsZero(),
		"replicas": *deployment.Spec.Replicas == 2, "strategy": deployment.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType,
		"fullnameOverride": deployment.Name == "airflow-governor",
	} {
		if !set {
			t.Errorf("%s has no effect", name)
		}
	}
	if !strings.Contains(notes, "WARNING: 2 replicas") {
		t.Error("notes don't warn of two replicas:\n", notes)
	}
}

func TestChartRestartsOnNewSecret(t *testing.T) {
	checksum := func(values ...string) string {
		objects, _ := mustRender(t, values...)
		return one[*appsv1.Deployment](t, objects).Spec.Template.Annotations["checksum/secret"]
	}
	before, after := checksum(required), checksum(required, `airflow: {password: other}`)
	if before == "" || before == after {
		t.Error("a new password does not start the pods anew")
	}
}

// A chart that can't make a working connector must say so, not install one.
func TestChartRefuses(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"no client ID":               {`controlPlane: {clientId: ""}`, "controlPlane.clientId"},
		"no client secret":           {`controlPlane: {clientSecret: ""}`, "controlPlane.clientSecret"},
		"no password":                {`airflow: {password: ""}`, "airflow.password"},
		"no username":                {`airflow: {username: ""}`, "airflow.username"},
		"no URL":                     {`airflow: {baseUrl: ""}`, "airflow.baseUrl"},
		"password and token":         {`airflow: {token: eyJ}`, "airflow.token"},
		"a secret beside the Secret": {`existingSecret: other`, "existingSecret"},
		"two sources of a CA":        {`airflow: {caCert: {configMap: a, secret: b}}`, "airflow.caCert"},
		"a misspelt name":            {`provisionning: true`, "provisionning"},
		"a misspelt inner name":      {`airflow: {baseURL: "https://airflow.example.com"}`, "baseURL"},
		"a string for a boolean":     {`provisioning: "yes"`, "provisioning"},
		"an unknown log level":       {`logLevel: loud`, "logLevel"},
		"a URL without scheme":       {`airflow: {baseUrl: airflow.example.com}`, "baseUrl"},
		"a client ID without a host": {`controlPlane: {clientId: calm-heron-1}`, "clientId"},
		"a port out of range":        {`healthCheck: {port: 0}`, "port"},
		"no port to go out by":       {`networkPolicy: {egressPorts: []}`, "egressPorts"},
		"a tag for a digest":         {`image: {digest: latest}`, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := render(t, required, c.values)
			if err == nil {
				t.Fatal("rendered without an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error does not name %s: %v", c.want, err)
			}
		})
	}
}

func TestChartValues(t *testing.T) {
	var schema struct {
		Properties map[string]any
	}
	c := loadChart(t)
	if err := yaml.Unmarshal(c.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema.Properties, "global") // Helm's own
	for name := range schema.Properties {
		if _, ok := c.Values[name]; !ok {
			t.Errorf("the schema knows %s, values.yaml does not", name)
		}
	}
	if err := chartutil.ValidateAgainstSchema(c, c.Values); err != nil {
		t.Error("values.schema.json refuses values.yaml:", err)
	}
	if err := c.Validate(); err != nil {
		t.Error("the chart is not valid:", err)
	}
}

func wantEnv(t *testing.T, container corev1.Container, want map[string]string) {
	t.Helper()
	for name, value := range want {
		got := env(container, name)
		if got == nil {
			t.Errorf("%s is not set, want %q", name, value)
		} else if got.Value != value {
			t.Errorf("%s is %q, want %q", name, got.Value, value)
		}
	}
}
