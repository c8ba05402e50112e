package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/fault"
	"airlock/internal/base/seal"
	"airlock/internal/edge/admin"
	"airlock/internal/ingest/pack"
)

// Settings are what a server is started with. Each has a variable of the
// environment; those that people set by hand have a flag of `airlock serve` too.
type Settings struct {
	Listen          string         // AIRLOCK_LISTEN: address and port of the one https port
	PublicURL       string         // AIRLOCK_PUBLIC_URL: what others call that port; Client IDs carry its host
	DataDir         string         // AIRLOCK_DATA_DIR
	DatabaseURL     string         // AIRLOCK_DATABASE_URL: postgres://…; "" is SQLite in the data directory
	ConnectorsDir   string         // AIRLOCK_CONNECTORS_DIR: the binaries baton-* that can be hosted
	PacksDir        string         // AIRLOCK_PACKS_DIR: data packs beside those built in
	TLS             string         // AIRLOCK_TLS: on, or off where a proxy ends TLS
	TLSCert         string         // AIRLOCK_TLS_CERT, AIRLOCK_TLS_KEY: PEM files of the operator's certificate
	TLSKey          string         //
	Proxies         []netip.Prefix // AIRLOCK_TRUSTED_PROXIES: whose X-Forwarded-For is believed
	Key             string         // AIRLOCK_KEY: the sealing keys, the current one first
	KeyFile         string         // AIRLOCK_KEY_FILE: or the file with them
	LogLevel        slog.Level     // AIRLOCK_LOG_LEVEL: debug, info, warn, error
	LogFormat       string         // AIRLOCK_LOG_FORMAT: json, text
	KeepFiles       time.Duration  // AIRLOCK_KEEP_FILES: how long .c1z files are kept
	KeepLogs        time.Duration  // AIRLOCK_KEEP_LOGS: how long connectors' log lines are kept
	KeepSyncs       time.Duration  // AIRLOCK_KEEP_SYNCS: how long the history of syncs is kept
	KeepGrants      time.Duration  // AIRLOCK_KEEP_GRANTS: how long past grants are kept
	SessionIdle     time.Duration  // AIRLOCK_SESSION_IDLE: after which a session ends that isn't used
	SessionAbsolute time.Duration  // AIRLOCK_SESSION_ABSOLUTE: after which each session ends
	MaxUpload       int64          // AIRLOCK_MAX_UPLOAD: bytes of a .c1z file
	ChildMemory     int64          // AIRLOCK_CONNECTOR_MEMORY: bytes that a hosted connector may use
	Organisation    string         // AIRLOCK_ORGANISATION: whose server it is, as the pages say
	Development     bool           // AIRLOCK_DEVELOPMENT: on shows the sheet of components at /dev/components
	Version         string
	Decoder         []string // the command that reads .c1z files in a process of its own; none reads them in this one

	public     *url.URL // PublicURL, checked
	connectors bool     // ConnectorsDir was named, and isn't the usual one
}

const day = 24 * time.Hour

