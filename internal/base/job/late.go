package job

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

const (
	often    = 4    // failures after which a job is told to fail again and again
	mostSeen = 1000 // jobs that are looked at
)

// Late counts jobs that should have begun at a time already, and those that fail
// again and again, by their kind. Of many jobs it sees those that are due first.
func (q *Queue) Late(ctx context.Context, at time.Time) (late int, failing map[string]int, err error) {
	waiting, err := q.client.JobList(ctx, river.NewJobListParams().First(mostSeen).OrderBy(river.JobListOrderByScheduledAt, river.SortOrderAsc).
		States(rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateScheduled))
	if err != nil {
		return 0, nil, fmt.Errorf("list the jobs that wait: %w", err)
	}
	failing = map[string]int{}
	for _, one := range waiting.Jobs {
		if one.ScheduledAt.Before(at) {
			late++
		}
		var what args
		if failed(one) >= often && json.Unmarshal(one.EncodedArgs, &what) == nil {
			failing[what.Name]++
		}
	}
	return late, failing, nil
}
