package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"airlock/airflow/airflowtest"
	"airlock/internal/base/db/dbtest"
	command "airlock/internal/edge/admin"
)

// TestChaos kills server and connector at random moments of syncs, uploads and
// changes of access. After each blow the inventory comes to be what Airflow is,
// and no change is lost or done twice. CHAOS is how many blows each of the four
// variants takes; CHAOS_SEED repeats a run, but for what the machine decides.
func TestChaos(t *testing.T) {
	blows := 2
	if n, err := strconv.Atoi(os.Getenv("CHAOS")); err == nil {
		blows = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("CHAOS_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("CHAOS_SEED=%d", seed)
	for n, engine := range []string{"sqlite", "postgres"} {
		for m, where := range []string{"hosted", "self-hosted"} {
			t.Run(engine+"/"+where, func(t *testing.T) {
				url := ""
				if engine == "postgres" {
					url = dbtest.PostgresURL(t)
				}
				chaos(t, url, where == "hosted", blows, rand.New(rand.NewPCG(seed, uint64(2*n+m))))
			})
		}
	}
}

// storm is what is being shaken.
type storm struct {
	*airlock
	way       *gate // of the connector that runs elsewhere
	airflow   *airflowtest.Server
	url       string
	hosted    bool
	long      bool     // there is time
	variables string   // of the self-hosted connector
	connector *process // that runs elsewhere
	random    *rand.Rand
	wanted    map[string]string // change → what it does
}

func chaos(t *testing.T, url string, hosted bool, blows int, random *rand.Rand) {
	fake := airflowtest.New(airflowtest.Options{})
	fake.Load(airflowtest.Company())
	for n := range 400 { // so that a sync takes a while
		fake.PutUser(airflowtest.User{
			Username: fmt.Sprintf("extra-%03d", n), Email: fmt.Sprintf("extra-%03d@example.com", n), FirstName: "Extra", LastName: strconv.Itoa(n),
			Roles: []string{"Viewer"}, Active: true, Password: "pw",
		})
	}
	front := httptest.NewServer(fake)
	t.Cleanup(front.Close)

	way := newGate(t)
	s := &storm{airlock: newAirlock(t, url, "AIRLOCK_PUBLIC_URL=https://"+way.Addr().String()), way: way, airflow: fake, url: front.URL, hosted: hosted, long: blows > 5, random: random, wanted: map[string]string{}}
	way.to = s.address
	go way.serve()
	s.serve()
	if hosted {
		s.addHosted(front.URL, "Airflow")
	} else {
		s.variables = s.run("connector", "add", "airflow", "--app", "Airflow")
		s.connector = s.selfHosted(s.variables, front.URL)
	}
	s.settle()
	for blow := range blows {
		s.blow(blow)
	}
	s.run("audit", "verify")
	s.stop()
}

// moments are when a blow falls: while Airflow is read, at a stage of a sync,
// while Airflow is being asked to change something, before it answers that it
// did, or at any time.
var moments = []string{"reading", "uploading", "comparing", "applying", "asking", "answering", "some time", "some time"}

// handOver is when a sync has just been given to the connector. If that is lost
// with the server it takes a lease until it is given out again: too long for the
// short run.
const handOver = "handing over"

// smallest is what an upload has in bytes at least, and no other call.
const smallest = 20 << 10

// blow starts something, kills somebody in the middle of it, and looks whether
// all is well again.
func (s *storm) blow(n int) {
	s.t.Helper()
	began := time.Now()
	user := fmt.Sprintf("extra-%03d", s.random.IntN(400))
	doing := []string{"sync", "grant", "revoke"}[s.random.IntN(3)]
	moment := moments[s.random.IntN(len(moments))]
	if s.long && s.random.IntN(20) == 0 {
		moment = handOver
	}
	held := slices.Contains(s.airflow.Roles(user), "Op")
	if doing == "revoke" && !held {
		doing = "grant"
	}
	if doing == "sync" && s.random.IntN(2) == 0 { // what changes there is to be found too
		s.airflow.SetRoles(user, "User")
	}
	reached, let := s.prepare(moment, doing)
	if doing == "grant" || doing == "revoke" {
		var change command.Change
		s.json(&change, doing, "role:Op:assigned", user, "--app", "Airflow")
		s.wanted[change.ID] = user
	}
	follower := start(s.t, s.program, s.env, "", "--data-dir", s.dataDir, "connector", "sync", "Airflow", "--wait")
	if reached == nil {
		stage := moment
		if moment == handOver {
			stage = "reading" // is what a sync does from then on
		}
		reached = follower.log.signal(s.t, stage)
	}
	select {
	case <-reached:
	case <-follower.ended:
		follower.ended <- nil
		moment = "the end, not " + moment
	case <-time.After(5 * time.Second):
		moment = "last, not " + moment
	}
	victim := s.kill1()
	let()
	s.revive(victim)
	<-follower.ended
	s.settle()
	roles := s.airflow.Roles(user)
	if has := slices.Contains(roles, "Op"); doing == "grant" && !has || doing == "revoke" && has {
		s.t.Fatalf("blow %d: the %s of Op for %s was lost: Airflow has %v", n, doing, user, roles)
	}
	s.t.Logf("blow %d: killed the %s at %s during a %s of %s: %s", n, victim, moment, doing, user, time.Since(began).Round(100*time.Millisecond))
}

// prepare makes the moment of a blow known: by the channel, or, if that is nil,
// by what the sync tells of its progress. let lets go what is held until then.
func (s *storm) prepare(moment, doing string) (reached <-chan struct{}, let func()) {
	hold := airflowtest.NewHold()
	switch {
	case moment == "uploading" && !s.hosted:
		return s.way.shut(smallest + s.random.IntN(smallest))
	case moment == "reading", doing == "sync" && (moment == "asking" || moment == "answering"):
		s.airflow.Inject(airflowtest.Fault{Method: http.MethodGet, Skip: s.random.IntN(6), Act: hold.Act})
	case moment == "asking", moment == "answering":
		act := hold.Act
		if moment == "answering" {
			act = func(w http.ResponseWriter, r *http.Request, api http.Handler) {
				answer := httptest.NewRecorder()
				api.ServeHTTP(answer, r)
				hold.Act(w, r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					maps.Copy(w.Header(), answer.Header())
					w.WriteHeader(answer.Code)
					_, _ = w.Write(answer.Body.Bytes())
				}))
			}
		}
		s.airflow.Inject(airflowtest.Fault{Method: http.MethodPatch, Act: act})
	case moment == "some time":
		passed := make(chan struct{})
		time.AfterFunc(time.Duration(s.random.IntN(900))*time.Millisecond, func() { close(passed) })
		return passed, func() {}
	default:
		return nil, func() {}
	}
	return hold.Entered(), func() {
		s.airflow.ClearFaults()
		hold.Release()
	}
}