// FromEnvironment reads settings from variables. What a flag gives already
// (what isn't empty in given) wins. All that is wrong is told at once, in an
// error of the kind Invalid. Of the environment's NAME=value, names that look
// like a setting and aren't one are wrong too.
func FromEnvironment(given Settings, getenv func(string) string, environment ...string) (Settings, error) {
	s := given
	problems := unknown(environment)
	text := func(target *string, name, usual string) {
		if *target == "" {
			*target = getenv(name)
		}
		if *target == "" {
			*target = usual
		}
	}
	duration := func(target *time.Duration, name string, usual, least time.Duration, takes string) {
		*target = usual
		value := getenv(name)
		if value == "" {
			return
		}
		parsed, err := daysOf(value)
		if err != nil || parsed < least {
			problems = append(problems, fmt.Errorf("%s is %q; give a time of %s", name, value, takes))
			return
		}
		*target = parsed
	}
	keep := func(target *time.Duration, name string, usual time.Duration) {
		duration(target, name, usual, day, "a day or more, such as 30d or 720h")
	}
	size := func(target *int64, name string, usual int64) {
		*target = usual
		value := getenv(name)
		if value == "" {
			return
		}
		parsed, err := bytesOf(value)
		if err != nil || parsed < 1<<20 {
			problems = append(problems, fmt.Errorf("%s is %q; give a size of 1MB or more, such as 512MB or 2GB", name, value))
			return
		}
		*target = parsed
	}

	text(&s.DataDir, "AIRLOCK_DATA_DIR", admin.DataDir(getenv))
	if absolute, err := filepath.Abs(s.DataDir); err == nil { // it is told to connectors, which run elsewhere
		s.DataDir = absolute
	}
	text(&s.Listen, "AIRLOCK_LISTEN", ":8443")
	text(&s.PublicURL, "AIRLOCK_PUBLIC_URL", "")
	text(&s.DatabaseURL, "AIRLOCK_DATABASE_URL", "")
	text(&s.ConnectorsDir, "AIRLOCK_CONNECTORS_DIR", "")
	s.connectors = s.ConnectorsDir != ""
	text(&s.ConnectorsDir, "AIRLOCK_CONNECTORS_DIR", besideProgram("connectors"))
	text(&s.PacksDir, "AIRLOCK_PACKS_DIR", "")
	text(&s.TLS, "AIRLOCK_TLS", "on")
	text(&s.TLSCert, "AIRLOCK_TLS_CERT", "")
	text(&s.TLSKey, "AIRLOCK_TLS_KEY", "")
	text(&s.Key, "AIRLOCK_KEY", "")
	text(&s.KeyFile, "AIRLOCK_KEY_FILE", filepath.Join(s.DataDir, "airlock.key"))
	text(&s.LogFormat, "AIRLOCK_LOG_FORMAT", "text")
	keep(&s.KeepFiles, "AIRLOCK_KEEP_FILES", 30*day)
	keep(&s.KeepLogs, "AIRLOCK_KEEP_LOGS", 30*day)
	keep(&s.KeepSyncs, "AIRLOCK_KEEP_SYNCS", 400*day)
	keep(&s.KeepGrants, "AIRLOCK_KEEP_GRANTS", 400*day)
	size(&s.MaxUpload, "AIRLOCK_MAX_UPLOAD", 2<<30)
	size(&s.ChildMemory, "AIRLOCK_CONNECTOR_MEMORY", 1<<30)
	duration(&s.SessionIdle, "AIRLOCK_SESSION_IDLE", time.Hour, 5*time.Minute, "five minutes or more, such as 30m or 8h")
	duration(&s.SessionAbsolute, "AIRLOCK_SESSION_ABSOLUTE", 12*time.Hour, 5*time.Minute, "five minutes or more, such as 12h or 7d")
	if s.SessionIdle > s.SessionAbsolute {
		if getenv("AIRLOCK_SESSION_IDLE") != "" {
			problems = append(problems, fmt.Errorf("AIRLOCK_SESSION_IDLE is %s, which would be without effect: each session ends after %s (AIRLOCK_SESSION_ABSOLUTE)",
				s.SessionIdle, s.SessionAbsolute))
		}
		s.SessionIdle = s.SessionAbsolute
	}

	text(&s.Organisation, "AIRLOCK_ORGANISATION", "")
	switch development := getenv("AIRLOCK_DEVELOPMENT"); development {
	case "", "off":
	case "on":
		s.Development = true
	default:
		problems = append(problems, fmt.Errorf("AIRLOCK_DEVELOPMENT is %q; it is on or off", development))
	}

	if level := getenv("AIRLOCK_LOG_LEVEL"); level != "" {
		if err := s.LogLevel.UnmarshalText([]byte(level)); err != nil {
			problems = append(problems, fmt.Errorf("AIRLOCK_LOG_LEVEL is %q; it is one of debug, info, warn, error", level))
		}
	}
	if s.LogFormat != "json" && s.LogFormat != "text" {
		problems = append(problems, fmt.Errorf("AIRLOCK_LOG_FORMAT is %q; it is json or text", s.LogFormat))
	}
	for one := range strings.FieldsFuncSeq(getenv("AIRLOCK_TRUSTED_PROXIES"), func(r rune) bool { return r == ',' || r == ' ' }) {
		prefix, err := netip.ParsePrefix(one)
		if address, bad := netip.ParseAddr(one); bad == nil {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("AIRLOCK_TRUSTED_PROXIES has %q; it takes addresses and networks such as 10.0.0.0/8", one))
			continue
		}
		s.Proxies = append(s.Proxies, prefix.Masked())
	}
	problems = append(problems, s.check()...)
	if err := errors.Join(problems...); err != nil {
		return s, fault.New(fault.Invalid, "%w", err)
	}
	return s, nil
}

