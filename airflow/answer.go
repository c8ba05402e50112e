package airflow

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// unreachable is the error for a request that got no answer. The cause of a
// *url.Error is taken without the URL, which adds nothing.
func unreachable(op string, err error) error {
	if ue := new(url.Error); errors.As(err, &ue) {
		err = ue.Err
	}
	e := &Error{Kind: Unavailable, Op: op, Err: err, Hint: "airflow gave no answer: check the base URL, the network and the proxy"}
	if untrusted := new(tls.CertificateVerificationError); errors.As(err, &untrusted) {
		e.Kind, e.Hint = Precondition, "what answers shows a certificate that isn't trusted here: check the base URL, and give the CA certificate that signed airflow's"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		e.Kind, e.Hint = Precondition, "what answers speaks http, not https: check the base URL"
	}
	return e
}

// decode reads an answer: into out if all is well, else into an error.
func (c *Client) decode(call call, cred credential, resp *http.Response, answer []byte, out any) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	switch {
	case ok && out == nil && (isJSON || len(answer) == 0):
		return nil
	case ok && isJSON:
		return decodeJSON(call, resp.StatusCode, answer, out)
	}
	e := &Error{Op: call.op, Status: resp.StatusCode, RetryAfter: c.retryAfter(resp), basic: cred.username != ""}
	said := ""
	if isJSON {
		said = detail(answer)
		e.Detail = c.hide(call, cred, said)
	} else if title, ok := htmlTitle(answer); ok && (resp.StatusCode < 300 || resp.StatusCode >= 400) {
		e.Detail = "an HTML page where JSON was expected: " + c.hide(call, cred, title)
	}
	e.Kind, e.Hint = meaning(call, cred, resp, said, isJSON)
	if e.Kind == Forbidden {
		e.Needs = call.needs
	}
	return e
}

// hide makes a server's words fit for an error: whatever it or a proxy echoes,
// no error repeats a secret (one of a few letters can't be told from a word),
// nor goes on for pages.
func (c *Client) hide(call call, cred credential, text string) string {
	secrets := []string{c.password, cred.token, base64.StdEncoding.EncodeToString([]byte(c.username + ":" + c.password))}
	if b, ok := call.body.(userBody); ok {
		secrets = append(secrets, b.Password)
	}
	for _, secret := range secrets {
		if len(secret) >= 6 {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// decodeJSON reads a success. JSON that breaks off is as good as no answer; JSON
// of another shape is somebody else's.
func decodeJSON(call call, status int, answer []byte, out any) error {
	err := json.Unmarshal(answer, out)
	if err == nil {
		return nil
	}
	e := &Error{Kind: Precondition, Op: call.op, Status: status, Hint: "the answer isn't what airflow says here: check the base URL, and the proxy in front"}
	if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
		e.Kind, e.Err, e.Hint = Unavailable, err, "the answer broke off, or isn't the JSON it should be: nothing of it was used"
	}
	return e
}

// meaning says what an answer that isn't a success means.
func meaning(call call, cred credential, resp *http.Response, detail string, isJSON bool) (Kind, string) {
	switch status := resp.StatusCode; {
	case status < 300:
		return Precondition, "a proxy or a sign-in page answered in airflow's place, or the path is wrong: check the base URL, and let this client pass"
	case status < 400:
		return Precondition, fmt.Sprintf("it redirects to %s, where the credentials were not sent: give the address of airflow itself as the base URL", elsewhere(resp))
	case cred.none() && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		return Precondition, "it wants a credential where airflow needs none: a proxy in front, or not airflow at all: check the base URL, and let this client pass"
	case status == http.StatusUnauthorized,
		status == http.StatusForbidden && strings.HasPrefix(detail, "Invalid JWT"),
		// Airflow 2.11 says no more than this to whom it doesn't know.
		status == http.StatusForbidden && isJSON && detail == "" && cred.token == "" && !signedIn(resp):
		return Unauthenticated, cred.refused()
	case status == http.StatusForbidden && (!isJSON || detail == "" && cred.token != ""):
		return Precondition, "something in front of airflow refused the request: let this client pass"
	case status == http.StatusForbidden:
		return Forbidden, call.lacks()
	case status == http.StatusNotFound && call.one && isJSON && strings.Contains(detail, call.path[len(call.path)-1]):
		return NotFound, ""
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return Precondition, "airflow has no such endpoint at this address: check the base URL and its path, and the proxy in front"
	case status == http.StatusConflict:
		return Conflict, ""
	case status == http.StatusTooManyRequests:
		return Unavailable, "it is asked too often: try again later"
	case status == http.StatusRequestTimeout || status >= 500:
		return Unavailable, "airflow, or a proxy in front of it, has trouble: try again later, and look into its log if that stays"
	case !isJSON:
		return Precondition, "airflow doesn't answer like that: check the base URL, http or https too, and the proxy in front"
	default:
		return Invalid, "nothing was changed"
	}
}

// signedIn reports whether FAB began a session for a request by basic
// authentication, as it does where the password was right. (Some versions begin
// one anyhow, but answer 401 to a wrong password.)
func signedIn(resp *http.Response) bool {
	for _, cookie := range resp.Cookies() {
		if cookie.Name == "session" {
			return true
		}
	}
	return false
}

// elsewhere names where a redirect leads, by host alone: the rest may be private.
func elsewhere(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil {
		return "an address that can't be read"
	}
	return to.Scheme + "://" + to.Host
}

// retryAfter reads the header, in seconds or as a date.
func (c *Client) retryAfter(resp *http.Response) time.Duration {
	v := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(c.now()))
	}
	return 0
}

// detail takes Airflow's own words from an error's body: FastAPI's
// {"detail": "…"} or {"detail": [{"loc": […], "msg": "…"}]}, or the detail of a
// problem document (RFC 7807), which may be null.
func detail(body []byte) string {
	var problem struct {
		Detail json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &problem) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(problem.Detail, &text) == nil && text != "" {
		return text
	}
	var fields []struct {
		Loc []any  `json:"loc"`
		Msg string `json:"msg"`
	}
	if json.Unmarshal(problem.Detail, &fields) == nil && len(fields) > 0 {
		parts := make([]string, len(fields))
		for i, f := range fields {
			parts[i] = fmt.Sprintf("%v: %s", f.Loc, f.Msg)
		}
		return strings.Join(parts, "; ")
	}
	return ""
}

var title = regexp.MustCompile(`(?is)<title[^>]*>\s*(.*?)\s*</title>`)

// htmlTitle is the title of a page; not ok if the body isn't HTML.
func htmlTitle(body []byte) (string, bool) {
	head := body[:min(len(body), 64<<10)]
	if !bytes.HasPrefix(bytes.TrimSpace(head), []byte("<")) {
		return "", false
	}
	if m := title.FindSubmatch(head); m != nil && len(m[1]) > 0 {
		return string(bytes.Join(bytes.Fields(m[1]), []byte(" "))), true
	}
	return "without a title", true
}
