// Package view draws: components that the pages are made of, and the words for
// times and numbers. A component is told what to show and finds out nothing; what
// is the same for all of a page (the time, the address) is in the Frame of its
// context. /dev/components shows all of them.
//
// Names that come from other systems go in as texts, never as markup, and
// addresses as strings, never as templ.SafeURL: templ then makes both harmless.
package view