// names are the variables of all settings.
var names = []string{
	"AIRLOCK_LISTEN", "AIRLOCK_PUBLIC_URL", "AIRLOCK_DATA_DIR", "AIRLOCK_DATABASE_URL", "AIRLOCK_CONNECTORS_DIR", "AIRLOCK_PACKS_DIR",
	"AIRLOCK_TLS", "AIRLOCK_TLS_CERT", "AIRLOCK_TLS_KEY", "AIRLOCK_TRUSTED_PROXIES", "AIRLOCK_KEY", "AIRLOCK_KEY_FILE",
	"AIRLOCK_LOG_LEVEL", "AIRLOCK_LOG_FORMAT", "AIRLOCK_KEEP_FILES", "AIRLOCK_KEEP_LOGS", "AIRLOCK_KEEP_SYNCS", "AIRLOCK_KEEP_GRANTS",
	"AIRLOCK_MAX_UPLOAD", "AIRLOCK_CONNECTOR_MEMORY", "AIRLOCK_SESSION_IDLE", "AIRLOCK_SESSION_ABSOLUTE", "AIRLOCK_ORGANISATION", "AIRLOCK_DEVELOPMENT",
}

// others are variables that begin like ours and aren't: those that Kubernetes
// sets in each pod for a service whose name begins with airlock, and the folder in
// which the scripts that build and test Airlock keep what they downloaded.
var others = regexp.MustCompile(`^AIRLOCK_((.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)|CACHE)$`)

// unknown finds names that look like a setting and aren't one: most often it is
// a slip, and the setting that was meant would be without effect.
func unknown(environment []string) (problems []error) {
	for _, pair := range environment {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "AIRLOCK_") || slices.Contains(names, name) || others.MatchString(name) {
			continue
		}
		nearest := slices.MinFunc(names, func(a, b string) int { return distance(a, name) - distance(b, name) })
		problems = append(problems, fmt.Errorf("%s is no setting; the nearest is %s, docs/operating.md lists them all", name, nearest))
	}
	return problems
}

// distance is how many letters must be changed, put in or taken out to make one
// word of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for n := range row {
		row[n] = n
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// check finds what is wrong with settings, and works out the public URL.
func (s *Settings) check() []error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	host, port, err := net.SplitHostPort(s.Listen)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
	}
	listens := err == nil
	if !listens {
		wrong("AIRLOCK_LISTEN is %q; give address and port, such as :8443 or 10.0.0.5:443", s.Listen)
	}
	if info, err := os.Stat(s.DataDir); err == nil && !info.IsDir() {
		wrong("AIRLOCK_DATA_DIR is %q, which is a file", s.DataDir)
	}
	switch info, err := os.Stat(s.ConnectorsDir); {
	case err == nil && !info.IsDir():
		wrong("AIRLOCK_CONNECTORS_DIR is %q, which is a file; it is a folder of programs baton-*", s.ConnectorsDir)
	case err != nil && s.connectors:
		wrong("AIRLOCK_CONNECTORS_DIR is %q, which can't be used: %w; make the folder, or leave the setting out if none is hosted", s.ConnectorsDir, reason(err))
	}
	if _, err := os.Stat(s.PacksDir); s.PacksDir != "" && err != nil {
		wrong("AIRLOCK_PACKS_DIR is %q, which can't be used: %w; make the folder, or leave the setting out", s.PacksDir, reason(err))
	} else if _, err := pack.Load(s.PacksDir); err != nil {
		wrong("AIRLOCK_PACKS_DIR: %w", err)
	}
	if info, err := os.Stat(s.KeyFile); s.Key == "" && err == nil && !info.Mode().IsRegular() {
		wrong("AIRLOCK_KEY_FILE is %q, which isn't a file", s.KeyFile)
	} else if _, err := os.Stat(filepath.Dir(s.KeyFile)); s.Key == "" && err != nil && filepath.Dir(s.KeyFile) != s.DataDir {
		wrong("AIRLOCK_KEY_FILE is %q, whose folder can't be used: %w", s.KeyFile, reason(err))
	}
	if s.Key != "" {
		if _, err := seal.OpenKeyring("", s.Key); err != nil {
			problems = append(problems, err) // it names the variable
		}
	}
	s.checkTLS(wrong)
	if s.DatabaseURL != "" {
		parsed, err := url.Parse(s.DatabaseURL)
		if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
			wrong("AIRLOCK_DATABASE_URL isn't a URL such as postgres://airlock@db.example.com/airlock; without it SQLite is used")
		}
	}
	if s.PublicURL == "" && listens {
		if port == "0" {
			wrong("AIRLOCK_LISTEN is %q, a port that changes with each start: give a port, or set AIRLOCK_PUBLIC_URL", s.Listen)
		}
		switch host {
		case "", "0.0.0.0", "::":
			host = "localhost"
		}
		s.PublicURL = "https://" + net.JoinHostPort(host, port)
	}
	if s.PublicURL != "" {
		s.checkPublic(wrong)
	}
	return problems
}

