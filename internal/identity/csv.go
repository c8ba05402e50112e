package identity

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"airlock/internal/base/fault"
)

const (
	maxCSV   = 64 << 20
	maxField = 4096 // bytes; a cell that isn't a value but a swallowed quote is longer
	maxValue = 320  // bytes in a column that we know; nobody is found by a longer text
)

// personRow is a line of a file of people. Columns that the file doesn't have
// aren't in its map, and change nothing.
type personRow struct {
	line    int
	columns map[string]string // email, name, …, trimmed
	profile map[string]string // other columns, by their headings
}

// columnOf is the column that a heading names, in whatever case, and with spaces,
// hyphens, underscores or without; false says that it goes into the profile.
func columnOf(heading string) (string, bool) {
	switch name := strings.NewReplacer(" ", "", "-", "", "_", "").Replace(Fold(heading)); name {
	case byEmail, byName, byUsername, "department", "manager", "status", "kind":
		return name, true
	case "employeeid":
		return byEmployeeID, true
	case "jobtitle":
		return "job_title", true
	}
	return strings.TrimSpace(heading), false
}

// rowErrors collects what is wrong with a file, so that it is mended at once.
type rowErrors struct {
	list []string
	more int
}

func (e *rowErrors) addf(line int, format string, args ...any) {
	if len(e.list) == 100 {
		e.more++
		return
	}
	e.list = append(e.list, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

func (e *rowErrors) count() int { return len(e.list) + e.more }

func (e *rowErrors) err() error {
	if len(e.list) == 0 {
		return nil
	}
	text := strings.Join(e.list, "\n")
	if e.more > 0 {
		text += fmt.Sprintf("\nand %d more", e.more)
	}
	return fault.New(fault.Invalid, "nobody was imported, since the file isn't right:\n%s", text)
}

// readPeople reads a file of people: CSV in UTF-8 with a heading row, separated
// by commas or, as some spreadsheets do, by semicolons.
func readPeople(r io.Reader) ([]personRow, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxCSV+1))
	if err != nil {
		broken := fault.New(fault.Invalid, "the file couldn't be read to its end; nobody was imported")
		broken.Err = err
		return nil, broken
	}
	if len(data) > maxCSV {
		return nil, fault.New(fault.TooLarge, "a file of people may have 64 MiB; nobody was imported")
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, fault.New(fault.Invalid, "the file is in UTF-16; save it as \"CSV UTF-8\"; nobody was imported")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, fault.New(fault.Invalid, "line %d isn't in UTF-8, but probably in Windows-1252; save the file as \"CSV UTF-8\"; nobody was imported", firstOddLine(data))
	}
	reader := csv.NewReader(bytes.NewReader(data))
	reader.FieldsPerRecord = -1
	if first, _, _ := bytes.Cut(data, []byte("\n")); bytes.Count(first, []byte(";")) > bytes.Count(first, []byte(",")) {
		reader.Comma = ';'
	}
	headings, err := reader.Read()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the file should begin with a row of headings such as email,name,employee_id; nobody was imported")
	}
	var wrong rowErrors
	if checkHeadings(headings, &wrong); len(wrong.list) > 0 {
		return nil, wrong.err() // by wrong headings all rows are wrong
	}
	var rows []personRow
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			wrong.addf(bad.StartLine, "a quote is missing, or there is one too many; what has a quote in it stands in quotes, and has it twice")
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the people: %w", err)
		}
		line, _ := reader.FieldPos(0)
		if !slices.ContainsFunc(record, func(cell string) bool { return strings.TrimSpace(cell) != "" }) {
			continue // a spreadsheet's empty row
		}
		if len(record) != len(headings) {
			wrong.addf(line, "it has %d fields, and the headings are %d", len(record), len(headings))
			continue
		}
		rows = append(rows, readPerson(line, headings, record, &wrong))
	}
	if len(rows) == 0 && len(wrong.list) == 0 {
		return nil, fault.New(fault.Invalid, "the file has no people; nobody was imported")
	}
	checkTwice(rows, &wrong)
	return rows, wrong.err()
}

func firstOddLine(data []byte) int {
	line := 1
	for text := range bytes.Lines(data) {
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			return line
		}
		line++
	}
	return line
}

func checkHeadings(headings []string, wrong *rowErrors) {
	seen := map[string]bool{}
	key := false
	for n, heading := range headings {
		name, _ := columnOf(heading)
		if letter, found := unseen(name); found {
			wrong.addf(1, "the heading %d, %q, has the character U+%04X, which can't be seen; leave it out", n+1, name, letter)
		}
		if name != "" && seen[name] {
			wrong.addf(1, "the heading %q is there twice", heading)
		}
		seen[name] = true
		key = key || name == byEmail || name == byEmployeeID || name == byUsername
	}
	if !key {
		wrong.addf(1, "there must be a column email, employee_id or username")
	}
}

func readPerson(line int, headings, record []string, wrong *rowErrors) personRow {
	row := personRow{line: line, columns: map[string]string{}, profile: map[string]string{}}
	before := wrong.count()
	for n, heading := range headings {
		name, known := columnOf(heading)
		cell := strings.TrimSpace(record[n])
		text := cell
		if !known { // there, one may have lines
			text = strings.Join(strings.Fields(cell), " ")
		}
		letter, hidden := unseen(text)
		switch {
		case len(cell) > maxField:
			wrong.addf(line, "%s has %d bytes; is a quote missing?", heading, len(cell))
		case known && len(cell) > maxValue:
			wrong.addf(line, "%s has %d bytes; it may have %d", name, len(cell), maxValue)
		case hidden:
			wrong.addf(line, "%s has the character U+%04X, which can't be seen; leave it out", heading, letter)
		case known:
			row.columns[name] = cell
		case name != "":
			row.profile[name] = cell
		case cell != "":
			wrong.addf(line, "field %d has no heading", n+1)
		}
	}
	if before == wrong.count() && row.columns[byEmail] == "" && row.columns[byEmployeeID] == "" && row.columns[byUsername] == "" {
		wrong.addf(line, "it has no email, employee_id or username")
	}
	for _, name := range []string{byEmail, "manager"} {
		if value := row.columns[name]; value != "" && !looksLikeEmail(value) {
			wrong.addf(line, "%s should be an e-mail address, and is %q", name, value)
		}
	}
	oneOf := func(name string, values ...string) {
		value, there := row.columns[name]
		if value = Fold(value); value != "" && !slices.Contains(values, value) {
			wrong.addf(line, "%s should be %s, and is %q", name, strings.Join(values, ", "), value)
		}
		if there {
			row.columns[name] = value
		}
	}
	oneOf("status", Enabled, Disabled, Deleted)
	oneOf("kind", Human, ServicePerson, SystemPerson)
	return row
}

func looksLikeEmail(text string) bool {
	local, domain, ok := strings.Cut(text, "@")
	return ok && local != "" && domain != "" && !strings.ContainsAny(text, " \t\r\n,;<>\"") && !strings.Contains(domain, "@")
}

// checkTwice finds rows that are of one person.
func checkTwice(rows []personRow, wrong *rowErrors) {
	for _, name := range []string{byEmployeeID, byEmail, byUsername} {
		first := map[string]int{}
		for _, row := range rows {
			value := Fold(row.columns[name])
			if value == "" {
				continue
			}
			if line, ok := first[value]; ok {
				wrong.addf(row.line, "its %s %q is that of line %d too", name, row.columns[name], line)
				continue
			}
			first[value] = row.line
		}
	}
}
