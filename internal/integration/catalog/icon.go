package catalog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Icon is how a connector is shown. Data is empty where no image was found:
// then the initials are shown.
type Icon struct {
	Initials  string `json:"initials"`             // one or two capitals
	MediaType string `json:"media_type,omitempty"` // image/svg+xml or image/png
	Data      []byte `json:"data,omitempty"`
}

// maxIcon is how large an icon may be, in bytes.
const maxIcon = 256 << 10

// icon finds the image of a connector: beside its program, else in the pack.
func (c *Catalog) icon(e Entry) Icon {
	icon := Icon{Initials: initials(e.DisplayName)}
	if !nameForm.MatchString(e.Name) {
		return icon
	}
	places := []string{filepath.Join(c.dir, prefix+e.Name)}
	if c.options.Icons != "" {
		places = append(places, filepath.Join(c.options.Icons, prefix+e.Name), filepath.Join(c.options.Icons, e.Name))
	}
	for _, place := range places {
		if data := image(place + ".svg"); bytes.Contains(data[:min(len(data), 4096)], []byte("<svg")) {
			icon.MediaType, icon.Data = "image/svg+xml", data
			return icon
		}
		if data := image(place + ".png"); bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) {
			icon.MediaType, icon.Data = "image/png", data
			return icon
		}
	}
	return icon
}

// image reads a file of fitting size, or nothing.
func image(path string) []byte {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxIcon {
		return nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // in the operator's folders
	if err != nil || len(data) > maxIcon {
		return nil
	}
	return data
}

// initials are the first letters of the first two words, as capitals.
func initials(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	var out []rune
	for _, word := range words[:min(len(words), 2)] {
		first, _ := utf8.DecodeRuneInString(word)
		out = append(out, unicode.ToUpper(first))
	}
	if len(out) == 0 {
		return "?"
	}
	return string(out)
}
