package audit

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"airlock/internal/base/id"
)

// Checkpoint says what the log was at some time: so many entries, with this
// hash over them all. Its note is signed, in the form that transparency logs
// share (C2SP tlog-checkpoint):
//
//	airlock/2a…            name of the log
//	1204                   entries
//	CsUYapGGPo4dkMgIAUqom… root hash, base64
//	2026-01-02T03:04:05.000006Z
//
//	— airlock/2a… …        Ed25519 signature
type Checkpoint struct {
	Size int64
	Root tlog.Hash
	At   time.Time
	Note string
}

// key is what checkpoints are signed with.
type key struct {
	signer   note.Signer
	verifier note.Verifier
	public   string // the verifier's own text: name+hash+key
}

// newKey makes the key of a new log, whose name is its own.
func newKey() ([]byte, error) {
	secret, _, err := note.GenerateKey(rand.Reader, "airlock/"+id.New())
	return []byte(secret), err
}

// openKey reads what newKey made.
func openKey(secret string) (*key, error) {
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	// Of the secret, PRIVATE+KEY+name+hash+base64(1, seed), note tells no public half.
	parts := strings.SplitN(secret, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errors.New("the audit log's key isn't one of Ed25519")
	}
	half, ok := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the audit log's key has no public half")
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), half)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, err
	}
	return &key{signer: signer, verifier: verifier, public: public}, nil
}

// sign makes a checkpoint.
func (k *key) sign(size int64, root tlog.Hash, at time.Time) (Checkpoint, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n%s\n", k.signer.Name(), size, root, at.UTC().Format(stamp))
	signed, err := note.Sign(&note.Note{Text: text}, k.signer)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return Checkpoint{Size: size, Root: root, At: at, Note: string(signed)}, nil
}

// OpenCheckpoint reads a checkpoint and checks that it is signed by a log's key,
// whose public half is written name+hash+key.
func OpenCheckpoint(key, signed string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the key of a log is written name+hash+key: %w", err)
	}
	return openCheckpoint(verifier, signed)
}

func openCheckpoint(verifier note.Verifier, signed string) (Checkpoint, error) {
	opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("it isn't signed by the key of %s", verifier.Name())
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 5 || lines[0] != verifier.Name() {
		return Checkpoint{}, errors.New("it isn't a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("it says that the log has %q entries", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, errors.New("its hash can't be read")
	}
	at, err := time.Parse(stamp, lines[3])
	if err != nil {
		return Checkpoint{}, errors.New("its time can't be read")
	}
	return Checkpoint{Size: size, Root: root, At: at, Note: signed}, nil
}

// readNotes finds the checkpoints in a file to which they were appended, oldest
// first. A note is the six lines that end with a whole signature; what lies
// between is passed over, since a crash may have cut one off.
func readNotes(r io.Reader, each func(note string) error) error {
	lines := bufio.NewScanner(r)
	var before []string
	for lines.Scan() {
		before = append(before, lines.Text())
		if len(before) > 6 {
			before = before[1:]
		}
		if !isSignature(lines.Text()) {
			continue
		}
		if err := each(strings.Join(before, "\n") + "\n"); err != nil {
			return err
		}
		before = nil
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the file of checkpoints: %w", err)
	}
	return nil
}

// isSignature tells the last line of a note: a dash, a name, and the key's hash
// with the signature in base64.
func isSignature(line string) bool {
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "—" {
		return false
	}
	signature, err := base64.StdEncoding.DecodeString(fields[2])
	return err == nil && len(signature) == 4+ed25519.SignatureSize
}
