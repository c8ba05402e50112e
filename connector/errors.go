package connector

import (
	"context"
	"errors"
	"time"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"airlock/airflow"
)

// codeOf is what the SDK makes of each kind of error: it repeats Unavailable, and
// in a sync skips NotFound.
var codeOf = map[airflow.Kind]codes.Code{
	airflow.Unavailable:     codes.Unavailable,
	airflow.Unauthenticated: codes.Unauthenticated,
	airflow.Forbidden:       codes.PermissionDenied,
	airflow.NotFound:        codes.NotFound,
	airflow.Conflict:        codes.AlreadyExists,
	airflow.Invalid:         codes.InvalidArgument,
	airflow.Precondition:    codes.FailedPrecondition,
	airflow.Moved:           codes.Aborted,
}

// grpcError gives an error the code that it has in gRPC.
func grpcError(err error) error {
	var e *airflow.Error
	code := codes.Internal
	switch {
	case errors.As(err, &e):
		if known, ok := codeOf[e.Kind]; ok {
			code = known
		}
	case status.Code(err) != codes.Unknown:
		return err // it has one, or is nil
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	st := status.New(code, "baton-airflow: "+err.Error())
	if e != nil && e.RetryAfter > 0 {
		limit := v2.RateLimitDescription_builder{
			Status: v2.RateLimitDescription_STATUS_OVERLIMIT, ResetAt: timestamppb.New(time.Now().Add(e.RetryAfter)),
		}.Build()
		if with, err := st.WithDetails(limit); err == nil {
			st = with
		}
	}
	return st.Err()
}

// listError is grpcError for what belongs to a list. The SDK takes NotFound from
// a list for "there is none of these" and calls the sync a success, so no list
// ever answers with it.
func listError(err error) error {
	err = grpcError(err)
	if status.Code(err) == codes.NotFound {
		return status.Error(codes.FailedPrecondition, status.Convert(err).Message())
	}
	return err
}

// refused says that something isn't done, and why.
func refused(why string) error {
	return status.Error(codes.FailedPrecondition, "baton-airflow: refused: "+why+": nothing was changed")
}
