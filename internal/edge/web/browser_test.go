package web_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"

	"airlock/internal/edge/web"
	"airlock/internal/edge/web/webtest"
)

func TestTheGalleryIsWholeOnEachScreenInBothSchemes(t *testing.T) {
	p := newRig(t, nil).browser(t)
	for _, width := range []int64{1440, 360} {
		for _, dark := range []bool{false, true} {
			scheme := map[bool]string{false: "light", true: "dark"}[dark]
			t.Run(fmt.Sprintf("%d %s", width, scheme), func(t *testing.T) {
				p.Size(width, 900)
				p.Dark(dark)
				p.Open("/dev/components?open=payroll-editor")
				p.Fits()
				p.Screenshot(fmt.Sprintf("components-%d-%s", width, scheme))
				if dark {
					webtest.Axe(t, p, "color-contrast")
				} else {
					webtest.Axe(t, p)
				}
			})
		}
	}
}

func TestRowsAreSelectedByKeysAndInRanges(t *testing.T) {
	p := newRig(t, nil).browser(t)
	p.Open("/dev/components")
	bar := `document.querySelector("[data-bulk]")`
	if webtest.Eval[bool](p, bar+".checkVisibility()") {
		t.Error("the bar is there before anything is selected")
	}
	p.Press("jjx")
	p.Wait(bar + `.checkVisibility()`)
	if got, want := p.Text("[data-count]"), "1 of 4,210 selected"; got != want {
		t.Errorf("the bar says %q, not %q", got, want)
	}
	p.Press("jjj")
	p.Press("X", input.ModifierShift)
	p.Wait(`document.querySelectorAll("tr[data-selected]").length === 4`)
	if got, want := p.Text("[data-verb=Revoke]"), "Revoke 4…"; !strings.HasPrefix(got, want) {
		t.Errorf("the button says %q, not %q", got, want)
	}
	if got := webtest.Eval[string](p, `document.querySelector("tr[data-cursor]").dataset.key`); got != "user" {
		t.Errorf("the cursor is on %q", got)
	}
	if !webtest.Eval[bool](p, `document.querySelector("tr[data-cursor]").contains(document.activeElement)`) {
		t.Error("the focus isn't where the cursor is")
	}
	p.Press("k")
	p.Press("x") // takes one out again
	p.Wait(`document.querySelectorAll("tr[data-selected]").length === 3`)

	p.Click("[data-all]")
	p.Wait(`document.querySelectorAll("tr[data-selected]").length === 11`)
	p.Click("[data-everything]")
	p.Wait(`document.querySelector("[data-verb=Certify]").textContent.includes("Certify 4,210")`)
	p.Click("[data-clear]")
	p.Wait(`!` + bar + `.checkVisibility()`)

	// A range by the mouse, upwards.
	p.Click("#samples-user [data-pick]")
	p.Click("#samples-op [data-pick]", input.ModifierShift)
	p.Wait(`document.querySelectorAll("tr[data-selected]").length === 4`)

	// No key is taken while one types.
	p.Press("/")
	p.Press("jxg?")
	if got := p.Value(".topbar input"); got != "jxg?" {
		t.Errorf("typed %q", got)
	}
}

func TestAQuestionOpensOverThePageAndIsAPageWithoutScripts(t *testing.T) {
	r := newRig(t, nil)
	p := r.browser(t)
	p.Open("/dev/components")
	p.Press("?")
	p.Wait(`document.querySelector("dialog:modal h1")?.textContent === "Keyboard"`)
	webtest.Axe(t, p)
	p.Press(kb.Escape)
	p.Wait(`!document.querySelector("dialog:modal")`)
	p.Click("a.button--danger[data-dialog]")
	p.Wait(`document.querySelector("dialog:modal h1")?.textContent.startsWith("Revoke 12")`)
	p.Screenshot("dialog")
	webtest.Axe(t, p)
	p.Click("dialog [data-close]")
	p.Wait(`!document.querySelector("dialog:modal") && document.activeElement.matches("a[data-dialog]")`)

	p = r.browser(t)
	p.NoScripts()
	p.Open("/dev/components")
	p.Submit("a.button--danger[data-dialog]")
	if got := p.Text("h1"); got != "Revoke 12 grants in Airflow (prod)?" {
		t.Errorf("without scripts the link leads to %q", got)
	}
}

func TestLivePartsKeepWhatIsTypedOpenAndFocused(t *testing.T) {
	r := newRig(t, nil)
	p := r.browser(t)
	p.Open("/dev/components")
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	p.Click("#samples-op [data-pick]")
	p.Click("#dev-details summary")
	p.Click("#f-dev-ticked")
	p.Fill("#f-dev-typed", "half a sent")
	webtest.Eval[bool](p, `(window.typed = document.getElementById("f-dev-typed"), typed.setSelectionRange(2, 5), window.scrolled = scrollY, true)`)
	before := p.Text("#dev-looks")
	r.live.Tell(t.Context(), "dev")
	p.Wait(fmt.Sprintf(`document.getElementById("dev-looks").textContent !== %q`, before))
	for what, holds := range map[string]string{
		"the same element":   `document.getElementById("f-dev-typed") === typed`,
		"typed text":         `typed.value === "half a sent"`,
		"focus":              `document.activeElement === typed`,
		"the marked letters": `typed.selectionStart === 2 && typed.selectionEnd === 5`,
		"a ticked box":       `document.getElementById("f-dev-ticked").checked`,
		"open details":       `document.getElementById("dev-details").open`,
		"the selected row":   `document.querySelector("#samples-op [data-pick]").checked`,
		"the place":          `Math.abs(scrollY - scrolled) < 2`,
	} {
		if !webtest.Eval[bool](p, holds) {
			t.Errorf("lost: %s", what)
		}
	}
}

