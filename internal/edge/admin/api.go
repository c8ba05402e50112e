package admin

import (
	"encoding/json"
	"time"
)

// Named is a request about one thing: a connector or an app by name or id.
type Named struct {
	Name string `json:"name"`
}

// CatalogEntry is a kind of connector that can be hosted here.
type CatalogEntry struct {
	Name        string    `json:"name"`
	DisplayName string    `json:"display_name"`
	Version     string    `json:"version"`
	HelpURL     string    `json:"help_url"`
	Problem     string    `json:"problem,omitempty"` // why it can't be used, in words
	Settings    []Setting `json:"settings"`
}

// Setting is a field of a connector's settings.
type Setting struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Required    bool     `json:"required"`
	Secret      bool     `json:"secret"`
	Default     string   `json:"default,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// AddConnector asks for a new connector. Secret settings are in Settings too:
// the server knows from the catalog which they are.
type AddConnector struct {
	Catalog   string            `json:"catalog"`
	App       string            `json:"app"`
	Name      string            `json:"name"`
	Owners    []string          `json:"owners"`
	Hosted    bool              `json:"hosted"`
	Directory bool              `json:"directory"`
	Settings  map[string]string `json:"settings"`
}

// Credentials are what a self-hosted connector is started with, told once.
type Credentials struct {
	Connector    Connector `json:"connector"`
	ClientID     string    `json:"client_id,omitempty"`
	ClientSecret string    `json:"client_secret,omitempty"`
	CADir        string    `json:"ca_dir,omitempty"` // a folder that holds ca.pem alone, where the CA is private
	CA           string    `json:"ca,omitempty"`     // PEM
}

// Connector is a connector as commands show it.
type Connector struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	App         string            `json:"app"`
	AppID       string            `json:"app_id"`
	Catalog     string            `json:"catalog"`
	Hosted      bool              `json:"hosted"`
	Status      string            `json:"status"`           // Not connected, Syncing, Connected, Error, Paused
	Detail      string            `json:"detail,omitempty"` // of the status: cause and next step, or how far a sync is
	Next        string            `json:"next,omitempty"`   // of an error: the commands that help
	Schedule    string            `json:"schedule"`
	NextSync    *time.Time        `json:"next_sync"`
	LastSync    *time.Time        `json:"last_sync"` // the last that was applied
	Version     string            `json:"version,omitempty"`
	Host        string            `json:"host,omitempty"`
	Seen        *time.Time        `json:"seen"`
	Owners      []string          `json:"owners"`
	Settings    map[string]string `json:"settings"`
	Secrets     []string          `json:"secrets"` // names of those that are set
	AnomalyStop bool              `json:"anomaly_stop"`
	Created     time.Time         `json:"created"`
	Removed     *time.Time        `json:"removed,omitempty"`
	Clients     []string          `json:"clients,omitempty"` // without those that were revoked
	Syncs       []Sync            `json:"syncs,omitempty"`   // newest first
}

// Sync is one sync as commands show it.
type Sync struct {
	ID         string          `json:"id"`
	State      string          `json:"state"`
	Kind       string          `json:"kind"`
	Cause      string          `json:"cause"`
	Created    time.Time       `json:"created"`
	Started    *time.Time      `json:"started"`
	Finished   *time.Time      `json:"finished"`
	Host       string          `json:"host,omitempty"`
	Version    string          `json:"version,omitempty"`
	FileHash   string          `json:"file_hash,omitempty"`
	FileSize   int64           `json:"file_size,omitempty"`
	Progress   json.RawMessage `json:"progress,omitempty"`
	Counts     json.RawMessage `json:"counts,omitempty"`
	Totals     json.RawMessage `json:"totals,omitempty"`
	Changes    json.RawMessage `json:"changes,omitempty"`
	Anomaly    json.RawMessage `json:"anomaly,omitempty"`
	Error      string          `json:"error,omitempty"`
	Next       string          `json:"next,omitempty"` // of one that was followed until it failed: the commands that help
	Confirmed  string          `json:"confirmed_by,omitempty"`
	SourceFrom *time.Time      `json:"source_began,omitempty"`
	SourceTo   *time.Time      `json:"source_ended,omitempty"`
}

// SetConnector changes a connector; what is nil stays.
type SetConnector struct {
	Name        string            `json:"name"`
	Rename      *string           `json:"rename"`
	Settings    map[string]string `json:"settings"`
	Unset       []string          `json:"unset"`
	Owners      *[]string         `json:"owners"`
	AnomalyStop *bool             `json:"anomaly_stop"`
	Debug       *bool             `json:"debug"`
}

// ScheduleConnector sets when a connector syncs: an interval, or cron and zone.
type ScheduleConnector struct {
	Name  string        `json:"name"`
	Every time.Duration `json:"every"`
	Cron  string        `json:"cron"`
	Zone  string        `json:"zone"`
}

// PauseConnector stops a connector's syncs.
type PauseConnector struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// SyncConnector asks for a sync, and waits for its end if told to.
type SyncConnector struct {
	Name    string        `json:"name"`
	Wait    bool          `json:"wait"`
	Timeout time.Duration `json:"timeout"` // 0 is without end
}

// Decide confirms a sync that is held back, and waits for its end if told to.
type Decide struct {
	Name    string        `json:"name"`
	Wait    bool          `json:"wait"`
	Timeout time.Duration `json:"timeout"` // 0 is without end
}

// Logs asks for a connector's log lines.
type Logs struct {
	Name   string `json:"name"`
	Last   int    `json:"last"`
	Follow bool   `json:"follow"`
}

// SyncFile asks for what a connector sent for a sync: its .c1z file, or its debug
// log. Without a sync it is the newest that has one.
type SyncFile struct {
	Name string `json:"name"`
	Sync string `json:"sync"`
	Log  bool   `json:"log"`
}

// LogLine is a line that a connector logged.
type LogLine struct {
	At      time.Time       `json:"at"`
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields,omitempty"`
}

