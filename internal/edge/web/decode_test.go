package web

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/internal/base/fault"
	"airlock/internal/edge/web/view"
)

type word string

type Inner struct {
	Sort string `form:"sort"`
}

type wanted struct {
	Inner
	Name    string        `form:"name"`
	Word    word          `form:"word"`
	Secret  string        `form:"secret,raw"`
	Yes     bool          `form:"yes"`
	Number  int           `form:"number"`
	Large   int64         `form:"large"`
	For     time.Duration `form:"for"`
	Until   time.Time     `form:"until"`
	List    []string      `form:"list"`
	Kept    string        `form:"kept"`
	Ignored string
}

func TestValuesAreDecoded(t *testing.T) {
	values, err := url.ParseQuery("sort=-a&name=+x+&word=w&secret=+s+&yes=on&number=12&large=9000000000&for=30d&until=2026-11-23&list=a&list=+b&Ignored=x&other=1")
	if err != nil {
		t.Fatal(err)
	}
	got := wanted{Kept: "as it was"}
	if err := decode(values, &got); err != nil {
		t.Fatal(err)
	}
	want := wanted{
		Inner: Inner{"-a"}, Name: "x", Word: "w", Secret: " s ", Yes: true, Number: 12, Large: 9e9, For: 30 * 24 * time.Hour,
		Until: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), List: []string{"a", "b"}, Kept: "as it was",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(wanted{})); diff != "" {
		t.Error(diff)
	}
}

func TestEachWrongValueIsToldAtItsField(t *testing.T) {
	var into wanted
	err := decode(url.Values{"number": {"x"}, "large": {"99999999999999999999"}, "for": {"-1h"}, "until": {"tomorrow"}, "name": {"fine"}}, &into)
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v", err)
	}
	want := view.Errors{
		"number": "Number must be a whole number.", "large": "Large must be a whole number.",
		"for": "For must be a length of time such as 4h or 30d.", "until": "Until must be a date such as 2026-11-23.",
	}
	if diff := cmp.Diff(want, view.ErrorsOf(err)); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyPathsOfThisServerAreLocal(t *testing.T) {
	for to, want := range map[string]bool{
		"/": true, "/a?b=c#d": true, "": false, "//a": false, "/\\a": false, "https://a": false, "/a\r\nSet-Cookie: x": false, "/\t/a": false, "a": false,
	} {
		if got := local(to); got != want {
			t.Errorf("%q: %v", to, got)
		}
	}
}
