package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"airlock/internal/base/fault"
)

// What a password may be.
const (
	shortestPassword = 12  // letters
	longestPassword  = 512 // bytes
)

// CheckPassword says what is wrong with a new password.
func CheckPassword(email, name, password string) error {
	local, _, _ := strings.Cut(Fold(email), "@")
	first, _ := utf8.DecodeRuneInString(Fold(password))
	switch folded := Fold(password); {
	case utf8.RuneCountInString(password) < shortestPassword:
		return fault.New(fault.Invalid, "a password has at least %d letters: nothing was changed", shortestPassword).At("password")
	case len(password) > longestPassword:
		return fault.New(fault.Invalid, "a password has at most %d bytes: nothing was changed", longestPassword).At("password")
	case !utf8.ValidString(password):
		return fault.New(fault.Invalid, "a password must be text: nothing was changed").At("password")
	case folded == Fold(email), folded == local, folded == Fold(name):
		return fault.New(fault.Invalid, "a password may not be the e-mail address or the name: nothing was changed").At("password")
	case strings.Trim(folded, string(first)) == "":
		return fault.New(fault.Invalid, "a password may not be one letter again and again: nothing was changed").At("password")
	}
	return nil
}

// cost is how much work a password's hash is.
type cost struct {
	passes, kilobytes uint32
	threads           uint8
}

var (
	usualCost = cost{passes: 1, kilobytes: 64 << 10, threads: 4}
	mostCost  = cost{passes: 10, kilobytes: 256 << 10, threads: 16} // that we do because a row says so
)

const (
	saltSize = 16
	hashSize = 32
)

// phc is a password's hash as it is kept: $argon2id$v=19$m=65536,t=1,p=4$salt$hash.
type phc struct {
	cost
	salt, hash []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.kilobytes, p.passes, p.threads,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.hash))
}

func parsePHC(text string) (phc, error) {
	bad := func(what string) (phc, error) {
		return phc{}, fmt.Errorf("the hash of a password has a wrong %s", what)
	}
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return bad("form")
	}
	var p phc
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return bad("cost")
	}
	for n, number := range []struct {
		name string
		most uint32
		set  func(uint32)
	}{
		{"m=", mostCost.kilobytes, func(v uint32) { p.kilobytes = v }},
		{"t=", mostCost.passes, func(v uint32) { p.passes = v }},
		{"p=", uint32(mostCost.threads), func(v uint32) { p.threads = uint8(v) }}, //nolint:gosec // it is mostCost at most
	} {
		digits, ok := strings.CutPrefix(numbers[n], number.name)
		value, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || value == 0 || value > uint64(number.most) {
			return bad("cost")
		}
		number.set(uint32(value))
	}
	var errSalt, errHash error
	p.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	p.hash, errHash = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if errSalt != nil || errHash != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64 || p.String() != text {
		return bad("salt or hash")
	}
	return p, nil
}

// hashes works out the hashes of passwords, two at once: each takes 64 MiB.
type hashes struct {
	cost cost // of new ones
	turn chan struct{}
}

func newHashes(c cost) hashes { return hashes{c, make(chan struct{}, 2)} }

// longestWait is how long somebody who signs in waits for others who do.
const longestWait = 15 * time.Second

func (h hashes) work(ctx context.Context, password string, salt []byte, c cost, size int) ([]byte, error) {
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, fault.New(fault.Exhausted, "too many people sign in just now: try again in a moment")
	}
	defer func() { <-h.turn }()
	return argon2.IDKey([]byte(password), salt, c.passes, c.kilobytes, c.threads, uint32(size)), nil //nolint:gosec // 64 at most
}

// make hashes a new password.
func (h hashes) make(ctx context.Context, password string) (string, error) {
	p := phc{cost: h.cost, salt: make([]byte, saltSize)}
	_, _ = rand.Read(p.salt) // never fails
	var err error
	p.hash, err = h.work(ctx, password, p.salt, p.cost, hashSize)
	return p.String(), err
}

// fits reports whether a password has a hash. Where there is none it takes as long,
// and fits never.
func (h hashes) fits(ctx context.Context, password, kept string) (bool, error) {
	if len(password) > longestPassword {
		password = "" // as much work as for others
	}
	p := phc{cost: h.cost, salt: make([]byte, saltSize), hash: make([]byte, hashSize)}
	if kept != "" {
		var err error
		if p, err = parsePHC(kept); err != nil {
			return false, err
		}
	}
	hash, err := h.work(ctx, password, p.salt, p.cost, len(p.hash))
	return err == nil && kept != "" && password != "" && subtle.ConstantTimeCompare(hash, p.hash) == 1, err
}