// ChangeAccess asks for a grant or a revoke.
type ChangeAccess struct {
	App         string        `json:"app"`
	Entitlement string        `json:"entitlement"`
	Account     string        `json:"account"`
	Revoke      bool          `json:"revoke"`
	Why         string        `json:"why"`
	Wait        bool          `json:"wait"`
	Timeout     time.Duration `json:"timeout"`
}

// Change is a change of access as commands show it.
type Change struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"` // grant, revoke
	App         string     `json:"app"`
	Entitlement string     `json:"entitlement"`
	Account     string     `json:"account"`
	State       string     `json:"state"` // running, done, verified, failed
	Waits       string     `json:"waits_for,omitempty"`
	Error       string     `json:"error,omitempty"`
	Created     time.Time  `json:"created"`
	Done        *time.Time `json:"done"`
	Verified    *time.Time `json:"verified"`
}

// ShowChange asks for a change of access, and waits for its end if told to.
type ShowChange struct {
	ID      string        `json:"id"`
	Wait    bool          `json:"wait"`
	Timeout time.Duration `json:"timeout"`
}

// ListChanges asks for the last changes of access.
type ListChanges struct {
	Open bool `json:"open"`
	Last int  `json:"last"`
}

// Export asks for a list: accounts, entitlements, grants or people. Accounts
// leaves out grants of what isn't an account.
type Export struct {
	What     string `json:"what"`
	App      string `json:"app"`
	Accounts bool   `json:"accounts"`
}

// Ingest asks that an uploaded .c1z file becomes an app's inventory.
type Ingest struct {
	App     string        `json:"app"`
	Wait    bool          `json:"wait"`
	Timeout time.Duration `json:"timeout"`
}

// App is an app as commands show it.
type App struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Managed     bool       `json:"managed"`
	Source      string     `json:"source"`
	Directory   bool       `json:"directory"`
	Matching    string     `json:"matching"`
	Description string     `json:"description,omitempty"`
	Owners      []string   `json:"owners"`
	Synced      *time.Time `json:"synced"`
}

// AddApp asks for an app without a connector.
type AddApp struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Owners      []string `json:"owners"`
}

// SetApp changes an app; what is nil stays.
type SetApp struct {
	Name              string    `json:"name"`
	Owners            *[]string `json:"owners"`             // people
	OwnerEntitlements *[]string `json:"owner_entitlements"` // whoever holds them
	Matching          *string   `json:"matching"`
	Directory         *bool     `json:"directory"`
}

// RenameApp gives an app another name.
type RenameApp struct {
	Name string `json:"name"`
	New  string `json:"new"`
}

// Held is an app with the numbers of what would go with it.
type Held struct {
	App          string `json:"app"`
	Accounts     int64  `json:"accounts"`
	Resources    int64  `json:"resources"`
	Entitlements int64  `json:"entitlements"`
	Grants       int64  `json:"grants"`
	People       int64  `json:"people"` // whom it told of as a directory: they stay
}

// LinkAccount says by hand whose an account is; no person says that it is nobody's.
type LinkAccount struct {
	App     string `json:"app"`
	Account string `json:"account"`
	Person  string `json:"person"`
}

// AuditTail asks for the audit log's last events, and for those to come.
type AuditTail struct {
	Last   int  `json:"last"`
	Follow bool `json:"follow"`
}

// Finding is what the server says of one thing when the doctor asks it.
type Finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Words string `json:"words"`
}
