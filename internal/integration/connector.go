// Package integration holds connectors: how they are set up and what state they
// are in, the queue of their tasks, their syncs, and the files and log lines
// they send.
package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/robfig/cron/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"airlock/internal/base/fault"
)

// Connector is a Baton connector that reports to us. Hosted is one that we run;
// the others run elsewhere and call us with their client's id and secret.
type Connector struct {
	ID          string
	AppID       string
	Name        string
	Catalog     string // the binary's name without baton-, or AnyCatalog
	Learned     string // what it is, as its Hello tells
	Hosted      bool
	Settings    map[string]string // what isn't secret; nil where a hosted one has yet to be given some
	Secrets     []string          // names of the secret fields that are set
	SettingsAt  time.Time         // when a setting changed last
	Paused      Pause
	Schedule    Schedule
	NextSyncAt  time.Time
	AnomalyStop bool            // a sync that would remove much waits for somebody
	Debug       bool            // its debug log comes with each sync
	Metadata    json.RawMessage // c1.connector.v2.ConnectorMetadata of its last Hello, or nothing
	Version     string
	Package     string
	Host        string // that called last
	HelloAt     time.Time
	SeenAt      time.Time
	Problem     Problem
	CreatedAt   time.Time
	RemovedAt   time.Time
}

// AnyCatalog is the catalog name of whatever connector runs elsewhere: what it is
// comes with its Hello.
const AnyCatalog = "baton"

// Kind is what a connector is, as packs name it: the binary's name without baton-.
func (c Connector) Kind() string {
	if c.Catalog == AnyCatalog && c.Learned != "" {
		return c.Learned
	}
	return c.Catalog
}

// Unset reports whether a hosted connector has yet to be given its settings, and so
// isn't started.
func (c Connector) Unset() bool { return c.Hosted && c.Settings == nil }

const unsetWords = "open Settings, Edit and Save its settings"

// Pause is since when, and why, a connector is paused. A paused connector gets no
// syncs; changes of access still go through it.
type Pause struct {
	At  time.Time
	Why string
}

// Problem is what is wrong with a connector: a kind, and cause and next step in
// words. The zero Problem is none.
type Problem struct {
	Kind  ProblemKind
	Words string
	At    time.Time
}

// ProblemKind is a kind of problem.
type ProblemKind string

// The kinds of problem. The first two are told by whoever hosts the connector.
const (
	BinaryMissing ProblemKind = "binary_missing"
	Crashes       ProblemKind = "crashes"
	Silent        ProblemKind = "silent"
	NoChanges     ProblemKind = "provisioning_off"
	Refused       ProblemKind = "credentials"
	Unreachable   ProblemKind = "unreachable"
	Stuck         ProblemKind = "stuck" // a sync tries again and again
	SyncFailed    ProblemKind = "sync_failed"
	Held          ProblemKind = "held"
	DiskFull      ProblemKind = "disk_full"
)

// clearedByHello are the problems that are over when the connector starts anew.
var clearedByHello = []ProblemKind{BinaryMissing, Crashes, Silent, NoChanges}

// Status is what a connector is doing, in the words of the pages.
type Status string

// The states of a connector.
const (
	NotConnected Status = "Not connected"
	Syncing      Status = "Syncing"
	Connected    Status = "Connected"
	Errored      Status = "Error"
	Paused       Status = "Paused"
)

// Status is the state of a connector, given whether one of its syncs is open
// (waits, runs or is being applied). A problem stands until a sync succeeds, so
// that what fails each hour doesn't look well in between.
func (c Connector) Status(syncing bool) Status {
	switch {
	case !c.Paused.At.IsZero():
		return Paused
	case c.Problem.Kind != "":
		return Errored
	case c.HelloAt.IsZero():
		return NotConnected
	case syncing:
		return Syncing
	}
	return Connected
}

// Words says more of a state than its name: why it is so, and what to do.
func (c Connector) Words(status Status) string {
	switch status {
	case Paused:
		return c.Paused.Why
	case Errored:
		return c.Problem.Words
	case NotConnected:
		if c.Unset() {
			return unsetWords
		}
		if c.Hosted {
			return "it is being started"
		}
		return "start it with its BATON_CLIENT_ID and BATON_CLIENT_SECRET"
	case Syncing, Connected:
	}
	return ""
}

// goesOn ends the problem that a sync was stuck, and reports whether there was
// such.
func (c *Connector) goesOn() bool {
	if c.Problem.Kind != Stuck {
		return false
	}
	c.Problem = Problem{}
	return true
}

// Removed reports whether the connector was removed.
func (c Connector) Removed() bool { return !c.RemovedAt.IsZero() }

