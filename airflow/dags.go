package airflow

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// DAG is a workflow.
type DAG struct {
	ID, Name, Description string
	// Owners are free text from the DAG's code, not accounts.
	Owners, Tags []string
	Paused       bool
	// Stale is whether its file is gone, or no longer says it.
	Stale bool
}

type wireDAG struct {
	ID          string     `json:"dag_id"`
	Name        string     `json:"dag_display_name"`
	Description *string    `json:"description"`
	Owners      []string   `json:"owners"`
	Tags        []wireName `json:"tags"`
	Paused      *bool      `json:"is_paused"`
	Stale       *bool      `json:"is_stale"`  // Airflow 3
	Active      *bool      `json:"is_active"` // Airflow 2
}

func (w wireDAG) dag() (DAG, error) {
	if w.ID == "" {
		return DAG{}, errors.New("a DAG without an id")
	}
	d := DAG{
		ID: w.ID, Name: w.Name, Paused: w.Paused != nil && *w.Paused,
		Stale: w.Stale != nil && *w.Stale || w.Active != nil && !*w.Active,
	}
	if w.Description != nil {
		d.Description = *w.Description
	}
	for _, owner := range w.Owners {
		d.Owners = append(d.Owners, strings.TrimSpace(owner)) // Airflow 2 splits "a, b" at the comma alone
	}
	for _, t := range w.Tags {
		d.Tags = append(d.Tags, t.Name)
	}
	return d, nil
}

// dagList lists stale DAGs too: permissions on them remain, and count again when
// the DAG comes back.
func (s Server) dagList() list[DAG] {
	stale := url.Values{"exclude_stale": {"false"}}
	if s.api == 1 {
		stale = url.Values{"only_active": {"false"}}
	}
	return list[DAG]{
		call: call{
			op: "list DAGs", method: http.MethodGet, endpoint: api, path: s.apiPath("dags"), query: stale,
			needs: Permission{Action: "can_read", Resource: "DAGs"},
		},
		order: "dag_id",
		key:   func(d DAG) string { return d.ID },
		fetch: func(ctx context.Context, c *Client, call call) ([]DAG, int, error) {
			var answer struct {
				DAGs  []wireDAG `json:"dags"`
				Total *int      `json:"total_entries"`
			}
			if err := c.do(ctx, call, &answer); err != nil {
				return nil, 0, err
			}
			return items(call, answer.DAGs, answer.Total, wireDAG.dag)
		},
	}
}

// DAGsPage reads the part of the list of DAGs at cur: those that the account
// may read, which are all with (can_read, DAGs), and else those whose own
// permission it has. Airflow doesn't say which of the two it is.
func (c *Client) DAGsPage(ctx context.Context, cur Cursor) (Page[DAG], error) {
	s, err := c.routes(ctx)
	if err != nil {
		return Page[DAG]{}, err
	}
	return s.dagList().page(ctx, c, cur)
}

// DAGs yields every DAG that the account may read; see [Client.DAGsPage].
func (c *Client) DAGs(ctx context.Context) iter.Seq2[DAG, error] {
	return func(yield func(DAG, error) bool) {
		s, err := c.routes(ctx)
		if err != nil {
			yield(DAG{}, err)
			return
		}
		s.dagList().all(ctx, c)(yield)
	}
}
