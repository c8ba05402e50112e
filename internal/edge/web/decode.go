package web

import (
	"errors"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"airlock/internal/base/fault"
)

// decode reads values into the fields of a struct that have a tag form with a
// name. They are texts, booleans ("true", "on"), whole numbers, durations (as in
// 4h or 30d), dates (2026-11-23) or lists of texts. Space around a text is cut
// off, except where the tag says raw: `form:"password,raw"`. What isn't there
// leaves its field as it is. Errors are of kind Invalid, each at its field,
// joined into one.
func decode(values url.Values, into any) error {
	target := reflect.ValueOf(into).Elem()
	var wrong []error
	for n := range target.NumField() {
		field := target.Type().Field(n)
		if field.Anonymous && field.Type.Kind() == reflect.Struct {
			if err := decode(values, target.Field(n).Addr().Interface()); err != nil {
				wrong = append(wrong, err)
			}
			continue
		}
		name, option, _ := strings.Cut(field.Tag.Get("form"), ",")
		given, ok := values[name]
		if name == "" || !ok || len(given) == 0 {
			continue
		}
		if option != "raw" {
			for at, text := range given {
				given[at] = strings.TrimSpace(text)
			}
		}
		if words := set(target.Field(n), given); words != "" {
			wrong = append(wrong, fault.New(fault.Invalid, "%s %s", name, words).At(name))
		}
	}
	return errors.Join(wrong...)
}

// set sets a field, or says what its value must be.
func set(field reflect.Value, given []string) string {
	text := given[0]
	switch field.Interface().(type) {
	case time.Duration:
		d, ok := duration(text)
		if !ok {
			return "must be a length of time such as 4h or 30d"
		}
		field.SetInt(int64(d))
		return ""
	case time.Time:
		if text == "" {
			return ""
		}
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return "must be a date such as 2026-11-23"
		}
		field.Set(reflect.ValueOf(day))
		return ""
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		field.SetBool(text == "true" || text == "on")
	case reflect.Int, reflect.Int64:
		if text == "" {
			return ""
		}
		number, err := strconv.ParseInt(text, 10, field.Type().Bits())
		if err != nil {
			return "must be a whole number"
		}
		field.SetInt(number)
	case reflect.Slice:
		list := reflect.MakeSlice(field.Type(), len(given), len(given))
		for n, one := range given {
			list.Index(n).SetString(one)
		}
		field.Set(list)
	default:
		panic("a form can't have a field of type " + field.Type().String())
	}
	return ""
}

// duration reads a length of time; empty is 0. Days are d.
func duration(text string) (time.Duration, bool) {
	if text == "" {
		return 0, true
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err == nil && n >= 0 && n <= 36500
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}