// Capabilities are what the connector said it can do. They are empty before its
// first Hello.
func (c Connector) Capabilities() *v2.ConnectorCapabilities { return c.said().GetCapabilities() }

// said is what the connector said of itself; empty before its first Hello.
func (c Connector) said() *v2.ConnectorMetadata {
	var metadata v2.ConnectorMetadata
	if len(c.Metadata) == 0 || (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(c.Metadata, &metadata) != nil {
		return &v2.ConnectorMetadata{}
	}
	return &metadata
}

// Targets reports whether single resources of a type can be synced. A connector
// that can't silently leaves them out of the file.
func (c Connector) Targets(resourceType string) bool {
	for _, one := range c.Capabilities().GetResourceTypeCapabilities() {
		if one.GetResourceType().GetId() == resourceType {
			return slices.Contains(one.GetCapabilities(), v2.Capability_CAPABILITY_TARGETED_SYNC)
		}
	}
	return false
}

func hasEvents(capabilities *v2.ConnectorCapabilities) bool {
	return slices.ContainsFunc(capabilities.GetConnectorCapabilities(), func(c v2.Capability) bool {
		return c == v2.Capability_CAPABILITY_EVENT_FEED || c == v2.Capability_CAPABILITY_EVENT_FEED_V2
	})
}

// Schedule says when a connector syncs all: at an interval, or at the times of a
// cron line of five fields in a zone. The zero Schedule is each hour.
type Schedule struct {
	Every time.Duration
	Cron  string
	Zone  string // of the IANA; "" is UTC
}

// The bounds of an interval between two full syncs.
const (
	usualInterval    = time.Hour
	shortestInterval = 30 * time.Minute
	longestInterval  = 31 * 24 * time.Hour
)

// Checked is the schedule as it is kept, or an error that says what is wrong.
func (s Schedule) Checked() (Schedule, error) {
	switch {
	case s.Cron == "" && s.Zone != "":
		return s, fault.New(fault.Invalid, "a time zone goes with a cron line; an interval has none").At("zone")
	case s.Cron == "" && s.Every == 0:
		return Schedule{Every: usualInterval}, nil
	case s.Cron != "" && s.Every != 0:
		return s, fault.New(fault.Invalid, "give an interval or a cron line, not both").At("every")
	case s.Cron == "" && (s.Every < shortestInterval || s.Every > longestInterval):
		return s, fault.New(fault.Invalid, "the interval between two syncs is %s; it must be %s to %s", s.Every, shortestInterval, longestInterval).At("every")
	case s.Cron == "":
		return Schedule{Every: s.Every.Truncate(time.Second)}, nil
	}
	s.Cron = strings.Join(strings.Fields(s.Cron), " ")
	s.Zone = cmp.Or(s.Zone, "UTC")
	times, zone, err := s.times()
	if err != nil {
		return s, err
	}
	// The next few times tell whether it is ever due, and not too often.
	at := times.Next(time.Now().In(zone))
	for range 50 {
		next := times.Next(at)
		if at.IsZero() || next.IsZero() {
			return s, fault.New(fault.Invalid, "the cron line %q is never due", s.Cron).At("cron")
		}
		if gap := next.Sub(at); gap < shortestInterval {
			return s, fault.New(fault.Invalid, "the cron line %q is due again after %s; there must be at least %s between two syncs", s.Cron, gap, shortestInterval).At("cron")
		}
		at = next
	}
	return s, nil
}

func (s Schedule) times() (cron.Schedule, *time.Location, error) {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "there is no time zone %q; give one such as Europe/Vienna", s.Zone).At("zone")
	}
	if strings.Contains(s.Cron, "TZ=") {
		return nil, nil, fault.New(fault.Invalid, "the cron line %q carries a zone; give that apart", s.Cron).At("cron")
	}
	times, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(s.Cron)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the cron line %q can't be read: %s", s.Cron, err).At("cron")
	}
	return times, zone, nil
}

// Next is when a sync is due after one that was asked for at a time.
func (s Schedule) Next(after time.Time) time.Time {
	if s.Cron == "" {
		return after.Add(cmp.Or(s.Every, usualInterval))
	}
	times, zone, err := s.times()
	if err != nil { // it was checked; a zone may have vanished with an update of the system's
		return after.Add(24 * time.Hour)
	}
	return times.Next(after.In(zone)).UTC()
}

// Words says a schedule.
func (s Schedule) Words() string {
	if s.Cron == "" {
		return "every " + span(cmp.Or(s.Every, usualInterval))
	}
	return fmt.Sprintf("at %s (%s)", s.Cron, s.Zone)
}

// clean makes a text from the wire storable: no NUL, which PostgreSQL refuses,
// whole letters, and no longer than a number of bytes.
func clean(text string, most int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
