package audit

import (
	"context"
	"sync"
	"time"

	"airlock/internal/base/fault"
)

// TopicVerify is told of while a Verifier works.
const TopicVerify = "audit/verify"

// Verifier verifies a log in the background, once at a time, and keeps what came
// of it.
type Verifier struct {
	log *Log

	mu    sync.Mutex
	state Verification // guarded by mu
}

// Verification is how far a verification is, or what came of it; the zero
// Verification is that none was begun since the server started.
type Verification struct {
	Running  bool
	Done, Of int64     // entries, while it runs
	At       time.Time // when it began, and later when it ended
	Report   Report    // once it isn't running
	Failed   string    // why it couldn't be made, in words
}

// NewVerifier makes one for a log.
func NewVerifier(log *Log) *Verifier { return &Verifier{log: log} }

// Begin begins a verification, which ends with the context, unless one runs. The
// channel is closed when it is over.
func (v *Verifier) Begin(ctx context.Context, actor Actor) (<-chan struct{}, error) {
	if err := v.log.options.MayRead(actor); err != nil {
		return nil, err
	}
	over := make(chan struct{})
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Running {
		return nil, fault.New(fault.Conflict, "the audit log is being verified; see what comes of it")
	}
	v.state = Verification{Running: true, At: v.log.clock.Now()}
	go func() {
		defer close(over)
		report, err := v.log.verify(ctx, actor, func(done, of int64) {
			v.set(ctx, Verification{Running: true, Done: done, Of: of, At: v.log.clock.Now()})
		})
		state := Verification{Report: report, At: v.log.clock.Now()}
		if err != nil {
			state.Failed = fault.Words(err)
			v.log.options.Log.ErrorContext(ctx, "the audit log couldn't be verified", "error", err)
		} else if !report.Sound() {
			v.log.options.Log.ErrorContext(ctx, "the audit log isn't sound", "verdict", report.Verdict())
		}
		v.set(ctx, state)
	}()
	return over, nil
}

func (v *Verifier) set(ctx context.Context, state Verification) {
	v.mu.Lock()
	v.state = state
	v.mu.Unlock()
	if v.log.options.Live != nil {
		v.log.options.Live.Tell(ctx, TopicVerify)
	}
}

// Last is the verification that was begun last.
func (v *Verifier) Last(actor Actor) (Verification, error) {
	if err := v.log.options.MayRead(actor); err != nil {
		return Verification{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state, nil
}
