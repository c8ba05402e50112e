package airflowtest

import (
	"cmp"
	"slices"
	"strings"
)

// DAG is a DAG as Airflow lists it. Access is its access_control: role →
// "DAGs" or "DAG Runs" → actions.
type DAG struct {
	ID          string
	Description string
	Owners      []string
	Tags        []string
	Paused      bool
	Stale       bool // its file is gone
	Access      map[string]map[string][]string
}

var dagParams = []string{"limit", "offset", "order_by", "tags", "only_active", "paused", "dag_id_pattern", "fields"}

// dagJSON is the part of a DAG that says something here. Airflow 2 says active
// where 3 says stale.
func (s *Server) dagJSON(d DAG) map[string]any {
	out := map[string]any{
		"dag_id": d.ID, "dag_display_name": d.ID, "description": nullable(d.Description), "is_paused": d.Paused,
		"fileloc": "/opt/airflow/dags/" + d.ID + ".py", "file_token": "token-of-" + d.ID, "owners": append([]string{}, d.Owners...),
	}
	tags := []map[string]string{}
	for _, name := range d.Tags {
		tag := map[string]string{"name": name}
		if !s.Profile.V2() {
			tag["dag_id"] = d.ID
		}
		tags = append(tags, tag)
	}
	out["tags"] = tags
	if s.Profile.V2() {
		out["is_active"] = !d.Stale
	} else {
		out["is_stale"] = d.Stale
	}
	return out
}

// readable are the DAGs that the caller may read: all, or those of its rights on
// single ones. Who may read none is refused.
func (s *Server) readable(c *call) (reads func(id string) bool, a answer) {
	if c.rights.has("can_read", "DAGs") {
		return func(string) bool { return true }, answer{}
	}
	some := map[string]bool{}
	for _, set := range c.rights.sets {
		for p := range set {
			if id, isDAG := strings.CutPrefix(p.Resource, "DAG:"); isDAG && p.Action == "can_read" {
				some[id] = true
			}
		}
	}
	switch {
	case len(some) > 0:
	case c.flask:
		a = s.problem(403, "PermissionDenied", "Forbidden", nil)
	default:
		a = forbidden
	}
	return func(id string) bool { return some[id] }, a
}

func (s *Server) dags(c *call) answer {
	reads, a := s.readable(c)
	if a.status != 0 {
		return a
	}
	query := c.r.URL.Query()
	hideStale := query.Get("exclude_stale") != "false"
	if s.Profile.V2() {
		hideStale = query.Get("only_active") != "false"
	}
	column, descending := c.order("dag_id")
	if column != "dag_id" {
		return s.badOrder(c)
	}
	dags := slices.DeleteFunc(slices.Clone(s.store.dags), func(d DAG) bool {
		return !reads(d.ID) || hideStale && d.Stale || query.Has("paused") && (query.Get("paused") == "true") != d.Paused
	})
	if descending {
		slices.Reverse(dags)
	}
	return paged(s, c, "dags", dags, s.dagJSON)
}

// PutDAG adds or replaces a DAG and its permissions: what its access control
// gives on it is given to the roles, what it doesn't give is taken away. The
// roles it names must exist; it panics otherwise.
func (s *Server) PutDAG(d DAG) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.putDAG(d)
}

func (st *store) putDAG(d DAG) {
	i, found := slices.BinarySearchFunc(st.dags, d.ID, func(d DAG, id string) int { return cmp.Compare(d.ID, id) })
	if found {
		st.dags = slices.Delete(st.dags, i, i+1)
	}
	st.dags = slices.Insert(st.dags, i, d)
	onDAG, onRuns := "DAG:"+d.ID, "DAG Run:"+d.ID
	for _, p := range Permissions("can_read "+onDAG, "can_edit "+onDAG, "can_delete "+onDAG,
		"can_read "+onRuns, "can_create "+onRuns, "can_delete "+onRuns, "menu_access "+onRuns) {
		st.know(p)
	}
	for name := range d.Access {
		if st.role(name) == nil {
			panic("airflowtest: access control of the DAG " + d.ID + " names the role " + name + ", which does not exist")
		}
	}
	for _, r := range st.roles {
		if d.Access == nil || r.name == "Admin" {
			continue
		}
		perms := slices.DeleteFunc(slices.Clone(r.perms), func(p Permission) bool { return p.Resource == onDAG || p.Resource == onRuns })
		for kind, actions := range d.Access[r.name] {
			for _, action := range actions {
				perms = append(perms, Permission{action, map[string]string{"DAGs": onDAG, "DAG Runs": onRuns}[kind]})
			}
			perms = append(perms, Permission{"can_read", "Website"})
		}
		st.setPermissions(r, perms)
	}
}

// DeleteDAG takes a DAG away. Its permissions stay behind with the roles.
func (s *Server) DeleteDAG(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.dags = slices.DeleteFunc(s.store.dags, func(d DAG) bool { return d.ID == id })
}

// providers lists the packages of providers. Airflow 2 knows no pages here.
func (s *Server) providers(c *call) answer {
	all := [][2]string{
		{"common-compat", "1.12.0"},
		{"common-io", "1.7.1"},
		{"common-sql", "1.30.2"},
		{"fab", s.Profile.FAB},
		{"smtp", "2.4.2"},
		{"standard", "1.10.3"},
	}
	if s.opts.Auth != FAB {
		all = slices.Delete(all, 3, 4)
	}
	toJSON := func(p [2]string) map[string]any {
		return map[string]any{"package_name": "apache-airflow-providers-" + p[0], "description": "Provider " + p[0], "version": p[1]}
	}
	return paged(s, c, "providers", all, toJSON)
}

func (s *Server) version(*call) answer {
	return ok(map[string]string{"version": s.Profile.Airflow, "git_version": ".release:0000000000000000000000000000000000000000"})
}
