// Package webtest opens pages in a real Chromium, inside go test. One browser
// serves all tests of a program, each in a profile of its own. A test fails on
// anything that the browser has to say against a page: an error in a script,
// something that the Content-Security-Policy forbids, a file that isn't there.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { webtest.Main(m) }
package webtest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"airlock/internal/base/apt"
)

// limit is how long anything in a page may take.
const limit = time.Minute

//go:embed axe.min.js
var axe string

var browser struct {
	once   sync.Once
	ctx    context.Context //nolint:containedctx // of the one browser of the program
	cancel func()
	err    error
}

// Main runs the tests of a package and ends the browser.
func Main(m *testing.M) {
	code := m.Run()
	End()
	os.Exit(code)
}

// End ends the browser, if there is one: for a package with a TestMain of its own.
func End() {
	if browser.cancel != nil {
		browser.cancel()
	}
}

// errMissing says that the machine has no browser and that none could be installed.
var errMissing = errors.New("there is no Chromium: `apt-get install chromium`, or name one in AIRLOCK_CHROMIUM, or leave these tests out with BROWSER_TESTS=off")

// find is the browser's program, or "".
func find() string {
	for _, name := range []string{os.Getenv("AIRLOCK_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func start() {
	path := find()
	if path == "" {
		err := apt.Install(context.Background(), "chromium", func() bool { return find() != "" })
		if path = find(); path == "" {
			browser.err = errors.Join(errMissing, err)
			return
		}
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("font-render-hinting", "none"),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	quiet := func(string, ...any) {} // of events that it doesn't know
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(quiet))
	browser.cancel = func() {
		cancel()
		stop()
	}
	browser.ctx = ctx //nolint:fatcontext // set once
	browser.err = chromedp.Run(ctx)
}

// Serve serves a handler over https and HTTP/2, as the server does, until the
// test ends.
func Serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of tabs that close in the middle
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// Page is a tab.
type Page struct {
	t       testing.TB
	ctx     context.Context //nolint:containedctx // the tab itself
	base    string
	profile cdp.BrowserContextID

	loaded chan struct{} // a page is whole

	mu       sync.Mutex
	problems []string
	allowed  []string
}

// Browser is a new tab in a fresh profile, 1440 wide; addresses are relative to
// base. BROWSER_TESTS=off skips the test.
func Browser(t testing.TB, base string) *Page {
	t.Helper()
	if testing.Short() {
		t.Skip("in a browser: `make e2e` runs it")
	}
	if os.Getenv("BROWSER_TESTS") == "off" {
		t.Skip("BROWSER_TESTS=off: the tests in a browser were left out")
	}
	browser.once.Do(start)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	var profile cdp.BrowserContextID
	err := control(func(ctx context.Context) (err error) {
		profile, err = target.CreateBrowserContext().WithDisposeOnDetach(true).Do(ctx)
		return err
	})
	if err != nil {
		t.Fatalf("a new profile: %v", err)
	}
	return open(t, profile, base)
}

// control runs an action of the browser, not of a tab.
func control(do func(context.Context) error) error {
	c := chromedp.FromContext(browser.ctx)
	return do(cdp.WithExecutor(browser.ctx, c.Browser))
}

// Tab is another tab in the same profile.
func (p *Page) Tab() *Page {
	p.t.Helper()
	return open(p.t, p.profile, p.base)
}

func open(t testing.TB, profile cdp.BrowserContextID, base string) *Page {
	t.Helper()
	var tab target.ID
	err := control(func(ctx context.Context) (err error) {
		tab, err = target.CreateTarget("about:blank").WithBrowserContextID(profile).WithNewWindow(true).Do(ctx)
		return err
	})
	if err != nil {
		t.Fatalf("a new tab: %v", err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx, chromedp.WithTargetID(tab))
	p := &Page{t: t, ctx: ctx, profile: profile, base: base, loaded: make(chan struct{}, 1)}
	t.Cleanup(func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			if !slices.ContainsFunc(p.allowed, func(part string) bool { return strings.Contains(problem, part) }) {
				t.Errorf("the browser complains: %s", problem)
			}
		}
	})
	chromedp.ListenTarget(ctx, p.listen)
	p.Run(log.Enable(), network.Enable())
	p.Size(1440, 900)
	return p
}

// listen keeps what the browser complains of.
func (p *Page) listen(event any) {
	problem := ""
	switch e := event.(type) {
	case *page.EventLoadEventFired:
		select {
		case p.loaded <- struct{}{}:
		default:
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			problem = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Error()
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var words []string
			for _, argument := range e.Args {
				words = append(words, string(argument.Value)+argument.Description)
			}
			problem = "console: " + strings.Join(words, " ")
		}
	}
	if problem != "" {
		p.mu.Lock()
		p.problems = append(p.problems, problem)
		p.mu.Unlock()
	}
}

// Allow lets the browser complain of what has this text in it, such as the 422
// of a form that is sent wrong on purpose.
func (p *Page) Allow(part string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, part)
}

