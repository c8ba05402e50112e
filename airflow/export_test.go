package airflow

import (
	"context"
	"time"
)

// SetClock replaces what the client knows of time: what it is, and how some passes.
func (c *Client) SetClock(now func() time.Time, wait func(context.Context, time.Duration) error) {
	c.now, c.wait = now, wait
}

var (
	ParseTime = parseTime
	Lifetime  = lifetime
	Wait      = wait
)
