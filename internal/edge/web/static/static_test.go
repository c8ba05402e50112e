package static

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestEachSheetAndScriptIsSent(t *testing.T) {
	for pattern, named := range map[string][]string{"css/*.css": sheets, "js/*.js": scripts} {
		names, err := fs.Glob(files, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = strings.TrimSuffix(path.Base(name), path.Ext(name))
			if !slices.Contains(named, name) && name != "htmx.min" {
				t.Errorf("%s is in no list, so nobody gets it", name)
			}
		}
	}
}

// A brace too many ends a layer, and what follows counts for more than it should.
func TestBracesOfSheetsAreInPairs(t *testing.T) {
	for _, name := range sheets {
		depth := 0
		for n, line := range strings.Split(string(read("css/"+name+".css")), "\n") {
			depth += strings.Count(line, "{") - strings.Count(line, "}")
			if depth < 0 {
				t.Fatalf("%s.css:%d: a brace too many", name, n+1)
			}
		}
		if depth != 0 {
			t.Errorf("%s.css: %d braces are open at its end", name, depth)
		}
	}
}

func TestSheetsNameOnlyPicturesThatAreThere(t *testing.T) {
	style := string(all().byPath[URL("app.css")].plain)
	for _, part := range strings.Split(style, "url(")[1:] {
		name, _, _ := strings.Cut(part, ")")
		if _, ok := all().byPath[Path+name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
	if strings.Contains(style, "data:") {
		t.Error("the policy lets no data: in")
	}
}

func TestTheBrowserSaysWhichCompressionItTakes(t *testing.T) {
	for accepted, want := range map[string]string{
		"": "", "gzip, deflate, br, zstd": "zstd", "gzip": "gzip", "gzip;q=0": "", "zstd;q=0.0, gzip;q=0.5": "gzip", "br": "",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, URL("app.js"), http.NoBody)
		r.Header.Set("Accept-Encoding", accepted)
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		if got := w.Header().Get("Content-Encoding"); got != want || w.Code != http.StatusOK {
			t.Errorf("%q: %d %q, not %q", accepted, w.Code, got, want)
		}
	}
}
