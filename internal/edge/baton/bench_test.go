package baton

import (
	"slices"
	"testing"
	"time"

	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
)

// BenchmarkHandOver measures from the commit of a task to its arrival at a
// connector that waits for one.
func BenchmarkHandOver(b *testing.B) {
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		b.Run(string(engine), func(b *testing.B) {
			r := newRig(b, dbtest.Open(b, engine))
			c := r.add("Bank")
			c.hello()
			c.take()
			arrived := make(chan time.Time)
			go func() {
				for b.Context().Err() == nil {
					answer, err := c.GetTask(c.ctx(), baton.BatonServiceGetTaskRequest_builder{HostId: "a"}.Build())
					if err != nil || answer.GetTask() == nil {
						continue
					}
					arrived <- time.Now()
					_ = c.finish(answer.GetTask().GetId())
				}
			}()
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				for r.server.Holding() == 0 {
					<-time.After(100 * time.Microsecond)
				}
				b.StartTimer()
				r.grant(c)
				committed := time.Now()
				took = append(took, (<-arrived).Sub(committed))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
