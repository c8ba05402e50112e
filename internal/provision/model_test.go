package provision

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	baton "github.com/conductorone/baton-sdk/pb/c1/connectorapi/baton/v1"
	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"airlock/internal/base/db"
	"airlock/internal/base/db/dbtest"
	"airlock/internal/base/fault"
	"airlock/internal/identity"
	"airlock/internal/integration"
)

// TestWhateverHappens lets operators, connector, target system and time do
// whatever they may. At all times an account has one change at its connector; in
// the end each change is over, was done at most once, and the inventory is what
// the target system holds.
func TestWhateverHappens(t *testing.T) {
	if flag.Lookup("rapid.checks").Value.String() == flag.Lookup("rapid.checks").DefValue {
		check(t, flag.Set("rapid.checks", "8")) // each makes a dozen files
	}
	r := newRig(t, dbtest.Open(t, db.SQLite))
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		inner := *r
		b := inner.open(fmt.Sprintf("Bank %d", n))
		_, err := b.Integration.SetAnomalyStop(t.Context(), identity.Operator(), b.connector.ID, false)
		check(t, err)
		m := &model{bank: b, out: map[string]*baton.Task{}, asked: map[string]Change{}}
		rt.Repeat(map[string]func(*rapid.T){
			"grant":  func(rt *rapid.T) { m.begin(rt, Grant) },
			"revoke": func(rt *rapid.T) { m.begin(rt, Revoke) },
			"take":   func(rt *rapid.T) { m.takes(rt) },
			"do":     func(rt *rapid.T) { m.finish(rt, func(task *baton.Task) { m.does(task) }) },
			"fail": func(rt *rapid.T) {
				code := rapid.SampledFrom([]codes.Code{codes.PermissionDenied, codes.Unavailable, codes.Internal}).Draw(rt, "code")
				m.finish(rt, func(task *baton.Task) { m.refuses(task, code, "no") })
			},
			"change there": func(rt *rapid.T) { pair := m.pair(rt); b.holds[pair] = !b.holds[pair] },
			"restart":      func(*rapid.T) { m.restart() },
			"pass": func(*rapid.T) {
				b.clock.Advance(20 * time.Minute)
				check(t, b.Integration.SweepTasks(t.Context()))
				m.sweeps()
			},
			"": func(rt *rapid.T) { m.oneWriter(rt) },
		})
		m.comesToRest(rt)
	})
}

// model is a bank and what the test knows of it.
type model struct {
	*bank
	out   map[string]*baton.Task // what the connector has
	asked map[string]Change
	order []string
}

func (m *model) pair(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"gold ann", "gold bob", "cash ann", "cash bob"}).Draw(rt, "pair")
}

func (m *model) begin(rt *rapid.T, kind Kind) {
	pair := m.pair(rt)
	ask := m.ask(pair[:4], pair[5:])
	m.clock.Advance(time.Second)
	do := m.Grant
	if kind == Revoke {
		do = m.Revoke
	}
	c, err := do(m.t.Context(), identity.Operator(), ask)
	if kind == Revoke && fault.Is(err, fault.NotReady) {
		return // there is nothing to revoke
	}
	check(m.t, err)
	if c.Kind != kind || c.State != Running {
		rt.Fatalf("a %s began as %+v", kind, c)
	}
	if _, joined := m.asked[c.ID]; !joined {
		m.asked[c.ID], m.order = c, append(m.order, c.ID)
	}
}

func (m *model) takes(rt *rapid.T) {
	for _, task := range m.take() {
		if m.out[task.GetId()] != nil {
			rt.Fatalf("task %s is given out twice", task.GetId())
		}
		m.out[task.GetId()] = task
	}
}

// finish ends one of the tasks that the connector has; a sync as it should.
func (m *model) finish(rt *rapid.T, do func(*baton.Task)) {
	ids := slices.Sorted(maps.Keys(m.out))
	if len(ids) == 0 {
		return
	}
	task := m.out[rapid.SampledFrom(ids).Draw(rt, "task")]
	delete(m.out, task.GetId())
	if task.HasSyncFull() {
		m.upload(task, m.file())
		return
	}
	do(task)
}

// restart loses what the connector has.
func (m *model) restart() {
	clear(m.out)
	check(m.t, m.Integration.Hello(m.t.Context(), m.actor, integration.Greeting{Host: "host", Metadata: metadata}))
}

func (m *model) sweeps() {
	check(m.t, m.sweep(m.t.Context()))
	m.settle()
	// What lapsed may be given out again.
	for id := range m.out {
		if task, err := m.Integration.TaskByID(m.t.Context(), m.DB, id); err != nil || task.State != integration.TaskLeased {
			delete(m.out, id)
		}
	}
}

// oneWriter checks that an account has one change at the connector.
func (m *model) oneWriter(rt *rapid.T) {
	accounts := map[string]int{}
	for id := range m.out {
		for _, c := range m.asked {
			if c.TaskID == id {
				accounts[c.PrincipalID]++
			}
		}
	}
	for account, n := range accounts {
		if n > 1 {
			rt.Fatalf("%d changes of %s are out at once", n, account)
		}
	}
}

func (m *model) comesToRest(rt *rapid.T) {
	for range 20 {
		if list, err := m.Newest(m.t.Context(), identity.Operator(), Place{}, true, 100); err != nil || len(list) == 0 {
			check(m.t, err)
			break
		}
		m.takes(rt)
		for _, id := range slices.Sorted(maps.Keys(m.out)) {
			task := m.out[id]
			delete(m.out, id)
			if task.HasSyncFull() {
				m.upload(task, m.file())
			} else {
				m.does(task)
			}
		}
		m.clock.Advance(2 * time.Hour)
		check(m.t, m.Integration.SweepTasks(m.t.Context()))
		m.sweeps()
	}
	for _, id := range m.order {
		c, err := m.ByID(m.t.Context(), identity.Operator(), id)
		check(m.t, err)
		if !c.State.Over() || (c.State == Failed) != (c.Error != "") || c.State == Verified && c.DoneAt.IsZero() {
			rt.Fatalf("in the end a change is %+v", c)
		}
		steps := m.steps(c)
		done := 0
		for _, step := range steps {
			if step == "connector "+string(c.Kind)+".done" {
				done++
			}
		}
		if len(steps) != 2+done || done > 1 || (done == 1) != !c.DoneAt.IsZero() {
			rt.Fatalf("the change %+v is told as %v", c, steps)
		}
	}
	m.restart()
	m.sync()
	for _, pair := range []string{"gold ann", "gold bob", "cash ann", "cash bob"} {
		if got := m.held(m.ask(pair[:4], pair[5:])); got != m.holds[pair] {
			rt.Fatalf("%s: the inventory says %t, the target system %t", pair, got, m.holds[pair])
		}
	}
}
