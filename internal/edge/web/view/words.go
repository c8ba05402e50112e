package view

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Number is a number with commas, as in 4,210.
func Number[N ~int | ~int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "−", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// Count is a number and what it counts: "1 grant", "12 grants". Many is only
// needed where it isn't one with an s.
func Count[N ~int | ~int64](n N, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return Number(n) + " " + many[0]
	default:
		return Number(n) + " " + one + "s"
	}
}

// Duration is a length of time that somebody chose: "4 hours", "30 days",
// "1 day 12 hours". Zero has no limit.
func Duration(d time.Duration) string {
	if d <= 0 {
		return "No limit"
	}
	return units(d, [...]string{" day", " hour", " minute", " second"}, "s")
}

// Took is a length of time that was measured: "41 s", "1 min 12 s", "2 h 5 min",
// "3 days".
func Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d.Milliseconds(), 0))
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 48*time.Hour:
		return Count(int(d/(24*time.Hour)), "day")
	}
	return units(d, [...]string{" d", " h", " min", " s"}, "")
}

// units are the two largest units of a length of time.
func units(d time.Duration, names [4]string, plural string) string {
	var parts []string
	for n, unit := range [...]time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		count := int(d / unit)
		d %= unit
		if count > 0 && len(parts) < 2 {
			name := names[n]
			if count != 1 {
				name += plural
			}
			parts = append(parts, Number(count)+name)
		} else if len(parts) > 0 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// Relative is a time as it looks from now: "12 h ago", "in 35 min", and with the
// date where it is more than a week away.
func Relative(now, t time.Time) string {
	if t.IsZero() {
		return "Never"
	}
	d := now.Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	var words string
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		words = fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		words = fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		words = fmt.Sprintf("%d h", int(d.Hours()))
	case d < 8*24*time.Hour:
		words = Count(int(d.Hours()/24), "day")
	default:
		return Date(now, t)
	}
	if ahead {
		return "in " + words
	}
	return words + " ago"
}

// Date is the day of a time: "14 Aug", and with the year where it isn't this
// one.
func Date(now, t time.Time) string {
	if t.UTC().Year() == now.UTC().Year() {
		return t.UTC().Format("2 Jan")
	}
	return t.UTC().Format("2 Jan 2006")
}

// Moment is a day and a time of day, in UTC: "09:39 today", "14 Aug, 16:12".
func Moment(now, t time.Time) string {
	now, t = now.UTC(), t.UTC()
	if now.Format(time.DateOnly) == t.Format(time.DateOnly) {
		return t.Format("15:04") + " today"
	}
	return Date(now, t) + ", " + t.Format("15:04")
}

// exact is a time as the title of its words tells it.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// initials stand for a person: IM for Ines Marchetti.
func initials(name string) string {
	var letters []rune
	for word := range strings.FieldsSeq(name) {
		if first, _ := utf8.DecodeRuneInString(word); unicode.IsLetter(first) || unicode.IsDigit(first) {
			letters = append(letters, unicode.ToUpper(first))
		}
	}
	switch len(letters) {
	case 0:
		return "?"
	case 1:
		return string(letters)
	}
	return string([]rune{letters[0], letters[len(letters)-1]})
}

// Sentence begins with a capital and ends with a full stop: errors of the
// services don't.
func Sentence(words string) string {
	words = strings.TrimSpace(words)
	if words == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(words)
	if second, _ := utf8.DecodeRuneInString(words[size:]); !unicode.IsUpper(second) && !strings.ContainsAny(strings.SplitN(words, " ", 2)[0], "-_./:") {
		words = string(unicode.ToUpper(first)) + words[size:]
	}
	if last, _ := utf8.DecodeLastRuneInString(words); !strings.ContainsRune(".!?…", last) {
		words += "."
	}
	return words
}
