// Command bench measures baton-airflow against an Airflow in memory: how long a
// sync takes and how much memory, beside a client that only fetches the same
// pages and beside the SDK storing the same objects without an Airflow, all in
// one run. And it measures the server: how long it takes to ingest what a
// connector reports, beside a bare load of the same rows, how soon a task reaches
// a connector, how soon it is ready, and its memory. It prints what it measured,
// and writes it into docs/performance.md where it measured everything.
//
// What is measured runs in processes of its own: the Airflow, the client, the
// SDK, the connector, each ingest, each load. They are this program again, told
// by a variable which of them to be, or the real programs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"airlock/airflow/airflowtest"
	"airlock/internal/ingest"
)

// asVariable says which of the processes this is; the one that measures, if it
// isn't set.
const asVariable = "AIRLOCK_BENCH_AS"

const (
	asAirflow = "airflow" // the in-memory Airflow; argument: its scale
	asClient  = "client"  // the bare client; arguments: base URL, pages
	asReplay  = "replay"  // the replaying connector; the SDK's arguments
	asPlane   = "plane"   // a control plane's sync; argument: planeSync

	// These take themselves as argument, and answer on stdout.
	asIntake   = "intake"
	asBareLoad = "bare load"
	asHandOver = "hand-over"

	// This is told by the first argument instead, since an ingest clears the
	// environment of what reads its file.
	decodeArgument = "decode"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := be(ctx, os.Getenv(asVariable)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func be(ctx context.Context, as string) error {
	switch as {
	case asAirflow:
		var scale airflowtest.Scale
		if err := json.Unmarshal([]byte(os.Args[1]), &scale); err != nil {
			return err
		}
		return serveAirflow(scale)
	case asClient:
		return fetch(ctx, os.Args[1], os.Args[2:])
	case asReplay:
		replay()
		return nil
	case asPlane:
		var p planeSync
		if err := json.Unmarshal([]byte(os.Args[1]), &p); err != nil {
			return err
		}
		return p.sync(ctx)
	case asIntake:
		return respond[intake, used](ctx)
	case asBareLoad:
		return respond[bareLoad, used](ctx)
	case asHandOver:
		return respond[handOver, handedOver](ctx)
	}

	if len(os.Args) == 3 && os.Args[1] == decodeArgument {
		return ingest.Decode(ctx, os.Args[2], os.Stdout)
	}

	sizes := flag.String("users", "1000,10000,100000", "how many users to sync")
	roles := flag.Int("roles", 200, "how many roles there are, beside the built-in ones")
	dags := flag.Int("dags", 300, "how many DAGs there are")
	runs := flag.Int("runs", 5, "how often each is measured, and three times as often up to 1,000 users; what is told is the shortest")
	server := flag.Bool("server", false, "measure the server alone")
	grants := flag.Int("grants", 1_000_000, "how many grants the server ingests")
	profiles := flag.String("profiles", "", "measure the ingests alone, with CPU profiles into this `folder`")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), `Measures all and writes it into docs/performance.md. With -server alone it does so for the server;
with other options it measures the syncs alone, or the server alone, and writes nothing.`)
		flag.PrintDefaults()
	}
	flag.Parse()
	var judged []error
	if !*server {
		b := bench{runs: *runs, all: flag.NFlag() == 0}
		for size := range strings.SplitSeq(*sizes, ",") {
			users, err := strconv.Atoi(size)
			if err != nil {
				return fmt.Errorf("-users %s: %w", *sizes, err)
			}
			b.scales = append(b.scales, airflowtest.Scale{Users: users, Roles: *roles, DAGs: *dags})
		}
		measured, err := b.measure(ctx)
		if err != nil {
			return err
		}
		if err := tell(measured.markdown(), connectorPart, b.all); err != nil {
			return err
		}
		judged = append(judged, measured.judge())
	}
	if *server || flag.NFlag() == 0 {
		b := serverBench{grants: *grants, runs: min(*runs, 3), profiles: *profiles}
		measured, err := b.measure(ctx)
		if err != nil {
			return err
		}
		if err := tell(measured.markdown(), serverPart, flag.NFlag() == 0 || *server && flag.NFlag() == 1); err != nil {
			return err
		}
		judged = append(judged, measured.judge())
	}
	return errors.Join(judged...)
}

// tell prints what was measured, and writes it into its part of the document.
func tell(text string, where part, write bool) error {
	fmt.Println(text)
	if !write {
		return nil
	}
	return where.writeInto("docs/performance.md", text)
}

// environment is this one's, without settings for a connector and without those
// for the processes of this benchmark.
func environment(more ...string) []string {
	clean := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "BATON_") || strings.HasPrefix(s, "AIRLOCK_BENCH_")
	})
	return append(clean, more...)
}

// argument is a value as one of the processes takes it.
func argument(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data
	}
	return string(text)
}
