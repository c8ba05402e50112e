package hosting

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"airlock/internal/integration"
)

// Limits of what is kept of a child's log: so long a line, message and set of
// fields in bytes, and so many lines a second in the long run and at once.
const (
	maxLine     = 256 << 10
	maxMessage  = 4 << 10
	maxFields   = 8 << 10
	linesASec   = 100
	linesAtOnce = 900
)

// output is what one run of a program writes: lines on their way to the log, and
// what can be told from them. Writing to it never waits.
type output struct {
	host        *Host
	connectorID string
	secrets     *strings.Replacer
	limit       *rate.Limiter

	mu      sync.Mutex
	waiting []integration.LogLine
	leftOut int
	last    string // the last line that tells of an error
	counts  map[string]int64
	counted bool // since the counts were told
	retry   integration.Retry
	retried bool // since that was told
}

func newOutput(h *Host, connectorID string, secrets []string) *output {
	return &output{
		host: h, connectorID: connectorID, secrets: masked(secrets),
		limit: rate.NewLimiter(linesASec, linesAtOnce), counts: map[string]int64{},
	}
}

// mask stands where a secret stood.
const mask = "•••"

// masked makes what puts the mask in place of secrets, also of those that stand
// in JSON or in a URL, and of the lines of those that have several.
func masked(secrets []string) *strings.Replacer {
	var all []string
	for _, secret := range secrets {
		all = append(all, secret)
		if lines := strings.FieldsFunc(secret, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) > 1 {
			for _, line := range lines {
				if line = strings.TrimSpace(line); len(line) >= 8 { // a brace alone is no secret
					all = append(all, line)
				}
			}
		}
	}
	for _, secret := range slices.Clone(all) {
		inJSON, err := json.Marshal(secret)
		if err == nil {
			all = append(all, strings.Trim(string(inJSON), `"`))
		}
		all = append(all, url.QueryEscape(secret), url.PathEscape(secret))
	}
	// The longest first: one secret may begin with another.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range slices.Compact(all) {
		if secret != "" {
			pairs = append(pairs, secret, mask)
		}
	}
	return strings.NewReplacer(pairs...)
}

// lines cuts a stream into lines.
type lines struct {
	out     *output
	errors  bool // it is the stream for errors
	partial []byte
	skip    bool // the rest of a line that is too long
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		if room := maxLine - len(l.partial); !l.skip {
			l.partial = append(l.partial, part[:min(len(part), room)]...)
			l.skip = len(part) > room
		}
		if end < 0 {
			return n, nil
		}
		l.out.line(l.partial, l.errors)
		l.partial, l.skip, p = l.partial[:0], false, p[end+1:]
	}
}

// line takes a line: JSON as zap writes it, or any text.
func (o *output) line(raw []byte, isError bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return
	}
	line, fields := o.parse(raw, isError)
	if fields["grpc_log"] == true && line.Level == "info" { // how gRPC connects is nobody's business
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count(line.Message, fields)
	o.countRetry(line.Message, fields)
	if line.Level == "error" {
		o.last = line.Message
		if cause, ok := fields["error"].(string); ok {
			o.last += ": " + cause
		}
	}
	if !o.limit.Allow() || len(o.waiting) >= linesAtOnce {
		o.leftOut++
		return
	}
	o.waiting = append(o.waiting, line)
}

// parse reads a line, without its secrets.
func (o *output) parse(raw []byte, isError bool) (integration.LogLine, map[string]any) {
	line := integration.LogLine{At: time.Now().UTC(), Level: "info"}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil || fields["msg"] == nil {
		if isError {
			line.Level = "error"
		}
		line.Message = cut(o.secrets.Replace(strings.ToValidUTF8(string(raw), "?")), maxMessage)
		return line, nil
	}
	fields, _ = o.clean(fields).(map[string]any) // a map stays one
	text := func(name string) string {
		value, _ := fields[name].(string) // what isn't text is none
		delete(fields, name)
		return value
	}
	line.Message = cut(text("msg"), maxMessage)
	switch level := text("level"); level {
	case "debug", "info", "warn", "error":
		line.Level = level
	case "dpanic", "panic", "fatal":
		line.Level = "error"
	}
	if seconds, ok := fields["ts"].(json.Number); ok {
		if at, err := seconds.Float64(); err == nil && at > 0 && at < 1e11 {
			line.At = time.UnixMicro(int64(at * 1e6)).UTC()
		}
	}
	delete(fields, "ts")
	if len(fields) == 0 {
		return line, nil
	}
	if rest, err := json.Marshal(fields); err == nil && len(rest) <= maxFields {
		line.Fields = rest
	} else if rest, err = json.Marshal(map[string]string{"cut": cut(string(rest), maxFields/4)}); err == nil {
		line.Fields = rest
	}
	return line, fields
}