func TestAStreamEndsWithTheSessionAndSaysSo(t *testing.T) {
	r := newRig(t, func(c *web.Config) { c.Ping = 50 * time.Millisecond })
	p := r.browser(t)
	p.Open("/dev/components")
	p.Wait(`document.documentElement.dataset.stream === "open"`)
	p.Allow("401")
	r.end("session-1")
	p.Wait(`document.querySelector("#toasts")?.textContent.includes("signed out")`)
}

func TestFormsWorkWithAndWithoutScripts(t *testing.T) {
	r := newRig(t, nil)
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprint("scripts ", scripts), func(t *testing.T) {
			p := r.browser(t)
			p.Allow("422")
			if !scripts {
				p.NoScripts()
			}
			p.Open("/dev/components")
			p.Fill("#p-settings #f-password", "correct horse")
			p.Fill("#p-settings #f-base-url", "airflow.example.com/home")
			p.Submit("#p-settings .panel-foot .button--primary")
			if got := p.Text("#f-base-url-error"); got != "This is not an address; start with https://." {
				t.Errorf("the field says %q", got)
			}
			if got := p.Value("#f-base-url"); got != "airflow.example.com/home" {
				t.Errorf("the wrong value is now %q", got)
			}
			if got := p.Value("#f-password"); got != "" {
				t.Error("the password came back")
			}
			if scripts {
				webtest.Axe(t, p)
				p.Wait(`document.activeElement.id === "f-base-url"`)
			}
			p.Fill("#p-settings #f-password", "correct horse")
			p.Fill("#p-settings #f-base-url", "https://airflow.example.com")
			p.Submit("#p-settings .panel-foot .button--primary")
			if got := p.Text("#toasts span"); got != "Saved. The first sync has begun." {
				t.Errorf("the toast says %q", got)
			}
		})
	}
}

func TestFiltersReplaceOnlyTheMiddleOfThePage(t *testing.T) {
	p := newRig(t, nil).browser(t)
	p.Open("/dev/components")
	webtest.Eval[bool](p, `(window.same = document.querySelector(".topbar"), true)`)
	p.Fill("#samples-q", "payroll")
	p.Wait(`document.querySelectorAll("tr[data-key]").length === 1 && location.search.includes("q=payroll")`)
	if !webtest.Eval[bool](p, `document.activeElement.id === "samples-q" && same.isConnected`) {
		t.Error("the page was loaded anew, or the focus is lost")
	}
	p.Press("xx")
	p.Wait(`document.querySelector("airlock-table .empty h2")?.textContent === "No entitlement matches"`)
	webtest.Axe(t, p)
	p.Open("/dev/components")
	webtest.Eval[bool](p, `(window.same = document.querySelector(".topbar"), true)`)
	p.Click("thead a[href*=holders]")
	p.Wait(`document.querySelector("[aria-sort=ascending]")?.textContent.startsWith("Holders")`)
	p.Click("thead a[href*=holders]")
	p.Wait(`document.querySelector("tr[data-key]").dataset.key === "viewer"`)
	p.Press("jo")
	p.Wait(`document.querySelector("#samples-viewer-detail")`)
	p.Press("o")
	p.Wait(`!document.querySelector("#samples-viewer-detail")`)
	if !webtest.Eval[bool](p, `same.isConnected`) {
		t.Error("the page was loaded anew")
	}
	// The reader's choices stay.
	p.Submit(".toolbar-end .button--icon")
	if got := webtest.Eval[string](p, `document.querySelector("table.table").dataset.density`); got != "compact" {
		t.Errorf("rows are %q", got)
	}
	p.Click(".chooser summary")
	p.Click(".chooser input[value=owner]")
	p.Click(".chooser input[value=what]")
	p.Submit(".chooser .button--primary")
	if got := webtest.Eval[string](p, `[...document.querySelectorAll("#samples thead th")].map((th) => th.innerText.trim()).join()`); !strings.HasSuffix(got, "Owner") || strings.Contains(got, "What") {
		t.Errorf("the columns are %s", got)
	}
}

func TestPagesOfWhoIsNotSignedInAndOfErrors(t *testing.T) {
	r := newRig(t, nil)
	p := webtest.Browser(t, r.url)
	for _, dark := range []bool{false, true} {
		p.Dark(dark)
		p.Open("/dev/gate")
		p.Screenshot(fmt.Sprintf("gate-dark-%v", dark))
		webtest.Axe(t, p)
	}
	p = r.browser(t)
	p.Allow("500")
	p.Allow("404")
	p.Open("/dev/error")
	p.Screenshot("error")
	webtest.Axe(t, p)
	p.Open("/nothing")
	p.Fits()
	if got := p.Text("h1"); got != "There is nothing here" {
		t.Errorf("the page says %q", got)
	}
}