// Run runs actions in the tab.
func (p *Page) Run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := p.try(actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Page) try(actions ...chromedp.Action) error { return p.within(limit, actions...) }

func (p *Page) within(limit time.Duration, actions ...chromedp.Action) error {
	if len(actions) == 0 {
		return nil
	}
	// A limit on the tab's own context would close the tab.
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(p.ctx, actions...) }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("nothing came of it in %v", limit)
	}
}

// Cookie sets a cookie of ours.
func (p *Page) Cookie(name, value string) {
	p.t.Helper()
	p.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		return network.SetCookie(name, value).WithURL(p.base).WithSecure(true).WithHTTPOnly(true).WithPath("/").Do(ctx)
	}))
}

// Open opens an address and waits until the page and its scripts are there.
func (p *Page) Open(path string) {
	p.t.Helper()
	if err := p.try(chromedp.Navigate(p.base + path)); err != nil {
		p.t.Fatalf("open %s: %v", path, err)
	}
}

// Size sets the size of the window.
func (p *Page) Size(width, height int64) {
	p.t.Helper()
	p.Run(emulation.SetDeviceMetricsOverride(width, height, 1, width < 600))
}

// Dark makes the reader prefer dark, or light.
func (p *Page) Dark(dark bool) {
	p.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}))
}

// NoScripts turns scripts off.
func (p *Page) NoScripts() {
	p.t.Helper()
	p.Run(emulation.SetScriptExecutionDisabled(true))
}

// Eval is the value of an expression in the page.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	var value T
	if err := p.try(chromedp.Evaluate(expression, &value, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) })); err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// Wait waits until an expression is true in the page, or in the one that follows
// it.
func (p *Page) Wait(expression string) {
	p.t.Helper()
	p.wait(expression, limit)
}

// WaitLong waits for what takes other programs a while, such as a sync.
func (p *Page) WaitLong(expression string) {
	p.t.Helper()
	p.wait(expression, 3*time.Minute)
}

func (p *Page) wait(expression string, limit time.Duration) {
	p.t.Helper()
	end := time.Now().Add(limit)
	for {
		err := p.within(limit, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(limit)))
		if err == nil {
			return
		}
		if left := strings.Contains(err.Error(), "context") || strings.Contains(err.Error(), "navigated"); !left || time.Now().After(end) {
			p.t.Fatalf("wait for %s: %v", expression, err)
		}
	}
}

// place is the middle of an element, scrolled to where it can be clicked.
const place = `(() => {
	const e = [...document.querySelectorAll(%q)].find((one) => one.checkVisibility());
	if (!e) return null;
	e.scrollIntoView({block: "center", behavior: "instant"});
	const box = e.getClientRects()[0];
	return {x: box.x + box.width / 2, y: box.y + box.height / 2};
})()`

// Click clicks on the first element of a selector that is visible, with keys
// held.
func (p *Page) Click(selector string, held ...input.Modifier) {
	p.t.Helper()
	if err := p.try(p.click(selector, held...)); err != nil {
		p.t.Fatalf("click on %s: %v", selector, err)
	}
}

func (p *Page) click(selector string, held ...input.Modifier) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		var at *struct{ X, Y float64 }
		if err := chromedp.Evaluate(fmt.Sprintf(place, selector), &at).Do(ctx); err != nil {
			return err
		}
		if at == nil {
			return fmt.Errorf("there is none, or it can't be seen")
		}
		return chromedp.MouseClickXY(at.X, at.Y, chromedp.ButtonModifiers(held...)).Do(ctx)
	})
}

// Submit clicks on what leads to another page, and waits until that is there.
func (p *Page) Submit(selector string) {
	p.t.Helper()
	p.leave("click on "+selector, func() { p.Click(selector) })
}

// Follow clicks on the first link or button that can be seen whose words begin so,
// once there is one, and waits until the page is there that it leads to. It is one
// step for the page, so that no live part is changed in between.
func (p *Page) Follow(words string) {
	p.t.Helper()
	p.leave("follow "+words, func() {
		p.Wait(fmt.Sprintf(`(() => {
			const says = (e) => (e.getAttribute("aria-label") ?? e.textContent).trim().replace(/\s+/g, " ").startsWith(%q);
			const found = [...document.querySelectorAll("a[href], button")].find((e) => e.checkVisibility() && !e.disabled && says(e));
			found?.click();
			return !!found;
		})()`, words))
	})
}

