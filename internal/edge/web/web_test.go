package web_test

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"airlock/internal/edge/web"
)

func TestTheFirstLoadIsSmall(t *testing.T) {
	r := newRig(t, nil)
	page := r.call(t, "GET", "/dev/components", "", "Accept-Encoding", "gzip")
	packed := page.text
	total := len(packed)
	unpacked, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, address := range regexp.MustCompile(`/static/[\w.-]+`).FindAllString(string(text), -1) {
		if seen[address] {
			continue
		}
		seen[address] = true
		asset := r.call(t, "GET", address, "", "Accept-Encoding", "gzip")
		size := len(asset.text)
		t.Logf("%6d %s", size, address)
		total += size
		if asset.StatusCode != http.StatusOK || asset.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %s, %q", address, asset.Status, asset.Header.Get("Content-Encoding"))
		}
		if got := asset.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control %q", address, got)
		}
	}
	t.Logf("%6d the page; %d in all", len(packed), total)
	if total > 60_000 || len(seen) != 5 {
		t.Errorf("the first load has %d files and %d bytes, more than 60 kB", len(seen), total)
	}
	if got := r.call(t, "GET", "/static/app-AAAAAAAA.css", "").StatusCode; got != http.StatusNotFound {
		t.Errorf("an old address gives %d", got)
	}
}

func TestPagesAreKeptFromWhatIsNotOurs(t *testing.T) {
	r := newRig(t, nil)
	page := r.call(t, "GET", "/dev/components", "")
	for name, part := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store", "Vary": "HX-Request",
	} {
		if !strings.Contains(page.Header.Get(name), part) {
			t.Errorf("%s is %q", name, page.Header.Get(name))
		}
	}
	if strings.Contains(page.Header.Get("Content-Security-Policy"), "unsafe") {
		t.Error("the policy has unsafe in it")
	}
	root, err := html.Parse(strings.NewReader(page.text))
	if err != nil {
		t.Fatal(err)
	}
	for node := range root.Descendants() {
		for _, a := range node.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") {
				t.Errorf("<%s> has %s", node.Data, a.Key)
			}
		}
		if (node.Data == "script" || node.Data == "style") && node.FirstChild != nil {
			t.Errorf("<%s> has content", node.Data)
		}
	}

	form := url.Values{"base-url": {"https://a"}, "password": {"x"}}.Encode()
	for name, header := range map[string][2]string{"another site": {"Sec-Fetch-Site", "cross-site"}, "another origin": {"Origin", "https://evil.example"}} {
		answer := r.call(t, "POST", "/dev/components", form, header[0], header[1])
		if answer.StatusCode != http.StatusForbidden || !strings.Contains(answer.text, "another site") {
			t.Errorf("a form of %s: %s", name, answer.Status)
		}
	}
	if answer := r.call(t, "POST", "/dev/components", form, "Sec-Fetch-Site", "same-origin"); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("our own form: %s", answer.Status)
	}
}

func TestWhoIsNotSignedInIsLedToTheSignInAndBack(t *testing.T) {
	r := newRig(t, nil)
	r.end("session-1")
	answer := r.call(t, "GET", "/keys?a=b", "")
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/sign-in" {
		t.Errorf("%s to %q", answer.Status, answer.Header.Get("Location"))
	}
	back := answer.Cookies()
	if len(back) != 1 || back[0].Value != url.QueryEscape("/keys?a=b") || !back[0].Secure || !back[0].HttpOnly || back[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("what is kept for later is %v", back)
	}
	for name, headers := range map[string][]string{"a script": {"HX-Request", "true"}, "a stream": {"Accept", "text/event-stream"}} {
		if got := r.call(t, "GET", "/events?topics=dev", "", headers...).StatusCode; got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := r.call(t, "POST", "/sign-out", "").Header.Get("Location"); got != "/sign-in" {
		t.Errorf("a form leads to %q", got)
	}
}

func TestSigningOutTakesAwayWhatTheBrowserHas(t *testing.T) {
	r := newRig(t, nil)
	answer := r.call(t, "POST", "/sign-out", "")
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Clear-Site-Data") == "" {
		t.Errorf("%s, %v", answer.Status, answer.Header)
	}
	for _, cookie := range answer.Cookies() {
		if cookie.Name == web.SessionCookie && cookie.MaxAge < 0 {
			return
		}
	}
	t.Error("the cookie stays")
}

