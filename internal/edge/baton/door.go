package baton

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"airlock/internal/base/fault"
	"airlock/internal/base/id"
	"airlock/internal/base/trace"
	"airlock/internal/identity"
)

type key struct{}

// caller is the connector that calls.
func caller(ctx context.Context) identity.Actor {
	actor, _ := ctx.Value(key{}).(identity.Actor) // nobody may do nothing
	return actor
}

// recognise finds out who calls, unless that is known.
func (s *Server) recognise(ctx context.Context, authorization string) (context.Context, error) {
	if _, known := ctx.Value(key{}).(identity.Actor); known {
		return ctx, nil
	}
	scheme, bearer, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "bearer") || bearer == "" {
		return ctx, fault.New(fault.Unauthenticated, "a call carries the token that /auth/v1/token gives")
	}
	client, err := s.identity.Authenticate(ctx, bearer)
	if err != nil {
		return ctx, err
	}
	ctx = trace.With(trace.With(ctx, "request", id.New()), "connector", client.SubjectID)
	return context.WithValue(ctx, key{}, identity.Connector(client.SubjectID, client.ID)), nil
}

// still asks whether who calls may still do so: its client may have been revoked
// while a call was held. That its token ran out meanwhile is no reason.
func (s *Server) still(ctx context.Context) error {
	actor := caller(ctx)
	clients, err := s.identity.Clients(ctx, s.db, actor.ID)
	if err != nil {
		return err
	}
	for _, client := range clients {
		if client.ID == actor.Name && client.RevokedAt.IsZero() {
			return nil
		}
	}
	return fault.New(fault.Unauthenticated, "the client was revoked")
}

// admit finds out who calls before a message is read.
func (s *Server) admit(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := s.recognise(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			err = s.failed(r.Context(), err)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", strconv.Itoa(int(status.Code(err))))
			w.Header().Set("Grpc-Message", url.PathEscape(status.Convert(err).Message()))
			w.WriteHeader(http.StatusOK)
			return
		}
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
}

func authorization(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) == 1 {
		return values[0]
	}
	return ""
}

func (s *Server) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	defer func() { err = s.failed(ctx, caught(recover(), err)) }()
	ctx, err = s.recognise(ctx, authorization(ctx))
	if err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (s *Server) stream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	ctx := stream.Context()
	defer func() { err = s.failed(ctx, caught(recover(), err)) }()
	ctx, err = s.recognise(ctx, authorization(ctx))
	if err != nil {
		return err
	}
	return handle(service, within{stream, ctx})
}

// within is a stream with another context.
type within struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is the other context.
func (w within) Context() context.Context { return w.ctx }

// caught makes an error of a panic: one connector's message must not end the
// server.
func caught(panicked any, err error) error {
	if panicked == nil {
		return err
	}
	return fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
}

// failed says an error in gRPC's terms: here, once.
func (s *Server) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is && !errors.As(err, new(*fault.Error)) {
		return err // of gRPC itself: the call was broken off
	}
	switch fault.CodeOf(err) {
	case fault.Internal:
		s.log.ErrorContext(ctx, "a connector's call failed", "error", err)
	case fault.Cancelled:
	default:
		attributes := []any{"error", err}
		if cause := errors.Unwrap(err); cause != nil {
			attributes = append(attributes, "cause", cause)
		}
		s.log.InfoContext(ctx, "a connector's call was refused", attributes...)
	}
	return status.Error(fault.GRPC(err), fault.Words(err))
}
