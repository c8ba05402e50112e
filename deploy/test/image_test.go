package test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"debug/elf"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// builtImage is the image, built and unpacked once for all tests.
type builtImage struct {
	config v1.Config
	root   string // its file system
	// What its binary answers to --help and to capabilities.
	help, capabilities string
	err                error
}

var (
	scratch string // removed when the tests are done
	build   = sync.OnceValue(buildImage)
)

func TestMain(m *testing.M) {
	if root := os.Getenv(enterEnv); root != "" {
		fmt.Fprintln(os.Stderr, "enter the image:", enter(root, os.Args[1:]))
		os.Exit(125)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "baton-airflow-image"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// image returns the image as deploy/build-image makes it.
func image(t *testing.T) builtImage {
	t.Helper()
	built := build()
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built
}

// help returns what the image's binary tells of its flags and variables.
func help(t *testing.T) string {
	t.Helper()
	return image(t).help
}

func buildImage() builtImage {
	archive := filepath.Join(scratch, "image.tar")
	command := exec.CommandContext(context.Background(), "../build-image", archive)
	command.Env = append(os.Environ(), "VERSION=v0.0.0-test", "KO_DOCKER_REPO=", "KO_DEFAULTBASEIMAGE=", "KO_CONFIG_PATH=")
	if out, err := command.CombinedOutput(); err != nil {
		return builtImage{err: fmt.Errorf("build-image: %w\n%s", err, out)}
	}
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return builtImage{err: fmt.Errorf("read the image that build-image wrote: %w", err)}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return builtImage{err: err}
	}
	root := filepath.Join(scratch, "root")
	layers, err := img.Layers()
	if err != nil {
		return builtImage{err: err}
	}
	for _, layer := range layers {
		files, err := layer.Uncompressed()
		if err != nil {
			return builtImage{err: err}
		}
		if err := errors.Join(unpack(files, root), files.Close()); err != nil {
			return builtImage{err: fmt.Errorf("unpack the image: %w", err)}
		}
	}
	answers := map[string]string{"--help": "", "capabilities": ""}
	for question := range answers {
		answer, err := exec.CommandContext(context.Background(), filepath.Join(root, "ko-app", "baton-airflow"), question).Output()
		if err != nil {
			return builtImage{err: fmt.Errorf("baton-airflow %s: %w", question, err)}
		}
		answers[question] = string(answer)
	}
	return builtImage{config: config.Config, root: root, help: answers["--help"], capabilities: answers["capabilities"]}
}

func unpack(archive io.Reader, root string) error {
	for files := tar.NewReader(archive); ; {
		file, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(root, file.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		switch file.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(file.Linkname, path)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(files); err == nil {
				err = os.WriteFile(path, content, file.FileInfo().Mode())
			}
		default:
			err = fmt.Errorf("%s is a file of type %q", file.Name, file.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

// A digest that is out of date sends ko to a registry that doesn't exist, so
// the answer is given here.
func TestBaseImageIsPinned(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "run", "./baseimage", t.TempDir())
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatal("baseimage: ", err)
	}
	config, err := os.ReadFile("../../.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := "@" + string(out); !strings.Contains(string(config), want) {
		t.Errorf(".ko.yaml does not name the base image that baseimage makes; it is %s", want)
	}
}

func TestImage(t *testing.T) {
	img := image(t)
	want := v1.Config{
		User: "65532:65532", WorkingDir: "/tmp", StopSignal: "SIGINT",
		Entrypoint: []string{"/ko-app/baton-airflow"},
		Env:        []string{"PATH=/ko-app", "KO_DATA_PATH=/var/run/ko"},
	}
	if diff := cmp.Diff(want, img.config); diff != "" {
		t.Error("configuration of the image:\n", diff)
	}

	var files []string
	err := filepath.WalkDir(img.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, img.root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles := []string{"/baton-airflow", "/etc/group", "/etc/hosts", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt", "/ko-app/baton-airflow"}
	if diff := cmp.Diff(wantFiles, files); diff != "" {
		t.Error("files of the image:\n", diff)
	}

	program, err := os.ReadFile(filepath.Join(img.root, "ko-app", "baton-airflow"))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range binary.Progs {
		if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
			t.Error("the binary is not static")
		}
	}

	authorities, err := os.ReadFile(img.root + "/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for block, rest := pem.Decode(authorities); block != nil; block, rest = pem.Decode(rest) {
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !authority.IsCA {
			t.Errorf("certificate %d is of no authority: %v", count, err)
		}
		count++
	}
	if count < 100 {
		t.Errorf("the image trusts %d authorities; Mozilla's are more than 100", count)
	}
}

// The commands that need no configuration, and so are what an operator tries first.
func TestImageCommands(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--version"}, "v0.0.0-test"},
		{[]string{"--help"}, "BATON_AIRFLOW_BASE_URL"},
		{[]string{"capabilities"}, "resourceTypeCapabilities"},
		{[]string{"config"}, "airflow-base-url"},
	} {
		out, err := inImage(t, nil, c.args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("baton-airflow %v: %v, want %q in\n%s", c.args, err, c.want, out)
		}
	}
	out, err := inImage(t, []string{"BATON_AIRFLOW_BASE_URL=https://airflow.example.com"}).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "airflow-password") {
		t.Errorf("without a password: %v, want an error that names airflow-password, got\n%s", err, out)
	}
}

// The pod of deploy/kubernetes, as far as it goes without Kubernetes: its
// environment, its user, its read-only root and its probes, before a control
// plane with a private certificate.
func TestImageServes(t *testing.T) {
	container := one[*appsv1.Deployment](t, manifest(t, "deployment.yaml")).Spec.Template.Spec.Containers[0]
	secret := one[*corev1.Secret](t, manifest(t, "secret.yaml"))
	plane := startControlPlane(t)

	settings := maps.Clone(secret.StringData)
	for _, variable := range container.Env {
		settings[variable.Name] = variable.Value
	}
	settings["BATON_HOST_ID"] = "baton-airflow-7d4b9c6f5-x2x7p" // the pod's name
	settings["BATON_CLIENT_ID"] = "calm-heron-1@" + plane.host + "/ccc"
	settings["BATON_CLIENT_SECRET"] = plane.secret
	settings["BATON_AIRFLOW_BASE_URL"] = "http://127.0.0.1:1" // nobody there
	settings["BATON_AIRFLOW_TIME_ZONE"] = "Europe/Vienna"     // known without the system's files
	settings["BATON_AIRFLOW_CA_CERT"] = "/ca/ca.crt"
	settings["BATON_HEALTH_CHECK_PORT"] = freePort(t)
	settings["SSL_CERT_DIR"] = "/ca"
	var environ []string
	for name, value := range settings {
		environ = append(environ, name+"="+value)
	}
	writeCA(t, plane.certificate)

	service := inImage(t, environ)
	var log bytes.Buffer
	service.Stdout, service.Stderr = &log, &log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()

	select {
	case <-plane.asked: // which it does when everything else has started
	case err := <-ended:
		t.Fatalf("the connector ended before it asked for work: %v\n%s", err, &log)
	}
	checkConfined(t, service.Process.Pid)
	for name, probe := range probes(container) {
		command := slices.Clone(probe.Exec.Command)
		if out, err := inImage(t, environ, command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s probe %v: %v\n%s", name, command, err, out)
		}
	}
	// Airflow is away, which must not take the pod down, but is told to who asks.
	if out, err := inImage(t, environ, "health-check", "--timeout=1").CombinedOutput(); err == nil {
		t.Errorf("health-check says that all is well with Airflow away\n%s", out)
	}

	if err := service.Process.Signal(unix.SignalNum(image(t).config.StopSignal)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stopped by %s the connector ended with %v\n%s", image(t).config.StopSignal, err, &log)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the connector runs on after %s", image(t).config.StopSignal)
	}
	// Without it nobody knows from which pod a connector asks.
	if got := plane.hostID(); !strings.Contains(got, settings["BATON_HOST_ID"]) {
		t.Errorf("the control plane was told %q, which has no %s in it", got, settings["BATON_HOST_ID"])
	}
}

// checkConfined fails when a process is not held as a container engine would,
// as then the tests prove less than they say.
func checkConfined(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nUid:\t65532\t65532\t65532\t65532\n", "\nGid:\t65532\t65532\t65532\t65532\n",
		"\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n", "\nNoNewPrivs:\t1\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the connector runs without %q:\n%s", want, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		fields := strings.Fields(mount) // the fifth is where it is mounted, the sixth how
		if fields[4] == "/" && !strings.HasPrefix(fields[5], "ro,") {
			t.Errorf("the root of the connector can be written: %s", mount)
		}
	}
}

