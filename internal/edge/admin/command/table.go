package command

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// width is how many letters a line of a table has at most, as far as cutting
// makes that possible.
const width = 100

// line is a line of a table: its cells, and a note that stands below them.
type line struct {
	cells []string
	note  string
}

func row(cells ...string) line { return line{cells: cells} }

// table is a table for people; programs read the JSON.
type table struct {
	header []string
	cut    []bool // columns that may be cut
	lines  []line
}

// Table prints lines of cells below their columns, or that there are none.
func Table(w io.Writer, columns string, lines [][]string) {
	if len(lines) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	t := newTable(columns)
	for _, cells := range lines {
		t.add(row(cells...))
	}
	t.print(w)
}

// newTable makes a table of columns with two spaces between them. One with a ~
// before its name may be cut, so that the others fit.
func newTable(columns string) *table {
	t := &table{}
	for name := range strings.SplitSeq(columns, "  ") {
		bare, may := strings.CutPrefix(name, "~")
		t.header, t.cut = append(t.header, bare), append(t.cut, may)
	}
	return t
}

func (t *table) add(l line) { t.lines = append(t.lines, l) }

const leastWidth = 12 // of a column that is cut

func (t *table) print(w io.Writer) {
	widths := make([]int, len(t.header))
	all := append([]line{{cells: t.header}}, t.lines...)
	for _, l := range all {
		for n, cell := range l.cells {
			l.cells[n] = visible(cell)
			widths[n] = max(widths[n], utf8.RuneCountInString(l.cells[n]))
		}
	}
	for over := t.over(widths); over > 0; over = t.over(widths) {
		widest := -1
		for n, may := range t.cut {
			if may && widths[n] > leastWidth && (widest < 0 || widths[n] > widths[widest]) {
				widest = n
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for _, l := range all {
		var out strings.Builder
		for n, cell := range l.cells {
			cell = cut(cell, max(widths[n], 1))
			out.WriteString(cell)
			out.WriteString(strings.Repeat(" ", widths[n]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(out.String(), " "))
		for _, part := range wrap(l.note, width-2) {
			fmt.Fprintln(w, "  "+part)
		}
	}
}

// over is by how much lines are too long.
func (t *table) over(widths []int) int {
	sum := -2
	for _, w := range widths {
		sum += w + 2
	}
	return sum - width
}

// wrap breaks a text into lines of so many letters, between words if it can.
func wrap(text string, length int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > length {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// cut shortens a text to one line of so many letters.
func cut(text string, length int) string {
	text, _, more := strings.Cut(text, "\n")
	if letters := []rune(text); len(letters) > length {
		return string(letters[:length-1]) + "…"
	} else if more {
		return text + " …"
	}
	return text
}

// visible shows what would steer a terminal, forge a line, turn the text around or
// hide in it: names and messages come from connectors.
func visible(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r), unicode.Is(unicode.Zs, r):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// plain is what is visible of a text of several lines.
func plain(text string) string {
	lines := strings.Split(text, "\n")
	for n, line := range lines {
		parts := strings.Split(line, "\t")
		for m, part := range parts {
			parts[m] = visible(part)
		}
		lines[n] = strings.Join(parts, "\t")
	}
	return strings.Join(lines, "\n")
}

// readable is a writer to people's screens. Each write is of whole letters.
type readable struct{ out io.Writer }

func (r readable) Write(p []byte) (int, error) {
	_, err := io.WriteString(r.out, plain(string(p)))
	return len(p), err
}