// clean takes the secrets out of a value, wherever they are in it.
func (o *output) clean(value any) any {
	switch v := value.(type) {
	case string:
		return o.secrets.Replace(v)
	case json.Number:
		if clean := o.secrets.Replace(v.String()); clean != v.String() {
			return clean
		}
	case []any:
		for n := range v {
			v[n] = o.clean(v[n])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, inner := range v {
			clean[o.secrets.Replace(key)] = o.clean(inner)
		}
		return clean
	}
	return value
}

// count keeps what a sync says of how far it is: baton-sdk v0.25.0,
// pkg/sync/progresslog and syncer.go.
func (o *output) count(message string, fields map[string]any) {
	if message == "Syncing resource types..." { // it begins
		clear(o.counts)
		o.counted = true
		o.retry, o.retried = integration.Retry{}, false
		return
	}
	kind, ok := map[string]string{
		"Synced resources": "resources", "Synced entitlements": "entitlements", "Syncing entitlements": "entitlements",
		"Synced grants": "grants", "Syncing grants": "grants",
	}[message]
	resourceType, known := fields["resource_type_id"].(string)
	if !ok || !known {
		return
	}
	for _, name := range []string{"count", "synced"} {
		if number, ok := fields[name].(json.Number); ok {
			if n, err := number.Int64(); err == nil && len(o.counts) < 1000 {
				o.counts[kind+"/"+resourceType] = n
				o.counted = true
				o.retry, o.retried = integration.Retry{}, false
			}
		}
	}
}

// countRetry keeps what a sync says of why it gets no further: baton-sdk v0.25.0,
// pkg/retry. The target system is asked with Validate first; what is tried again
// for a change of access is no sync's.
func (o *output) countRetry(message string, fields map[string]any) {
	if message == "Handling full sync task." {
		o.retry, o.retried = integration.Retry{}, false
		return
	}
	method := fields["grpc.method"]
	if message != "retrying operation" || method != nil && method != "Validate" {
		return
	}
	words, _ := fields["error"].(string) // without, it isn't known why
	o.retry = integration.Retry{First: method == "Validate", Times: o.retry.Times + 1, Error: cut(words, 2000)}
	o.retried = true
}

// note adds a line of our own.
func (o *output) note(level, message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, integration.LogLine{At: time.Now().UTC(), Level: level, Message: message, Fields: json.RawMessage(`{"by":"airlock"}`)})
}

// lastError is the last line that told of an error.
func (o *output) lastError() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return cut(o.last, 1000)
}

// flushAll hands over what was written, now and then, until ctx is over and all is.
func (o *output) flushAll(ctx context.Context) {
	ticker := time.NewTicker(o.host.config.Times.Flush)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			o.flush(last)
			cancel()
			return
		case <-ticker.C:
			o.flush(ctx)
		}
	}
}

func (o *output) flush(ctx context.Context) {
	o.mu.Lock()
	batch, leftOut, counted, retry, retried := o.waiting, o.leftOut, o.counted, o.retry, o.retried
	counts := maps.Clone(o.counts)
	o.waiting, o.leftOut, o.counted, o.retried = nil, 0, false, false
	o.mu.Unlock()
	if leftOut > 0 {
		detail, _ := json.Marshal(map[string]int{"lines": leftOut}) // numbers can be written
		batch = append(batch, integration.LogLine{At: time.Now().UTC(), Level: "warn", Message: "it logs too much: lines were left out", Fields: detail})
	}
	if len(batch) > 0 {
		if err := o.host.config.AppendLog(ctx, o.connectorID, batch); err != nil {
			o.host.config.Log.WarnContext(ctx, "couldn't keep the log of a hosted connector", "connector", o.connectorID, "lines", len(batch), "error", err)
		}
	}
	if counted {
		if err := o.host.config.ReadingCounts(ctx, o.connectorID, counts); err != nil {
			o.host.config.Log.WarnContext(ctx, "couldn't tell how far a sync is", "connector", o.connectorID, "error", err)
		}
	}
	if retried { // after the counts, which would end it
		if err := o.host.config.Retrying(ctx, o.connectorID, retry); err != nil {
			o.host.config.Log.WarnContext(ctx, "couldn't tell what keeps a sync", "connector", o.connectorID, "error", err)
		}
	}
}

// cut shortens a text to a number of bytes, and marks the cut.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