func (s *Settings) checkTLS(wrong func(string, ...any)) {
	own := s.TLSCert != "" || s.TLSKey != ""
	switch {
	case s.TLS == "off":
		if own {
			wrong("AIRLOCK_TLS is off, so AIRLOCK_TLS_CERT and AIRLOCK_TLS_KEY would be without use: take one or the other away")
		}
		if s.PublicURL == "" {
			wrong("AIRLOCK_TLS is off: set AIRLOCK_PUBLIC_URL to the https URL at which the proxy serves")
		}
	case s.TLS != "on":
		wrong("AIRLOCK_TLS is %q; it is on or off", s.TLS)
	case own && (s.TLSCert == "" || s.TLSKey == ""):
		wrong("AIRLOCK_TLS_CERT and AIRLOCK_TLS_KEY go together")
	case own:
		if _, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey); err != nil {
			wrong("AIRLOCK_TLS_CERT: %w", err)
		}
	}
}

// checkPublic brings the public URL into its one form: https, a host in ASCII
// and lower case, and a port unless that is 443.
func (s *Settings) checkPublic(wrong func(string, ...any)) {
	public, err := url.Parse(s.PublicURL)
	ascii := func(r rune) bool { return r > ' ' && r < 0x7f }
	switch {
	case err != nil || public.Scheme != "https" || public.Hostname() == "" || strings.Trim(public.Path, "/") != "" ||
		public.RawQuery != "" || public.Fragment != "" || public.User != nil:
		wrong("AIRLOCK_PUBLIC_URL is %q; it is https:// and a host, with a port if that isn't 443, and nothing after it", s.PublicURL)
	case strings.ContainsFunc(public.Hostname(), func(r rune) bool { return !ascii(r) }):
		wrong("AIRLOCK_PUBLIC_URL is %q; write its host as xn--…, as it stands in certificates", s.PublicURL)
	default:
		public.Path, public.Host = "", strings.TrimSuffix(strings.ToLower(public.Host), ":443")
		s.public, s.PublicURL = public, public.String()
	}
}

// reason is why a path can't be used, without the path.
func reason(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}

// local reports whether others than this machine can't call the public URL,
// though the server listens for them: Client IDs would carry a host that leads
// each connector to itself.
func (s *Settings) local() bool {
	host, _, err := net.SplitHostPort(s.Listen)
	alone := admin.Local(host) && host != "0.0.0.0" && host != "::"
	return err == nil && s.public != nil && admin.Local(s.public.Host) && !alone
}

// localWords say what that means and what to do.
const localWords = "a connector on another machine can't call it, and its Client ID would lead it there: set AIRLOCK_PUBLIC_URL before one is added"

// database is where the database is: a URL, or a file in the data directory.
func (s *Settings) database() string {
	if s.DatabaseURL != "" {
		return s.DatabaseURL
	}
	return filepath.Join(s.DataDir, "airlock.db")
}

// besideProgram is a folder beside the program's own file.
func besideProgram(name string) string {
	program, err := os.Executable()
	if err != nil {
		return name
	}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	return filepath.Join(filepath.Dir(program), name)
}

// daysOf reads a duration that may be in days, such as 30d.
func daysOf(text string) (time.Duration, error) {
	if number, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 15)
		return time.Duration(n) * day, err
	}
	return time.ParseDuration(text)
}

// bytesOf reads a size such as 512MB, in powers of 1024.
func bytesOf(text string) (int64, error) {
	for unit, factor := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if number, ok := strings.CutSuffix(strings.ToUpper(text), unit); ok {
			n, err := strconv.ParseUint(number, 10, 20)
			return int64(n) * factor, err
		}
	}
	return 0, errors.New("no unit")
}
