package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"airlock/internal/base/db"
	"airlock/internal/base/fault"
)

// throttle slows down those who guess passwords. The first attempts are free;
// then each has to wait twice as long as the one before, up to a longest time:
// nobody is locked out for ever. What is counted lies in the database, so that
// all replicas count together.
type throttle struct {
	free    int64
	longest time.Duration
}

var (
	// By whoever it is for. This may keep out the one it belongs to, so not for long:
	// 1440 guesses a day find no password of twelve letters.
	byAccount = throttle{free: 5, longest: time.Minute}
	// By whoever asks; many may share an address.
	byAddress = throttle{free: 20, longest: 15 * time.Minute}
)

const (
	forgetOne   = 10 * time.Minute // a failed attempt is forgotten in this time, one after the other
	mostCounted = 20               // beyond those that are free
	forgetAfter = 24 * time.Hour   // then all are
)

// count is how many failures count after one more, and from when on they are
// forgotten.
func (t throttle) count(failures int64, since, now time.Time) (int64, time.Time) {
	forgotten := int64(now.Sub(since) / forgetOne)
	if failures <= forgotten {
		return 1, now
	}
	return min(failures-forgotten, t.free+mostCounted-1) + 1, since.Add(time.Duration(forgotten) * forgetOne)
}

// pause is how long nothing is taken after so many failures.
func (t throttle) pause(failures int64) time.Duration {
	if failures < t.free {
		return 0
	}
	return min(t.longest, time.Second<<min(failures-t.free, 20))
}

func accountKey(email string) string {
	hash := sha256.Sum256([]byte(Fold(email)))
	return "account/" + base64.RawURLEncoding.EncodeToString(hash[:])
}

func addressKey(address string) string { return "address/" + network(address) }

// errWait carries until when an attempt isn't taken.
type errWait struct{ until time.Time }

func (errWait) Error() string { return "too early" }

// attempt counts an attempt before it is made, as one that failed, so that many at
// once are counted too. One that comes too early isn't made, and is Exhausted.
func (s *SignIns) attempt(ctx context.Context, email, address string) error {
	now := s.Clock.Now()
	err := s.DB.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, by := range []struct { // in this order, so that two don't wait for each other
			throttle
			key string
		}{{byAddress, addressKey(address)}, {byAccount, accountKey(email)}} {
			failures, since, until, err := holdThrottle(ctx, tx, by.key)
			if err != nil {
				return err
			}
			if now.Before(until) {
				return errWait{until}
			}
			failures, since = by.count(failures, since, now)
			if err := setThrottle(ctx, tx, by.key, failures, since, now.Add(by.pause(failures))); err != nil {
				return err
			}
		}
		return nil
	})
	if wait, early := errors.AsType[errWait](err); early {
		left := (wait.until.Sub(now) + time.Second - 1).Truncate(time.Second)
		return fault.New(fault.Exhausted, "too many sign-ins failed for this e-mail or from this address: try again in %s", left)
	}
	return err
}

// forgive takes an attempt back that succeeded: the account begins anew, the
// address has one failure less.
func forgive(ctx context.Context, tx *db.Tx, email, address string) error {
	if err := easeThrottle(ctx, tx, addressKey(address)); err != nil {
		return err
	}
	return deleteThrottle(ctx, tx, accountKey(email))
}
