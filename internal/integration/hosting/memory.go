package hosting

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is how much memory a process group uses.
type usage struct{ group, bytes int64 }

// watchMemory ends children that use too much.
func (h *Host) watchMemory(ctx context.Context) {
	ticker := time.NewTicker(h.config.Times.Sample)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		running := h.running()
		if len(running) == 0 {
			continue
		}
		used := memoryByGroup()
		for _, c := range running {
			group := c.group.Load()
			if n := used[group]; group > 0 && n > h.config.Memory {
				select {
				case c.tooLarge <- usage{group, n}:
				default:
				}
			}
		}
	}
}

// memoryByGroup is how much memory of their own the processes of each group use,
// in bytes, as /proc tells.
func memoryByGroup() map[int64]int64 {
	used := map[int64]int64{}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, process := range processes {
		stat, err := os.ReadFile(process + "/stat") //nolint:gosec // of /proc
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid pgrp …; the name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 3 {
			continue
		}
		group, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			continue
		}
		var size, resident, shared int64
		statm, err := os.ReadFile(process + "/statm") //nolint:gosec // of /proc
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(statm), &size, &resident, &shared); err == nil {
			used[group] += (resident - shared) * int64(os.Getpagesize())
		}
	}
	return used
}
