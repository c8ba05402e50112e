// Package audit is the log of every decision and change: append-only, written in
// the transaction of what it tells of, and kept as a Merkle tree whose signed
// checkpoints lie outside the database too, so that nothing can be taken out or
// altered unnoticed.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Actor is whoever does something. Every exported method of a service takes one.
type Actor struct {
	Kind string `json:"kind"` // operator, system, connector, person, visitor, client
	ID   string `json:"id"`
	Name string `json:"name"`

	Roles uint16 `json:"-"` // a person's product roles, as identity.Roles reads them; of the moment, and not of the record
}

// Object is what something is done to.
type Object struct {
	Kind string `json:"kind"` // app, connector, account, grant, …
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Event is one decision or change.
type Event struct {
	Actor  Actor
	Action string // object.verb in the past, such as connector.added
	Object Object
	AppID  string
	Detail any // becomes JSON; holds no secrets
}

// Entry is an event as the log keeps it.
type Entry struct {
	Seq       int64 // place in the log, from 0
	ID        string
	At        time.Time
	Actor     Actor
	Action    string
	Object    Object
	AppID     string
	RequestID string          // of the request or task that did it, as in the server's log; or ''
	Detail    json.RawMessage // as it was written
}

// stamp is the form of an entry's time: always with microseconds.
const stamp = "2006-01-02T15:04:05.000000Z"

// record is an entry as it is hashed; its fields are in the order of the JSON.
type record struct {
	Seq       int64           `json:"seq"`
	ID        string          `json:"id"`
	At        string          `json:"at"`
	Actor     Actor           `json:"actor"`
	Action    string          `json:"action"`
	Object    Object          `json:"object"`
	AppID     string          `json:"app_id"`
	RequestID string          `json:"request_id"`
	Detail    json.RawMessage `json:"detail,omitempty"`
}

// Record is the entry in the one form that is hashed, exported and proved: a
// line of JSON without white space,
//
//	{"seq":0,"id":"…","at":"2026-01-02T03:04:05.000006Z","actor":{"kind":"…","id":"…","name":"…"},"action":"…",
//	 "object":{"kind":"…","id":"…","name":"…"},"app_id":"…","request_id":"…","detail":…}
//
// whose texts are escaped as encoding/json does without HTML escaping, and whose
// detail is the bytes that were kept. Its hash in the tree is that of RFC 6962:
// SHA-256 of a zero byte and the line. A later version may add fields before
// detail, and only where they aren't empty.
func (e Entry) Record() []byte {
	head := encode(record{
		Seq: e.Seq, ID: e.ID, At: e.At.UTC().Format(stamp), Actor: e.Actor, Action: e.Action, Object: e.Object,
		AppID: e.AppID, RequestID: e.RequestID,
	})
	// The detail is put in by hand: the encoder would change its white space, and
	// so hide a change of it.
	head = append(head[:len(head)-1], `,"detail":`...)
	head = append(head, e.Detail...)
	return append(head, '}')
}

// MarshalJSON gives the record.
func (e Entry) MarshalJSON() ([]byte, error) { return e.Record(), nil }

// parseRecord reads a record back; what differs from its one form is refused.
func parseRecord(line []byte) (Entry, error) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return Entry{}, err
	}
	at, err := time.Parse(stamp, r.At)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Seq: r.Seq, ID: r.ID, At: at, Actor: r.Actor, Action: r.Action, Object: r.Object,
		AppID: r.AppID, RequestID: r.RequestID, Detail: r.Detail,
	}
	if !bytes.Equal(e.Record(), line) {
		return Entry{}, errors.New("it isn't in the form that is hashed")
	}
	return e, nil
}

// encode writes plain JSON; what it is given can always be written.
func encode(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // of texts and numbers
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// maxDetail is the most that the detail of an event may hold, in bytes of JSON.
const maxDetail = 1 << 20

// encodeDetail writes what an event carries as JSON that both databases take.
func encodeDetail(detail any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(detail); err != nil {
		return nil, err
	}
	text := clean(strings.TrimSuffix(out.String(), "\n"))
	if len(text) > maxDetail {
		return nil, fmt.Errorf("its detail has %d bytes, and may have %d", len(text), maxDetail)
	}
	return json.RawMessage(text), nil
}

// clean makes a text that both databases take, since an event must not be lost
// for the odd name of an account.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
