package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	batonv1 "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/codes"
)

// metrics are what Prometheus asks for: the process, the calls, and what the
// database says at that moment. They carry no names, so that they may be read by
// whoever reaches the port.
type metrics struct {
	*prometheus.Registry
	calls   *prometheus.HistogramVec
	methods map[string]bool // of gRPC, by path
}

func newMetrics(d *domain, log *slog.Logger) (*metrics, error) {
	m := &metrics{
		Registry: prometheus.NewRegistry(), methods: map[string]bool{},
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "airlock_call_seconds", Help: "calls at the https port, by route and the code of their answer; GetTask is held until there is a task",
			Buckets: []float64{.005, .025, .1, .5, 1, 5, 30, 300},
		}, []string{"route", "code"}),
	}
	service := batonv1.BatonService_ServiceDesc
	for _, method := range service.Methods {
		m.methods["/"+service.ServiceName+"/"+method.MethodName] = true
	}
	for _, stream := range service.Streams {
		m.methods["/"+service.ServiceName+"/"+stream.StreamName] = true
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.calls, newState(d, log),
	} {
		if err := m.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// rpc measures gRPC calls. What isn't a method of ours is one route: whoever
// calls mustn't be able to make as many as they like.
func (m *metrics) rpc(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		inner.ServeHTTP(w, r)
		route := "other"
		if m.methods[r.URL.Path] {
			route = r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		}
		code := codes.Unknown
		if number, err := strconv.ParseUint(w.Header().Get("Grpc-Status"), 10, 8); err == nil {
			code = codes.Code(number)
		}
		m.calls.WithLabelValues(route, code.String()).Observe(time.Since(begun).Seconds())
	})
}

// http measures other calls, by the pattern of the mux that they have.
func (m *metrics) http(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		inner.ServeHTTP(answer, r)
		_, path, _ := strings.Cut(r.Pattern, "/")
		route := "/" + path
		if r.Pattern == "" {
			route = "other"
		}
		m.calls.WithLabelValues(route, strconv.Itoa(answer.status)).Observe(time.Since(begun).Seconds())
	})
}

// answer remembers the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the last status, which is the answer's own.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// state counts what there is when it is asked.
type state struct {
	domain                                                           *domain
	log                                                              *slog.Logger
	up, connectors, tasks, syncs, changes, overdue, entries, covered *prometheus.Desc
}

const countingTime = 5 * time.Second

func newState(d *domain, log *slog.Logger) *state {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("airlock_"+name, help, labels, nil)
	}
	return &state{
		domain: d, log: log,
		up:         desc("database_up", "1 while the database answers"),
		connectors: desc("connectors", "connectors by what is wrong with them; none is empty", "problem"),
		tasks:      desc("connector_tasks", "connector tasks that aren't over, by state", "state"),
		syncs:      desc("syncs", "syncs that aren't over, by state", "state"),
		changes:    desc("changes", "changes of access that aren't over, by state", "state"),
		overdue:    desc("changes_overdue", "changes of access that should have moved on"),
		entries:    desc("audit_entries", "entries of the audit log"),
		covered:    desc("audit_checkpoint_entries", "entries that the last checkpoint covers"),
	}
}

// Describe names the families.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{s.up, s.connectors, s.tasks, s.syncs, s.changes, s.overdue, s.entries, s.covered} {
		to <- desc
	}
}

// Collect counts.
func (s *state) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countingTime)
	defer cancel()
	up := 1.0
	if err := s.count(ctx, to); err != nil {
		up = 0
		s.log.WarnContext(ctx, "not all metrics could be counted", "error", err)
	}
	to <- prometheus.MustNewConstMetric(s.up, prometheus.GaugeValue, up)
}

func (s *state) count(ctx context.Context, to chan<- prometheus.Metric) error {
	tell := func(desc *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	connectors, err := s.domain.integration.Counts(ctx)
	if err != nil {
		return err
	}
	for problem, n := range connectors.Connectors {
		tell(s.connectors, n, string(problem))
	}
	for state, n := range connectors.Tasks {
		tell(s.tasks, n, string(state))
	}
	for state, n := range connectors.Syncs {
		tell(s.syncs, n, string(state))
	}
	changes, late, err := s.domain.provision.Counts(ctx)
	if err != nil {
		return err
	}
	for state, n := range changes {
		tell(s.changes, n, string(state))
	}
	tell(s.overdue, late)
	entries, covered, err := s.domain.audit.Extent(ctx)
	if err != nil {
		return err
	}
	tell(s.entries, entries)
	tell(s.covered, covered)
	return nil
}
