package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"airlock/airflow"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	wants := map[airflow.Kind]codes.Code{
		airflow.Unavailable: codes.Unavailable, airflow.Unauthenticated: codes.Unauthenticated, airflow.Forbidden: codes.PermissionDenied,
		airflow.NotFound: codes.NotFound, airflow.Conflict: codes.AlreadyExists, airflow.Invalid: codes.InvalidArgument,
		airflow.Precondition: codes.FailedPrecondition, airflow.Moved: codes.Aborted,
	}
	for kind := airflow.Unavailable; kind <= airflow.Moved; kind++ {
		err := fmt.Errorf("around: %w", &airflow.Error{Kind: kind, Op: "list users", Hint: "look again"})
		want := wants[kind]
		if got := grpcError(err); status.Code(got) != want || !strings.Contains(got.Error(), "baton-airflow: around: airflow: list users") {
			t.Errorf("kind %d is %v, want %v", kind, got, want)
		}
		if want == codes.NotFound {
			want = codes.FailedPrecondition
		}
		if got := listError(err); status.Code(got) != want || !strings.Contains(got.Error(), "baton-airflow: around: airflow: list users") {
			t.Errorf("in a list, kind %d is %v, want %v", kind, got, want)
		}
	}
	for _, test := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{refused("no"), codes.FailedPrecondition},
		{fmt.Errorf("around: %w", refused("no")), codes.FailedPrecondition},
		{fmt.Errorf("list users: %w", context.Canceled), codes.Canceled},
		{fmt.Errorf("list users: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{errors.New("something else"), codes.Internal},
		{&airflow.Error{}, codes.Internal},
	} {
		if got := status.Code(grpcError(test.err)); got != test.want {
			t.Errorf("%v is %v, want %v", test.err, got, test.want)
		}
	}
}

// What Airflow asks to wait is told to the SDK.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		err := grpcError(&airflow.Error{Kind: airflow.Unavailable, Op: "list users", RetryAfter: 90 * time.Second})
		details := status.Convert(err).Details()
		if len(details) != 1 {
			t.Fatalf("its details are %v", details)
		}
		limit, ok := details[0].(*v2.RateLimitDescription)
		if !ok || limit.GetStatus() != v2.RateLimitDescription_STATUS_OVERLIMIT || !limit.GetResetAt().AsTime().Equal(time.Now().Add(90*time.Second)) {
			t.Errorf("its details are %v", details)
		}
		if details := status.Convert(grpcError(&airflow.Error{Kind: airflow.Unavailable})).Details(); len(details) > 0 {
			t.Errorf("where nothing is asked, there is %v", details)
		}
	})
}
