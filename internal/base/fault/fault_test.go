package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestEachErrorHasACodeAStatusAndWords(t *testing.T) {
	hidden := errors.New("dial tcp 10.0.0.1: password=secret")
	for _, test := range []struct {
		name  string
		err   error
		code  Code
		http  int
		grpc  codes.Code
		words string
	}{
		{"none", nil, "", 0, codes.OK, ""},
		{"unknown", hidden, Internal, 500, codes.Internal, "something went wrong inside; the server's log says what"},
		{"ours", New(NotFound, "there is no app %q", "x"), NotFound, 404, codes.NotFound, `there is no app "x"`},
		{"ours, wrapped", fmt.Errorf("line 3: %w", New(Invalid, "no name")), Invalid, 400, codes.InvalidArgument, "line 3: no name"},
		{"ours, joined", errors.Join(hidden, New(Conflict, "taken")), Conflict, 409, codes.AlreadyExists, hidden.Error() + "\ntaken"},
		{"ours around another", New(TooLarge, "the file is cut off: %w", io.ErrUnexpectedEOF), TooLarge, 413, codes.ResourceExhausted, "the file is cut off: unexpected EOF"},
		{"ours is told before its cause", New(NotReady, "later: %w", context.Canceled), NotReady, 409, codes.FailedPrecondition, "later: context canceled"},
		{"internal, ours", New(Internal, "the log is damaged"), Internal, 500, codes.Internal, "the log is damaged"},
		{"cancelled", fmt.Errorf("query of %s: %w", "secret", context.Canceled), Cancelled, 499, codes.Canceled, "it was cancelled"},
		{"too slow", fmt.Errorf("query of %s: %w", "secret", context.DeadlineExceeded), Timeout, 504, codes.DeadlineExceeded, "it took too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := CodeOf(test.err); got != test.code {
				t.Errorf("code %q, want %q", got, test.code)
			}
			if test.err != nil && !Is(test.err, test.code) {
				t.Errorf("Is(%q) is false", test.code)
			}
			if got := HTTP(test.err); got != test.http {
				t.Errorf("HTTP %d, want %d", got, test.http)
			}
			if got := GRPC(test.err); got != test.grpc {
				t.Errorf("gRPC %v, want %v", got, test.grpc)
			}
			if got := Words(test.err); got != test.words {
				t.Errorf("words %q, want %q", got, test.words)
			}
		})
	}
}

func TestNoErrorIsOfNoKind(t *testing.T) {
	if Is(nil, Internal) || Is(nil, "") {
		t.Error("nil is of a kind")
	}
}

func TestCausesAreKept(t *testing.T) {
	other := errors.New("other")
	one := New(Invalid, "bad: %w", io.EOF)
	two := New(Invalid, "bad: %w, %w", io.EOF, other)
	if !errors.Is(one, io.EOF) || !errors.Is(two, io.EOF) || !errors.Is(two, other) {
		t.Error("a wrapped cause is lost")
	}
	if none := New(Invalid, "bad"); none.Err != nil || errors.Unwrap(none) != nil {
		t.Errorf("an error without a cause has one: %v", none.Err)
	}
	if got := New(Invalid, "empty").At("name").Field; got != "name" {
		t.Errorf("field %q", got)
	}
}

func TestEveryCodeHasStatuses(t *testing.T) {
	for _, code := range []Code{
		Invalid, Unauthenticated, Forbidden, NotFound, Conflict, NotReady, TooLarge, Exhausted, Unavailable, Timeout, Cancelled, Internal,
	} {
		err := New(code, "x")
		if status := HTTP(err); status != 499 && http.StatusText(status) == "" || status < 400 {
			t.Errorf("%s is HTTP %d", code, status)
		}
		if GRPC(err) == codes.OK {
			t.Errorf("%s is OK in gRPC", code)
		}
	}
	if len(statuses) != 12 {
		t.Errorf("there are %d statuses", len(statuses))
	}
}
