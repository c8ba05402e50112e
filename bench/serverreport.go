package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"airlock/internal/base/db"
)

// judge is the error that says which aim was missed.
func (m serverMeasured) judge() error {
	if m.company.Grants < aimedGrants {
		return nil
	}
	var missed []error
	for _, e := range m.engines {
		for _, one := range []struct {
			what string
			used used
			aim  float64
		}{{"the first ingest", e.first, firstAim}, {"the ingest of what didn't change", e.unchanged, unchangedAim}} {
			if e.ratio(one.used) > one.aim {
				missed = append(missed, fmt.Errorf("on %s %s of %s grants took %.2f times as long as a bare load of the same rows, the aim is %.1f",
					e.engine, one.what, thousands(int64(m.company.Grants)), e.ratio(one.used), one.aim))
			}
		}
	}
	return errors.Join(missed...)
}

var engineNames = map[db.Engine]string{db.SQLite: "SQLite", db.Postgres: "PostgreSQL"}

func (m serverMeasured) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	n := func(n int) string { return thousands(int64(n)) }

	c := m.company
	p("Measured on %s; %s. All of it took %s; the load of the machine was %s before and %s after.",
		m.machine, strings.Join(each(m.engines, func(e engineMeasured) string { return engineNames[e.engine] + " " + e.version }), ", "),
		m.took.Round(time.Second), m.before, m.after)
	p("")
	p("### Ingest")
	p("")
	p("%s grants of %s entitlements of %s roles and %s projects, %s of them to users, of which there are %s, and %s to roles, "+
		"whose members have them by that; a file of %s. The change takes %s grants away and adds as many.",
		n(c.Grants), n(c.roles()+c.rights()), n(c.roles()), n(c.projects()), n(c.direct()), n(c.users()), n(2*c.rights()), mb(m.bytes), n(c.moved()))
	p("")
	p("| database | | time | ratio | aim | longest write | peak memory | write-ahead log |")
	p("|---|---|--:|--:|--:|--:|--:|--:|")
	for _, e := range m.engines {
		for _, row := range []struct {
			what string
			used used
			aim  string
		}{
			{"bare load", e.bare, ""},
			{"first time", e.first, fmt.Sprint(firstAim)},
			{"unchanged", e.unchanged, fmt.Sprint(unchangedAim)},
			{"1 % changed", e.changed, ""},
		} {
			p("| %s | %s | %s | **%.2f** | %s | %s | %s | %s |", engineNames[e.engine], row.what, seconds(row.used.Took), e.ratio(row.used), row.aim,
				milliseconds(row.used.Longest), memory(row.used.Memory), mb(row.used.WAL))
		}
	}
	p("")
	if m.engines[0].start == (starts{}) {
		return strings.TrimSpace(b.String())
	}
	p("### The server")
	p("")
	p("| | %s | aim |", strings.Join(each(m.engines, func(e engineMeasured) string { return engineNames[e.engine] }), " | "))
	p("|---|%s--:|", strings.Repeat("--:|", len(m.engines)))
	for _, row := range []struct {
		what  string
		value func(e engineMeasured) string
		aim   string
	}{
		{"longest write of an ingest", func(e engineMeasured) string {
			return milliseconds(max(e.first.Longest, e.unchanged.Longest, e.changed.Longest))
		}, "100 ms"},
		{"task to a waiting connector, p50", func(e engineMeasured) string { return milliseconds(e.alone.P50) }, ""},
		{"the same, p99", func(e engineMeasured) string { return milliseconds(e.alone.P99) }, "50 ms"},
		{"task to one of 50 waiting connectors, p50", func(e engineMeasured) string { return milliseconds(e.among.P50) }, ""},
		{"the same, p99", func(e engineMeasured) string { return milliseconds(e.among.P99) }, "50 ms"},
		{"first start to ready", func(e engineMeasured) string { return seconds(e.start.first) }, "1 s"},
		{"later start to ready", func(e engineMeasured) string { return seconds(e.start.later) }, "1 s"},
		{"memory when idle, with a hosted connector", func(e engineMeasured) string { return mb(e.idle.resident) }, "80 MB"},
		{"of it not a part of the program's file", func(e engineMeasured) string { return mb(e.idle.own) }, ""},
	} {
		p("| %s | %s | %s |", row.what, strings.Join(each(m.engines, row.value), " | "), row.aim)
	}
	return strings.TrimSpace(b.String())
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