// kill1 kills the server, the connector, or both.
func (s *storm) kill1() (victim string) {
	s.t.Helper()
	victim = []string{"server", "connector", "server and connector"}[s.random.IntN(3)]
	if victim != "server" {
		if s.hosted {
			for _, child := range s.children() { // if it runs just now
				if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					s.t.Fatal(err)
				}
			}
		} else {
			s.connector.kill(s.t)
		}
	}
	if victim != "connector" {
		s.kill()
	}
	return victim
}

// revive starts what was killed.
func (s *storm) revive(victim string) {
	s.t.Helper()
	if victim != "connector" {
		s.serve()
	}
	if victim != "server" && !s.hosted {
		s.connector = s.selfHosted(s.variables, s.url)
	}
}

// settle waits until a sync is applied that began after everything, and holds
// the inventory against Airflow.
func (s *storm) settle() {
	s.t.Helper()
	for {
		_, problems, code := s.try("connector", "sync", "Airflow", "--wait", "--timeout", "3m")
		if code == 0 {
			break
		}
		// What was under way when the blow fell may fail; what is asked for afterwards
		// must not for ever.
		if code != 3 {
			s.t.Fatalf("a sync after the blow: exit %d: %s", code, problems)
		}
	}
	s.changesEnd()
	s.run("connector", "sync", "Airflow", "--wait", "--timeout", "3m")

	want := map[string][]string{}
	for _, user := range s.airflow.Users() {
		for _, role := range user.Roles {
			want[role] = append(want[role], user.Username)
		}
	}
	got := map[string][]string{}
	var rows []grantRow
	s.json(&rows, "export", "grants", "--app", "Airflow")
	for _, row := range rows {
		if role, ok := strings.CutPrefix(row.Entitlement, "role:"); ok && row.PrincipalType == "user" && !row.Inherited {
			role = strings.TrimSuffix(role, ":assigned")
			got[role] = append(got[role], row.Principal)
		}
	}
	for _, list := range []map[string][]string{want, got} {
		for _, members := range list {
			slices.Sort(members)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatalf("the inventory isn't what Airflow is (-Airflow +inventory):\n%s", diff)
	}
}

// changesEnd waits until every change of access that was asked for is over, and
// checks that each was done once.
func (s *storm) changesEnd() {
	s.t.Helper()
	for changeID, user := range s.wanted {
		var change command.Change
		s.json(&change, "change", "show", changeID, "--wait", "--timeout", "12m")
		if change.State != "verified" {
			s.t.Fatalf("the %s for %s: %s %s", change.Kind, user, change.State, change.Error)
		}
	}
	var entries []struct {
		Action string         `json:"action"`
		Detail map[string]any `json:"detail"`
	}
	s.json(&entries, "audit", "tail", "-n", "1000")
	done := map[string]int{}
	for _, e := range entries {
		if e.Action == "grant.done" || e.Action == "revoke.done" {
			done[fmt.Sprint(e.Detail["change"])]++
		}
	}
	for changeID := range s.wanted {
		if done[changeID] != 1 {
			s.t.Fatalf("change %s was done %d times", changeID, done[changeID])
		}
	}
	clear(s.wanted)
}
