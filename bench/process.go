package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a program used, its children with it.
type usage struct {
	Wall time.Duration
	// Parent and Child are the peaks of resident memory in bytes: of the program
	// itself, and of the child that it starts.
	Parent, Child int64
}

// self is this program.
const self = "/proc/self/exe"

// run runs a program to its end and watches it. What it says is shown only where
// it fails.
func run(ctx context.Context, program string, args, env []string) (usage, error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = &said, &said
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, fmt.Errorf("start %s: %w", program, err)
	}
	done, watched := make(chan struct{}), make(chan usage)
	go func() { watched <- watch(cmd.Process.Pid, 20*time.Millisecond, done) }()
	err := cmd.Wait() // for the children too, which hold the same output
	wall := time.Since(started)
	close(done)
	used := <-watched
	used.Wall = wall
	if err == nil && bytes.Contains(said.Bytes(), []byte("runner: error")) {
		err = fmt.Errorf("it logged an error") // which the SDK ends with status 0 now and then
	}
	if err != nil {
		return used, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, said.Bytes()[max(0, said.Len()-3000):])
	}
	return used, nil
}

// watch looks at a process and its children now and then until done. What they do
// after the last look is not seen.
func watch(pid int, every time.Duration, done <-chan struct{}) (used usage) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if n, ok := peak(pid); ok {
			used.Parent = n // not the greatest seen: before it becomes the program, it shares our memory
		}
		for _, child := range children(pid) {
			if n, ok := peak(child); ok {
				used.Child = n
			}
		}
		select {
		case <-tick.C:
		case <-done:
			return used
		}
	}
}

// children are the ids of a process's children.
func children(pid int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // gone: it has none
		for field := range strings.FieldsSeq(string(text)) {
			if p, err := strconv.Atoi(field); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}

// peak is the most memory that a process has had so far; not ok if it has ended.
func peak(pid int) (bytes int64, ok bool) {
	bytes, err := statusOf(pid, "VmHWM")
	return bytes, err == nil
}

// statusOf is one of the sizes in a process's status, in bytes.
func statusOf(pid int, name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kb, found := strings.CutPrefix(line, name+":"); found {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("the process %d doesn't tell its %s", pid, name)
}

// ask runs one of the processes of this benchmark, and reads its answer.
func ask[T any](ctx context.Context, as string, what any) (answer T, err error) {
	var problems bytes.Buffer
	cmd := exec.CommandContext(ctx, self, argument(what))
	cmd.Env = environment(asVariable + "=" + as)
	cmd.Stderr = &problems
	said, err := cmd.Output()
	if err != nil {
		return answer, fmt.Errorf("%s: %w: %s", as, err, problems.Bytes()[max(0, problems.Len()-3000):])
	}
	err = json.Unmarshal(said, &answer)
	return answer, err
}

// respond is one of those processes: it takes its argument and writes its answer.
func respond[W interface {
	run(ctx context.Context) (T, error)
}, T any](ctx context.Context) error {
	var what W
	if err := json.Unmarshal([]byte(os.Args[1]), &what); err != nil {
		return err
	}
	result, err := what.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