// controlPlane answers a connector's greeting and never has work for it.
type controlPlane struct {
	host        string
	secret      string // of a client that may connect
	certificate *x509.Certificate
	asked       chan struct{} // closed when a connector first asks for work

	once sync.Once
	mu   sync.Mutex
	body []byte // of the greeting
}

func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := json.Marshal(map[string]string{
		"kty": "OKP", "crv": "Ed25519",
		"x": base64.RawURLEncoding.EncodeToString(public),
		"d": base64.RawURLEncoding.EncodeToString(private.Seed()),
	})
	if err != nil {
		t.Fatal(err)
	}
	plane := &controlPlane{
		secret: "secret-token:conductorone.com:v1:" + base64.RawURLEncoding.EncodeToString(key),
		asked:  make(chan struct{}),
	}
	server := httptest.NewUnstartedServer(plane)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	plane.host = server.Listener.Addr().String()
	plane.certificate = server.Certificate()
	return plane
}

func (p *controlPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/auth/v1/token":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token": "t", "token_type": "Bearer", "expires_in": 600}`)
	case strings.HasSuffix(r.URL.Path, ".BatonService/Hello"):
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		p.body = body
		p.mu.Unlock()
		// An empty answer, as gRPC writes it.
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5))
		w.Header().Set("Grpc-Status", "0")
	default: // a question for work, which waits
		p.once.Do(func() { close(p.asked) })
		<-r.Context().Done()
	}
}

func (p *controlPlane) hostID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.body)
}

// writeCA puts a certificate where the pod would see a mounted ConfigMap.
func writeCA(t *testing.T, certificate *x509.Certificate) {
	t.Helper()
	folder := filepath.Join(image(t).root, "ca")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	if err := os.WriteFile(filepath.Join(folder, "ca.crt"), file, 0o644); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, listener.Close()); err != nil {
		t.Fatal(err)
	}
	return port
}

const enterEnv = "ENTER_IMAGE"

// inImage is the image's binary, to be run as a container engine would: its
// file system alone and read-only, its user, no privileges, an empty /tmp.
func inImage(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can run a program from the image's file system")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"/baton-airflow"}, args...)...)
	command.Env = append(slices.Clone(environ), enterEnv+"="+image(t).root)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return command
}

// enter makes root the file system of this process, which has a mount
// namespace of its own, and becomes the program args[0] in it. It returns only
// on failure.
func enter(root string, args []string) error {
	tmp, proc := filepath.Join(root, "tmp"), filepath.Join(root, "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		options              string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{root, root, "", unix.MS_BIND, ""},
		{"/proc", proc, "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", tmp, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=1777"},
		{"", root, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, step := range []func() error{
		func() error { return unix.Chroot(root) },
		func() error { return os.Chdir("/tmp") },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(65532) },
		func() error { return syscall.Setuid(65532) }, // and all capabilities end
		func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
		func() error { return os.Unsetenv(enterEnv) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return syscall.Exec(args[0], args, os.Environ())
}