func TestNothingOfTheInsideIsToldByAnError(t *testing.T) {
	r := newRig(t, nil)
	answer := r.call(t, "GET", "/dev/error", "")
	text := answer.text
	if answer.StatusCode != http.StatusInternalServerError || strings.Contains(text, "secret") || !strings.Contains(text, "Number") {
		t.Errorf("%s:\n%s", answer.Status, text)
	}
	answer = r.call(t, "GET", "/choices/samples", "")
	if text := answer.text; answer.StatusCode != http.StatusBadRequest || !strings.Contains(text, "doesn&#39;t take GET") {
		t.Errorf("the wrong method: %s\n%s", answer.Status, text)
	}
}

func TestATableIsExportedByItsOwnAddress(t *testing.T) {
	r := newRig(t, nil)
	for name, call := range map[string]answer{
		"by a parameter": r.call(t, "GET", "/dev/components?risk=high&format=csv", ""),
		"by a header":    r.call(t, "GET", "/dev/components?risk=high", "", "Accept", "text/csv"),
	} {
		rows, err := csv.NewReader(strings.NewReader(call.text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 5 || rows[0][0] != "Entitlement" || rows[1][3] != "3" || rows[0][6] != "Owner" {
			t.Errorf("%s: %v", name, rows)
		}
		if got := call.Header.Get("Content-Disposition"); got != `attachment; filename=entitlements-2026-11-23.csv` {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := r.call(t, "GET", "/keys?format=csv", "").StatusCode; got != http.StatusNotFound {
		t.Errorf("a page without a table: %d", got)
	}
}

func TestChoicesOfATableAreKeptAndLeadOnlyBackHere(t *testing.T) {
	r := newRig(t, nil)
	for back, to := range map[string]string{
		"/dev/components?q=a": "/dev/components?q=a", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/", "": "/",
	} {
		answer := r.call(t, "POST", "/choices/samples", url.Values{"density": {"compact"}, "back": {back}}.Encode())
		if got := answer.Header.Get("Location"); got != to {
			t.Errorf("back to %q leads to %q", back, got)
		}
	}
	if got := r.call(t, "POST", "/choices/samples", url.Values{"columns": {"a;b"}, "set": {"columns"}}.Encode()).StatusCode; got != http.StatusBadRequest {
		t.Errorf("a column that can't be: %d", got)
	}
}

// stream reads the events of a stream until it ends.
func (r *rig) stream(t *testing.T, topics string) (events chan string) {
	t.Helper()
	response := r.open(t, "GET", "/events?topics="+topics, "", "Accept", "text/event-stream")
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %q", response.Status, response.Header.Get("Content-Type"))
	}
	events = make(chan string, 1000)
	go func() {
		defer close(events)
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if text := lines.Text(); text != "" {
				events <- text
			}
		}
	}()
	return events
}

func expect(t *testing.T, events chan string, want string) {
	t.Helper()
	for {
		select {
		case got, open := <-events:
			if !open {
				if want != "" {
					t.Fatalf("the stream ended before %q", want)
				}
				return
			}
			if got == want {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q didn't come", want)
		}
	}
}

func TestAStreamTellsOfItsTopicsAndIsPinged(t *testing.T) {
	r := newRig(t, func(c *web.Config) { c.Ping = 20 * time.Millisecond })
	events := r.stream(t, "dev,connector/1")
	expect(t, events, "retry: 2000")
	expect(t, events, "event: hello")
	r.live.Tell(t.Context(), "other", "connector/1")
	expect(t, events, "event: topic")
	expect(t, events, "data: connector/1")
	expect(t, events, ": still here")
	r.server.Stop()
	expect(t, events, "")
}

func TestAStreamEndsAtOnceWhenOneSignsOut(t *testing.T) {
	r := newRig(t, nil)
	events := r.stream(t, "dev")
	expect(t, events, "event: hello")
	r.call(t, "POST", "/sign-out", "")
	expect(t, events, "event: ended")
	expect(t, events, "")
}

func TestAStreamTellsNothingThatMayNotBeHeard(t *testing.T) {
	r := newRig(t, nil)
	for topics, status := range map[string]int{"": 400, ",": 400, "dev,secret": 403, strings.Repeat("a,", 65): 400} {
		if got := r.call(t, "GET", "/events?topics="+topics, "").StatusCode; got != status {
			t.Errorf("%q: %d, not %d", topics, got, status)
		}
	}
}

func TestEachRouteSaysWhoMayCallIt(t *testing.T) {
	seen := map[string]bool{}
	for _, route := range newRig(t, nil).server.Routes() {
		method, path, ok := strings.Cut(route.Pattern, " ")
		if !ok || (method != "GET" && method != "POST") || seen[route.Pattern] {
			t.Errorf("the pattern %q", route.Pattern)
		}
		seen[route.Pattern] = true
		if (route.Access.Action == "") != (route.Access.Kind == "") || (route.Access.Public && route.Access.Action != "") {
			t.Errorf("%s: who may call it? %+v", path, route.Access)
		}
	}
}
