// Package test checks what is shipped beside the connector's code: image,
// Kubernetes manifests, Helm chart, systemd unit and documentation.
package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// decode reads every object of a YAML file as the API server would, and fails
// on a field or a type that Kubernetes doesn't know.
func decode(file []byte) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var content any
		if err := yaml.Unmarshal(document, &content); err != nil {
			return nil, err
		}
		if content == nil { // nothing but comments
			continue
		}
		object, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		objects = append(objects, object)
	}
}

// one returns the only object of type T.
func one[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	var found []T
	for _, object := range objects {
		if object, ok := object.(T); ok {
			found = append(found, object)
		}
	}
	if len(found) != 1 {
		t.Fatalf("found %d objects of type %T, want 1", len(found), *new(T))
	}
	return found[0]
}

func manifest(t *testing.T, name string) []runtime.Object {
	t.Helper()
	file, err := os.ReadFile("../kubernetes/" + name)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(file)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return objects
}

func TestDecodeIsStrict(t *testing.T) {
	secret, err := os.ReadFile("../kubernetes/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a boolean among strings": {`BATON_PROVISIONING: "true"`, `BATON_PROVISIONING: true`},
		"an unknown field":        {"type: Opaque", "kindness: Opaque"},
		"a field given twice":     {"type: Opaque", "type: Opaque\ntype: Opaque"},
		"an unknown kind":         {"kind: Secret", "kind: Secrets"},
	} {
		wrong := bytes.Replace(secret, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(wrong, secret) {
			t.Errorf("%s: %q is not in the manifest any more", name, change[0])
		}
		if _, err := decode(wrong); err == nil {
			t.Errorf("decoded a manifest with %s", name)
		}
	}
}

func TestSecretManifest(t *testing.T) {
	secret := one[*corev1.Secret](t, manifest(t, "secret.yaml"))
	if secret.Name != "baton-airflow-secrets" || secret.Type != corev1.SecretTypeOpaque {
		t.Errorf("got Secret %q of type %q, want the published baton-airflow-secrets, Opaque", secret.Name, secret.Type)
	}
	for _, name := range []string{
		"BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_PROVISIONING",
		"BATON_AIRFLOW_BASE_URL", "BATON_AIRFLOW_USERNAME", "BATON_AIRFLOW_PASSWORD",
	} {
		if secret.StringData[name] == "" {
			t.Errorf("the published %s is missing", name)
		}
	}
}

func TestDeploymentManifest(t *testing.T) {
	deployment := one[*appsv1.Deployment](t, manifest(t, "deployment.yaml"))
	if deployment.Name != "baton-airflow" {
		t.Errorf("got name %q, want the published baton-airflow", deployment.Name)
	}
	app := map[string]string{"app": "baton-airflow"}
	if diff := cmp.Diff(app, deployment.Labels); diff != "" {
		t.Error("labels are not the published ones:\n", diff)
	}
	if diff := cmp.Diff(app, deployment.Spec.Selector.MatchLabels); diff != "" {
		t.Error("selector is not the published one:\n", diff)
	}
	pod := map[string]string{"app": "baton-airflow", "baton": "true", "baton-app": "airflow"}
	if diff := cmp.Diff(pod, deployment.Spec.Template.Labels); diff != "" {
		t.Error("pod labels are not the published ones:\n", diff)
	}
	container := checkPod(t, deployment)
	if got := container.EnvFrom[0].SecretRef.Name; got != "baton-airflow-secrets" {
		t.Errorf("settings come from Secret %q, want baton-airflow-secrets", got)
	}
}

// checkPod checks what every pod of ours promises, and returns its container.
func checkPod(t *testing.T, deployment *appsv1.Deployment) corev1.Container {
	t.Helper()
	pod := deployment.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("got %d containers, want 1", len(pod.Containers))
	}
	container := pod.Containers[0]
	if container.Name != "baton-airflow" {
		t.Errorf("container is called %q, want baton-airflow", container.Name)
	}

	yes, no, user := true, false, int64(65532)
	wantPod := &corev1.PodSecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(wantPod, pod.SecurityContext); diff != "" {
		t.Error("security context of the pod:\n", diff)
	}
	wantContainer := &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if diff := cmp.Diff(wantContainer, container.SecurityContext); diff != "" {
		t.Error("security context of the container:\n", diff)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pod gets a token for the Kubernetes API")
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("names of Services reach the connector's environment")
	}

	for _, mount := range container.VolumeMounts {
		volume := volumeOf(pod, mount.Name)
		switch {
		case volume == nil:
			t.Errorf("mount %s has no volume", mount.Name)
		case mount.MountPath == "/tmp":
			if volume.EmptyDir == nil || container.WorkingDir != "/tmp" {
				t.Error("/tmp is not the empty folder that the connector works in")
			}
		case !mount.ReadOnly:
			t.Errorf("mount %s can be written", mount.Name)
		}
	}

	host := env(container, "BATON_HOST_ID")
	if host == nil || host.ValueFrom == nil || host.ValueFrom.FieldRef == nil || host.ValueFrom.FieldRef.FieldPath != "metadata.name" {
		t.Error("BATON_HOST_ID is not the pod's own name, so two pods would call themselves the same")
	}
	for _, variable := range container.Env {
		if variable.Name != "SSL_CERT_DIR" && variable.Name != "BATON_HOST_ID" {
			checkVariable(t, variable.Name)
		}
	}
	for name, probe := range probes(container) {
		if probe == nil {
			continue
		}
		if env(container, "BATON_HEALTH_CHECK") == nil {
			t.Errorf("there is a %s probe, but no health server to answer it", name)
		}
		if probe.Exec == nil || probe.Exec.Command[0] != "/baton-airflow" {
			t.Errorf("%s probe does not run the connector's own health-check", name)
		}
		// The command waits 5 s for an answer.
		if probe.TimeoutSeconds <= 5 {
			t.Errorf("%s probe is given %d s, less than its command may take", name, probe.TimeoutSeconds)
		}
	}
	return container
}

func probes(container corev1.Container) map[string]*corev1.Probe {
	return map[string]*corev1.Probe{
		"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe,
	}
}

func env(container corev1.Container, name string) *corev1.EnvVar {
	for i := range container.Env {
		if container.Env[i].Name == name {
			return &container.Env[i]
		}
	}
	return nil
}

func volumeOf(pod corev1.PodSpec, name string) *corev1.Volume {
	for i := range pod.Volumes {
		if pod.Volumes[i].Name == name {
			return &pod.Volumes[i]
		}
	}
	return nil
}

// checkVariable fails on an environment variable that the connector's binary
// doesn't read.
func checkVariable(t *testing.T, name string) {
	t.Helper()
	if !strings.Contains(help(t), "($"+name+")") {
		t.Errorf("the connector reads no variable %s", name)
	}
}
