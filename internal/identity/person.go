package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"airlock/internal/base/fault"
	"airlock/internal/base/id"
)

// The kinds of person.
const (
	Human         = "human"
	ServicePerson = "service" // a program that is known by name
	SystemPerson  = "system"
)

// The states of a person. One who left a directory is deleted, and stays on
// record, since accounts and decisions point at them.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
	Deleted  = "deleted"
)

// The sources of a person, beside the ids of directories' apps.
const (
	SourceCSV = "csv"
)

// Person is somebody whom accounts may belong to.
type Person struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Email      string         `json:"email"`
	Username   string         `json:"username"`
	EmployeeID string         `json:"employee_id"`
	Department string         `json:"department"`
	JobTitle   string         `json:"job_title"`
	ManagerID  string         `json:"manager_id"` // a person, or ''
	Kind       string         `json:"kind"`       // human, service, system
	Status     string         `json:"status"`     // enabled, disabled, deleted
	Source     string         `json:"source"`     // csv, or the id of a directory's app
	ExternalID string         `json:"external_id"`
	Profile    map[string]any `json:"profile"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
}

// signsIn reports whether a person may sign in, if they have a way to.
func (p Person) signsIn() bool { return p.Status == Enabled && p.Kind == Human }

// Keys is what a person is found by: of a person, or of an account that looks
// for one.
type Keys struct {
	Emails      []string
	Usernames   []string
	EmployeeIDs []string
}

// The kinds of key, as they are kept. A local part is what stands before the @
// of an e-mail.
const (
	byEmail      = "email"
	byUsername   = "username"
	byEmployeeID = "employee_id"
	byLocalPart  = "local_part"
	byName       = "name"
)

// personKey is one thing that a person is found by, folded.
type personKey struct{ kind, value string }

// Fold makes texts that differ only in the case of their letters, or in the
// space around them, equal.
func Fold(text string) string {
	return strings.Map(func(letter rune) rune {
		// Letters that are the same but for their case form a ring. Its smallest one
		// stands for all, or the small letter to that if it is of the ring.
		least := letter
		for next := unicode.SimpleFold(letter); next != letter; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		small := unicode.ToLower(least)
		for next := unicode.SimpleFold(least); next != least; next = unicode.SimpleFold(next) {
			if next == small {
				return small
			}
		}
		return least
	}, strings.TrimSpace(text))
}

// folded is a list without empty texts and without those that fold to the same.
// What is longer than any real one isn't looked for, nor is more than a few.
func folded(list []string) []string {
	const longest, most = 320, 50
	var out []string
	for _, text := range list {
		text = Fold(text)
		if text != "" && len(text) <= longest && len(out) < most && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// localParts are the parts before the @ of folded e-mails.
func localParts(emails []string) []string {
	var out []string
	for _, email := range emails {
		if local, _, ok := strings.Cut(email, "@"); ok && local != "" && !slices.Contains(out, local) {
			out = append(out, local)
		}
	}
	return out
}

// all are the keys of a person, sorted.
func (k Keys) all(name string) []personKey {
	var out []personKey
	add := func(kind string, values []string) {
		for _, value := range values {
			out = append(out, personKey{kind, value})
		}
	}
	emails := folded(k.Emails)
	add(byEmail, emails)
	add(byLocalPart, localParts(emails))
	add(byUsername, folded(k.Usernames))
	add(byEmployeeID, folded(k.EmployeeIDs))
	add(byName, folded([]string{name}))
	slices.SortFunc(out, func(a, b personKey) int {
		if kind := strings.Compare(a.kind, b.kind); kind != 0 {
			return kind
		}
		return strings.Compare(a.value, b.value)
	})
	return out
}

// wanted are the keys of persons that an account with these keys may belong to,
// by how sure that is: the first group is narrow, the second is added where
// matching is broad. There, a username may also be the local part of a person's
// e-mail, or the other way round, or be an e-mail itself.
func (k Keys) wanted() (narrow, broad []personKey) {
	emails, usernames := folded(k.Emails), folded(k.Usernames)
	for _, email := range emails {
		narrow = append(narrow, personKey{byEmail, email})
	}
	for _, number := range folded(k.EmployeeIDs) {
		narrow = append(narrow, personKey{byEmployeeID, number})
	}
	for _, name := range usernames {
		broad = append(broad, personKey{byUsername, name}, personKey{byLocalPart, name}, personKey{byEmail, name})
	}
	for _, local := range localParts(emails) {
		broad = append(broad, personKey{byUsername, local})
	}
	return narrow, broad
}

// groups are the keys by which a person is looked for, the better ones first.
func (k Keys) groups(broad bool) [][]personKey {
	narrow, wide := k.wanted()
	if !broad {
		return [][]personKey{narrow}
	}
	return [][]personKey{narrow, wide}
}

// owner is whose an account with these keys is, by who has them.
func (k Keys) owner(found map[personKey][]string, broad bool) Owner {
	for _, group := range k.groups(broad) {
		var persons []string
		by := ""
		for _, key := range group {
			for _, person := range found[key] {
				if !slices.Contains(persons, person) {
					persons = append(persons, person)
				}
				if by == "" {
					by = key.kind
				}
			}
		}
		switch {
		case len(persons) > 1:
			return Owner{}
		case len(persons) == 1 && by == byLocalPart:
			return Owner{persons[0], byUsername}
		case len(persons) == 1:
			return Owner{persons[0], by}
		}
	}
	return Owner{}
}

// unseen finds the first character of a text that a reader doesn't see: a control
// or format character, such as one that turns the direction of what follows, a
// separator of lines, a filler. What has one looks like something that it isn't.
func unseen(text string) (rune, bool) {
	for _, letter := range text {
		if hidden(letter) {
			return letter, true
		}
	}
	return 0, false
}

func hidden(letter rune) bool {
	return unicode.In(letter, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

// Line is a text of one line that somebody typed, as it is kept: without blanks
// around it, and with single ones within. What has characters that can't be seen,
// or more than so many bytes, is Invalid; what is what the error calls it.
func Line(what, text string, most int) (string, error) {
	text = strings.TrimSpace(text)
	if !utf8.ValidString(text) {
		return "", fault.New(fault.Invalid, "%s isn't UTF-8 text", what)
	}
	if letter, found := unseen(text); found {
		return "", fault.New(fault.Invalid, "%s %s has the character U+%04X, which can't be seen; leave it out", what, quoted(text), letter)
	}
	if text = strings.Join(strings.Fields(text), " "); len(text) > most {
		return "", fault.New(fault.Invalid, "%s has %d bytes, and may have %d: %s", what, len(text), most, quoted(text))
	}
	return text, nil
}

// Name is a Line that somebody gives something as its name: "an app", "a connector".
// There must be one, and it mustn't look like an id.
func Name(of, text string) (string, error) {
	name, err := Line("the name of "+of, text, 200)
	if known, ours := errors.AsType[*fault.Error](err); ours {
		return "", known.At("name")
	}
	switch {
	case name == "":
		return "", fault.New(fault.Invalid, "%s needs a name", of).At("name")
	case id.Valid(name):
		return "", fault.New(fault.Invalid, "the name of %s can't be %q: that looks like an id", of, name).At("name")
	}
	return name, nil
}

// Shown makes a Line of a text that nobody here typed, such as a connector's name
// for something: what can't be seen is left out, and what is too long is cut.
func Shown(text string, most int) string {
	text = strings.Map(func(letter rune) rune {
		switch {
		case unicode.IsSpace(letter):
			return ' '
		case hidden(letter):
			return -1
		}
		return letter
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if text = strings.Join(strings.Fields(text), " "); len(text) > most {
		text = strings.ToValidUTF8(text[:most-len("…")], "") + "…"
	}
	return text
}

// quoted quotes a text for an error, the beginning of a long one.
func quoted(text string) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(text[:most], ""))
	}
	return fmt.Sprintf("%q", text)
}