// leave does something that leads to another page, and waits until that is there.
func (p *Page) leave(what string, do func()) {
	p.t.Helper()
	Eval[bool](p, "window.before = true")
	do()
	end := time.After(limit)
	for {
		select {
		case <-p.loaded:
			var there bool
			// While one page goes and the next comes there is none to ask.
			if p.try(chromedp.Evaluate("!window.before && document.readyState === 'complete'", &there)) == nil && there {
				return
			}
		case <-end:
			p.t.Fatalf("%s: no page came in %v", what, limit)
		}
	}
}

// Fill puts a text into a field in place of what it holds, by typing.
func (p *Page) Fill(selector, text string) {
	p.t.Helper()
	if !Eval[bool](p, fmt.Sprintf(`(() => {const e = document.querySelector(%q); if (!e) return false; e.focus(); e.select?.(); return true})()`, selector)) {
		p.t.Fatalf("fill %s: there is none", selector)
	}
	p.Press(text)
}

// Press presses keys, one after the other, wherever the focus is, with others
// held; kb has the names of those without a letter.
func (p *Page) Press(keys string, held ...input.Modifier) {
	p.t.Helper()
	modifiers := input.Modifier(0)
	for _, one := range held {
		modifiers |= one
	}
	p.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		for _, key := range keys {
			for _, event := range kb.Encode(key) {
				if event.Type == input.KeyChar {
					continue // comes of the key itself, unless the page takes that
				}
				if event.Type == input.KeyDown && (unicode.IsPrint(key) || key == '\r') { // Enter presses buttons and sends forms by its letter
					event.Text, event.UnmodifiedText = string(key), string(key)
				}
				event.Modifiers |= modifiers
				if err := event.Do(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// Text is the text of the first element of a selector, as it is read.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return Eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.innerText.trim() ?? ""`, selector))
}

// Value is what a field holds.
func (p *Page) Value(selector string) string {
	p.t.Helper()
	return Eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.value ?? ""`, selector))
}

// Axe fails the test for each rule of accessibility that the page breaks, as far
// as a program can judge; or only for some rules, such as color-contrast for a
// page that differs from one before only in its colours.
func Axe(t testing.TB, p *Page, rules ...string) {
	t.Helper()
	var found struct {
		Violations []struct {
			ID, Impact, Help string
			Nodes            []struct {
				HTML           string
				FailureSummary string
			}
		}
	}
	// Through the debugger: the page's own policy would not let it in.
	text := Eval[string](p, "typeof axe === 'undefined' ? '' : 'there'")
	if text == "" {
		if err := p.try(chromedp.Evaluate(axe, nil)); err != nil {
			t.Fatalf("axe: %v", err)
		}
	}
	only := "{}"
	if len(rules) > 0 {
		only = fmt.Sprintf("{runOnly: {type: 'rule', values: ['%s']}}", strings.Join(rules, "', '"))
	}
	result := Eval[string](p, "axe.run(document, Object.assign({resultTypes: ['violations']}, "+only+")).then((r) => JSON.stringify({violations: r.violations}))")
	if err := json.Unmarshal([]byte(result), &found); err != nil {
		t.Fatalf("axe: %v", err)
	}
	for _, v := range found.Violations {
		for _, node := range v.Nodes {
			t.Errorf("%s (%s): %s\n%.300s\n%s", v.ID, v.Impact, v.Help, node.HTML, node.FailureSummary)
		}
	}
}

// Fits fails the test if the page has to be scrolled sideways.
func (p *Page) Fits() {
	p.t.Helper()
	wide := Eval[[]string](p, `(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return [];
		return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1)
			.filter((e) => !e.closest(".scroll-x, .tabs, .segments, .code, .log, .visually-hidden")).slice(0, 5)
			.map((e) => e.outerHTML.slice(0, 120)).concat("the page is " + document.documentElement.scrollWidth + " wide");
	})()`)
	if len(wide) > 0 {
		p.t.Errorf("the page is wider than its window:\n%s", strings.Join(wide, "\n"))
	}
}

// Screenshot writes a picture of the whole page into $WEBTEST_SHOTS, if that is
// set.
func (p *Page) Screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("WEBTEST_SHOTS")
	if dir == "" {
		return
	}
	if err := p.Picture(filepath.Join(dir, name+".png")); err != nil {
		p.t.Fatal(err)
	}
}

// Picture writes a picture of the whole page to a file.
func (p *Page) Picture(path string) error {
	var picture []byte
	err := p.try(chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, content, _, _, size, err := page.GetLayoutMetrics().Do(ctx)
		if err != nil {
			return err
		}
		if size == nil {
			size = content
		}
		picture, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).
			WithClip(&page.Viewport{Width: size.Width, Height: size.Height, Scale: 1}).Do(ctx)
		return err
	}))
	if err != nil {
		return fmt.Errorf("take a picture: %w", err)
	}
	return os.WriteFile(path, picture, 0o600) //nolint:gosec // the developer names it
}
