package admin

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"airlock/internal/audit"
	"airlock/internal/integration"
	"airlock/internal/inventory"
	"airlock/internal/provision"
)

// How long what is asked for may wait before the doctor calls it wrong.
const (
	patienceForTask = 15 * time.Minute
	patienceForJob  = 5 * time.Minute
	patienceForSign = 10 * time.Minute
)

// Count is a number of things: 1 connector, 2 connectors.
func Count[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Local reports whether a host, with a port or without, is reached from this
// machine alone.
func Local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (address.IsLoopback() || address.IsUnspecified()) || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// doctor says how the running server does.
func (d *door) doctor(ctx context.Context, _ nothing, _ *Stream) (any, error) {
	var list []Finding
	for _, look := range []func(context.Context) ([]Finding, error){d.health, d.tasks, d.open, d.jobs, d.signed} {
		found, err := look(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

func (d *door) health(ctx context.Context) ([]Finding, error) {
	var wrong []Finding
	all := 0
	for after := (inventory.Key{}); ; {
		page, err := d.Integration.List(ctx, d.actor, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, view := range page {
			all++
			if view.State == integration.Errored {
				words := fmt.Sprintf("%s is in Error: %s", view.Name, view.Detail)
				if next := nextStep(view.Connector); next != "" {
					words += "; " + next
				}
				wrong = append(wrong, Finding{"connectors", false, words})
			}
			after = inventory.Key{Name: view.Name, ID: view.ID}
		}
		if len(page) == 0 {
			break
		}
	}
	if len(wrong) == 0 {
		return []Finding{{"connectors", true, Count(all, "connector") + ", none in Error"}}, nil
	}
	return wrong, nil
}

func (d *door) tasks(ctx context.Context) ([]Finding, error) {
	since, connector, err := d.Integration.OldestTask(ctx, d.actor)
	switch {
	case err != nil:
		return nil, err
	case time.Since(since) > patienceForTask && !since.IsZero():
		return []Finding{{"connector tasks", false, fmt.Sprintf("one for %s could be taken since %s, and wasn't: see whether the connector runs", connector, since.UTC().Format(timeFormat))}}, nil
	}
	return []Finding{{"connector tasks", true, "none waits for long"}}, nil
}

func (d *door) open(ctx context.Context) ([]Finding, error) {
	open, late, err := d.Provision.Counts(ctx)
	if err != nil {
		return nil, err
	}
	words := fmt.Sprintf("%d under way, %d to be verified", open[provision.Running], open[provision.Done])
	if late > 0 {
		words += fmt.Sprintf(", %d of them overdue: `airlock change list --open` lists them", late)
	}
	return []Finding{{"changes of access", late == 0, words}}, nil
}

func (d *door) jobs(ctx context.Context) ([]Finding, error) {
	late, failing, err := d.Provision.Jobs.Late(ctx, time.Now().Add(-patienceForJob))
	if err != nil {
		return nil, err
	}
	var words []string
	if late > 0 {
		words = append(words, fmt.Sprintf("%s should have begun %s ago: start the server anew, its log may say more", Count(late, "job"), patienceForJob))
	}
	for _, kind := range slices.Sorted(maps.Keys(failing)) {
		words = append(words, fmt.Sprintf("%s of the kind %s fail again and again: the server's log says why", Count(failing[kind], "job"), kind))
	}
	if len(words) > 0 {
		return []Finding{{"jobs", false, strings.Join(words, "; ")}}, nil
	}
	return []Finding{{"jobs", true, "none is late"}}, nil
}

// signed looks whether the audit log's checkpoints keep up with it.
func (d *door) signed(ctx context.Context) ([]Finding, error) {
	entries, covered, err := d.Audit.Extent(ctx)
	if err != nil {
		return nil, err
	}
	words := fmt.Sprintf("%d entries, of which the last checkpoint covers %d", entries, covered)
	if entries <= covered {
		return []Finding{{"audit log", true, words}}, nil
	}
	first, err := d.Audit.List(ctx, d.actor, audit.Filter{From: covered, Before: covered + 1, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(first) > 0 && time.Since(first[0].At) > patienceForSign {
		words += ", none since " + first[0].At.UTC().Format(timeFormat) + ": `airlock audit verify` and the server's log say why"
		return []Finding{{"audit log", false, words}}, nil
	}
	return []Finding{{"audit log", true, words}}, nil
}
