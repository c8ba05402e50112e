package view

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"airlock/internal/base/fault"
)

// Errors are what is wrong with a form: by the name of its field, and under the
// empty name what is wrong with the whole. Nil is right.
type Errors map[string]string

// ErrorsOf are the errors of a service's answer: those that are at a field, by
// that field, all others under the empty name.
func ErrorsOf(err error) Errors {
	list := Errors{}
	list.add(err)
	return list
}

func (e Errors) add(err error) {
	known, ours := err.(*fault.Error) //nolint:errorlint // each error of a tree, not the first
	if ours && known.Field != "" {
		e.put(known.Field, known.Message)
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			e.add(one)
		}
		return
	}
	if wrapped := errors.Unwrap(err); !ours && joined(wrapped) {
		e.add(wrapped)
		return
	}
	if inner, ok := errors.AsType[*fault.Error](err); ok && !ours && inner.Field != "" {
		e.put(inner.Field, err.Error())
		return
	}
	if err != nil {
		e.put("", fault.Words(err))
	}
}

// joined reports whether an error is several.
func joined(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if _, many := err.(interface{ Unwrap() []error }); many {
			return true
		}
	}
	return false
}

func (e Errors) put(field, words string) {
	words = Sentence(words)
	if before := e[field]; before != "" {
		words = before + " " + words
	}
	e[field] = words
}

// fields are the names of the fields that are wrong.
func (e Errors) fields() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e)), func(name string) bool { return name == "" })
}

// id is the id of the input of a field.
func id(name string) string {
	return "f-" + strings.Map(func(r rune) rune {
		if r == ' ' || r == '.' || r == '[' || r == ']' {
			return '-'
		}
		return r
	}, name)
}

// or is the first of two texts that isn't empty.
func or(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

func has(list []string, one string) bool { return slices.Contains(list, one) }
