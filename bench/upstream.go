package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"airlock/airflow/airflowtest"
)

// countsPath is where the Airflow of this benchmark tells what it was asked
// since it last told.
const countsPath = "/bench/requests"

// serveAirflow is the process of the in-memory Airflow. It tells its address on
// stdout and ends with its stdin.
func serveAirflow(scale airflowtest.Scale) error {
	srv := airflowtest.New(airflowtest.Options{})
	srv.Generate(scale)
	mux := http.NewServeMux()
	mux.Handle("/", srv)
	mux.HandleFunc(countsPath, func(w http.ResponseWriter, _ *http.Request) {
		counts := map[string]int{}
		for _, r := range srv.Requests() {
			counts[r.Endpoint]++
		}
		srv.ResetLog()
		_ = json.NewEncoder(w).Encode(counts)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		listener.Close()
	}()
	server := http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// upstream is an Airflow in memory that runs as a process of its own.
type upstream struct {
	scale airflowtest.Scale
	url   string
	stop  func() error
}

// startUpstream starts one. End it with stop.
func startUpstream(ctx context.Context, scale airflowtest.Scale) (upstream, error) {
	cmd := exec.CommandContext(ctx, self, argument(scale))
	cmd.Env = environment(asVariable + "=" + asAirflow)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return upstream{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return upstream{}, err
	}
	if err := cmd.Start(); err != nil {
		return upstream{}, err
	}
	var url string
	if _, err := fmt.Fscanln(stdout, &url); err != nil {
		return upstream{}, fmt.Errorf("the in-memory Airflow didn't start: %w", errors.Join(err, stdin.Close(), cmd.Wait()))
	}
	return upstream{scale: scale, url: url, stop: func() error { return errors.Join(stdin.Close(), cmd.Wait()) }}, nil
}

// settings are the connector's for this Airflow.
func (u upstream) settings(permissions bool) []string {
	return environment(
		"BATON_AIRFLOW_BASE_URL="+u.url, "BATON_AIRFLOW_USERNAME=admin", "BATON_AIRFLOW_PASSWORD=admin",
		fmt.Sprintf("BATON_SYNC_PERMISSIONS=%t", permissions), "BATON_LOG_LEVEL=error",
	)
}

// requests is what was asked since this was last asked, by endpoint.
func (u upstream) requests(ctx context.Context) (map[string]int, error) {
	body, err := get(ctx, u.url+countsPath, "")
	if err != nil {
		return nil, err
	}
	var counts map[string]int
	err = json.Unmarshal(body, &counts)
	return counts, err
}

// pages are the addresses of all pages of the lists that a sync reads, as it
// reads them: from the second on each begins with the last item of the one
// before.
func (u upstream) pages(permissions bool) []string {
	const builtIn = 5
	lists := []struct {
		path, query string
		items       int
	}{
		{"/auth/fab/v1/users", "order_by=id", u.scale.Users + 1}, // and the admin
		{"/auth/fab/v1/roles", "order_by=role_id", u.scale.Roles + builtIn},
		{"/api/v2/dags", "exclude_stale=false&order_by=dag_id", u.scale.DAGs},
	}
	if !permissions {
		lists = lists[:2]
	}
	var urls []string
	for _, l := range lists {
		for offset := 0; offset == 0 || offset+1 < l.items; offset += 99 {
			urls = append(urls, fmt.Sprintf("%s%s?limit=100&offset=%d&%s", u.url, l.path, offset, l.query))
		}
	}
	return urls
}

// fetch is the process of the bare client: it signs in, reads each page and
// throws it away.
func fetch(ctx context.Context, baseURL string, pages []string) error {
	body := strings.NewReader(`{"username":"admin","password":"admin"}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+"/auth/token", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := do(req)
	if err != nil {
		return err
	}
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal(answer, &token); err != nil {
		return err
	}
	for _, page := range pages {
		if _, err := get(ctx, page, token.Access); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, url, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(req)
}

func do(req *http.Request) ([]byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	return body, err
}
