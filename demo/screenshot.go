package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// screenshot writes what the demo printed as a picture of a terminal, in the
// reader's light or dark.
func screenshot(path, printed string) error {
	lines := strings.Split(strings.TrimRight(printed, "\n"), "\n")
	wide := 0
	for _, line := range lines {
		wide = max(wide, utf8.RuneCountInString(line))
	}
	const lineHeight, charWidth, margin = 19, 8, 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13">
<style>
svg { --paper: #fbfbfa; --ink: #24292f; --edge: #d8dad6; --head: #0b5a8a }
@media (prefers-color-scheme: dark) { svg { --paper: #15191d; --ink: #dfe4e8; --edge: #343b42; --head: #6cb6ea } }
text { fill: var(--ink); white-space: pre } .head { fill: var(--head); font-weight: 600 }
</style>
<rect x=".5" y=".5" width="%d" height="%d" rx="8" fill="var(--paper)" stroke="var(--edge)"/>
`, wide*charWidth+2*margin, (len(lines)+1)*lineHeight+margin, wide*charWidth+2*margin-1, (len(lines)+1)*lineHeight+margin-1)
	for i, line := range lines {
		class := ""
		if line != "" && line == strings.ToUpper(line) {
			class = ` class="head"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s>`, margin, margin+(i+1)*lineHeight-6, class)
		if err := xml.EscapeText(&b, []byte(line)); err != nil {
			return err
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
