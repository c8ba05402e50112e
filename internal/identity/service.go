package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"airlock/internal/audit"
	"airlock/internal/base/clock"
	"airlock/internal/base/db"
	"airlock/internal/base/fault"
	"airlock/internal/base/live"
	"airlock/internal/base/seal"
)

// TopicPeople is told of whenever people were added or changed.
const TopicPeople = "people"

// Service knows who there is.
type Service struct {
	db    *db.DB
	audit *audit.Log
	vault *seal.Vault
	live  *live.Hub
	clock clock.Clock

	// PeopleChanged is called in a transaction after which accounts may be other
	// people's: set before the first, by whoever matches them; or nil.
	PeopleChanged func(ctx context.Context, tx *db.Tx) error

	keyed    sync.Mutex
	tokenKey ed25519.PrivateKey // once it was needed; guarded by keyed
}

// New makes the service.
func New(d *db.DB, log *audit.Log, v *seal.Vault, h *live.Hub, c clock.Clock) *Service {
	return &Service{db: d, audit: log, vault: v, live: h, clock: c}
}

// AddClient makes a client for a subject, such as a connector, in the
// transaction of whoever asks, who writes the audit event. The host is what the
// client will call, with the port unless that is 443. The secret is shown once: it isn't kept.
func (s *Service) AddClient(ctx context.Context, tx *db.Tx, kind, subjectID, host string) (clientID, secret string, err error) {
	for range 10 {
		client, secret, err := newClient(kind, subjectID, host, s.clock.Now())
		if err != nil {
			return "", "", err
		}
		fresh, err := insertClient(ctx, tx, client)
		if err != nil {
			return "", "", fmt.Errorf("keep the client: %w", err)
		}
		if fresh {
			return client.ID, secret, nil
		}
	}
	return "", "", errors.New("ten ids for a client were all taken")
}

// RevokeClients ends what the clients of a subject may do, of one kind or of all
// ("") and but for one (or ""): their tokens are refused from the commit on.
// Whoever asks writes the audit event.
func (s *Service) RevokeClients(ctx context.Context, tx *db.Tx, subjectID, kind, except string) error {
	if err := revokeClients(ctx, tx, subjectID, kind, except, s.clock.Now()); err != nil {
		return fmt.Errorf("revoke the clients: %w", err)
	}
	return nil
}

// Clients lists the clients of a subject, also those that were revoked.
func (s *Service) Clients(ctx context.Context, q db.Querier, subjectID string) ([]Client, error) {
	list, err := clientsOf(ctx, q, subjectID)
	if err != nil {
		return nil, fmt.Errorf("list the clients: %w", err)
	}
	return list, nil
}

// Exchange gives a token for an assertion. Whatever doesn't prove who it comes
// from gets one and the same answer, Unauthenticated, whose cause is for the log; what is
// wrong with the form itself is Invalid.
func (s *Service) Exchange(ctx context.Context, form TokenRequest) (Token, error) {
	if err := form.check(); err != nil {
		return Token{}, err
	}
	client, err := clientByID(ctx, s.db, form.ClientID)
	unknown := none(err)
	if err != nil && !unknown {
		return Token{}, fmt.Errorf("find the client: %w", err)
	}
	if unknown {
		// As much work as for one that there is, so that time tells nothing either.
		client.publicKey = make(ed25519.PublicKey, ed25519.PublicKeySize)
	}
	now := s.clock.Now()
	proof, err := readAssertion(form.Assertion, form.ClientID, client.publicKey, now)
	switch {
	case unknown:
		return Token{}, refused(errors.New("there is no such client"))
	case err != nil:
		return Token{}, refused(err)
	}
	key, err := s.key(ctx)
	if err != nil {
		return Token{}, err
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		client, err := clientByID(ctx, tx, form.ClientID)
		switch {
		case none(err) || err == nil && !client.RevokedAt.IsZero():
			return refused(errors.New("the client was revoked"))
		case err != nil:
			return err
		}
		fresh, err := useNonce(ctx, tx, client.ID, proof.nonce, proof.expiresAt)
		switch {
		case err != nil:
			return err
		case !fresh:
			return refused(errors.New("the assertion was used before"))
		}
		live, err := countNonces(ctx, tx, client.ID, now)
		switch {
		case err != nil:
			return err
		case live > maxLiveNonces:
			return fault.New(fault.Exhausted, "the client asks for tokens too often; one is good for %s", tokenLife)
		}
		return useClient(ctx, tx, client.ID, now, now.Add(-time.Minute))
	})
	if err != nil {
		return Token{}, fmt.Errorf("give a token: %w", err)
	}
	token, err := signToken(key, client.ID, now)
	if err != nil {
		return Token{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// Authenticate finds the client that a token was given to. The cause of
// Unauthenticated is for the log.
func (s *Service) Authenticate(ctx context.Context, bearer string) (Client, error) {
	key, err := s.key(ctx)
	if err != nil {
		return Client{}, err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Client{}, errors.New("the key for tokens has no public half")
	}
	clientID, err := readToken(bearer, public, s.clock.Now())
	if err != nil {
		return Client{}, refused(err)
	}
	client, err := clientByID(ctx, s.db, clientID)
	switch {
	case none(err) || err == nil && !client.RevokedAt.IsZero():
		return Client{}, refused(fmt.Errorf("the client %s was revoked", clientID))
	case err != nil:
		return Client{}, fmt.Errorf("find the client: %w", err)
	}
	return client, nil
}

func (s *Service) key(ctx context.Context) (ed25519.PrivateKey, error) {
	s.keyed.Lock()
	defer s.keyed.Unlock()
	if s.tokenKey != nil {
		return s.tokenKey, nil
	}
	seed, err := s.vault.Make(ctx, "token/key", newTokenKey)
	if err != nil {
		return nil, fmt.Errorf("get the key for tokens: %w", err)
	}
	s.tokenKey, err = openTokenKey(seed)
	return s.tokenKey, err
}

// Sweep removes nonces whose assertions aren't taken any more, and the clients
// of hosted connectors that were revoked a day ago. The server calls it now and then.
func (s *Service) Sweep(ctx context.Context) error {
	err := s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := s.clock.Now()
		return dropExpired(ctx, tx, now, now.Add(-24*time.Hour))
	})
	if err != nil {
		return fmt.Errorf("sweep old nonces and clients: %w", err)
	}
	return nil
}

// ImportPeople takes people from a file of CSV in UTF-8: a row of headings, then
// one person a row, separated by commas or semicolons. Headings count in any case,
// and with spaces, hyphens, underscores or without.
//
//	email         an e-mail address
//	username      a login
//	employee_id   each row has one of these three
//	name          else the e-mail, username or employee id
//	department, job_title
//	manager       the e-mail of somebody in the file, or known
//	status        enabled, disabled or deleted; a new person is enabled
//	kind          human, service or system; a new person is human
//
// All other columns go into the profile, by their headings. A row is about the
// person with its employee id, else its e-mail, else its username (of people from
// files); about somebody new if nobody has one. What a column says replaces what
// was known; an empty cell empties it, but for name, status and kind; a column
// that the file doesn't have changes nothing, nor is anybody changed who isn't in
// the file: one who left is a row with the status deleted.
//
// Whom a directory tells of, the file adds to: its empty cells and its status
// count for nothing, and what the directory says takes the place of what the file
// says whenever it is read.
//
// If one row is wrong, nothing is changed, and the error names each wrong line.
func (s *Service) ImportPeople(ctx context.Context, actor Actor, file io.Reader) (ImportResult, error) {
	return s.importPeople(ctx, actor, file, false)
}

// PreviewPeople says what ImportPeople would do, and does nothing.
func (s *Service) PreviewPeople(ctx context.Context, actor Actor, file io.Reader) (ImportResult, error) {
	return s.importPeople(ctx, actor, file, true)
}

func (s *Service) importPeople(ctx context.Context, actor Actor, file io.Reader, preview bool) (ImportResult, error) {
	if err := Can(actor, Manage, Object{Kind: "person"}); err != nil {
		return ImportResult{}, err
	}
	hash := sha256.New()
	rows, err := readPeople(io.TeeReader(file, hash))
	if err != nil {
		return ImportResult{}, err
	}
	var result ImportResult
	err = s.planned(ctx, SourceCSV, func(b *book) error {
		err := b.importRows(rows)
		if result = b.plan.result; err != nil || preview {
			return err
		}
		return s.part(ctx, b, b.plan.steps, true, func(ctx context.Context, tx *db.Tx) error {
			return s.audit.Append(ctx, tx, audit.Event{
				Actor: actor, Action: "people.imported", Object: audit.Object{Kind: "people", ID: SourceCSV, Name: "people"},
				Detail: struct {
					ImportResult
					SHA256 string `json:"sha256"`
				}{result, hex.EncodeToString(hash.Sum(nil))},
			})
		})
	})
	if err != nil {
		return ImportResult{}, fmt.Errorf("import people: %w", err)
	}
	return result, nil
}

// planned plans an import by all people, and has it carried out: again if they
// were changed by somebody else meanwhile.
func (s *Service) planned(ctx context.Context, source string, carryOut func(b *book) error) error {
	for attempt := 1; ; attempt++ {
		var b *book
		err := s.db.Read(ctx, func(q *db.Snapshot) (err error) {
			b, err = readBook(ctx, q, source, s.clock.Now())
			return err
		})
		if err == nil {
			err = carryOut(b)
		}
		if attempt == 5 || !errors.Is(err, errMeanwhile) {
			return err
		}
	}
}

// part carries out some steps of a plan in a transaction, with something else. Who
// can't sign in any more is signed out. What somebody does by hand leaves a Super
// Admin; what a directory says is so, and an administrator who was made by hand stays.
func (s *Service) part(ctx context.Context, b *book, steps []step, byHand bool, also func(ctx context.Context, tx *db.Tx) error) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		var out []string
		for _, step := range steps {
			if before := b.people[step.person.ID]; step.isChanged && before.signsIn() && !step.person.signsIn() {
				out = append(out, step.person.ID)
			}
		}
		write := func() error {
			if err := b.write(ctx, tx, steps); err != nil {
				return err
			}
			return EndSessionsOf(ctx, tx, out...)
		}
		var err error
		if byHand && len(out) > 0 {
			err = KeepSuperAdmin(ctx, tx, "nobody was imported", write)
		} else {
			err = write()
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(steps, func(s step) bool { return s.rematched }) {
			if err := s.peopleChanged(ctx, tx); err != nil {
				return err
			}
		}
		if err := also(ctx, tx); err != nil || len(steps) == 0 {
			return err
		}
		return s.live.Publish(ctx, tx, TopicPeople)
	})
}

// peopleChanged says that accounts may be other people's after a transaction.
func (s *Service) peopleChanged(ctx context.Context, tx *db.Tx) error {
	if s.PeopleChanged == nil {
		return nil
	}
	return s.PeopleChanged(ctx, tx)
}

const (
	somePeople = 250    // whom one transaction of a directory writes
	manyPeople = 10_000 // after whom the database looks at its tables anew
)

// ReadDirectory takes all people that a directory's app has. Who isn't listed any
// more is marked deleted, and stays on record. One known from a file, or who left
// another directory, becomes this directory's, if an employee id or e-mail is
// theirs alone. It writes in short transactions, the first of which writes the
// audit event of whoever asks; if it fails between two, the next run goes on.
func (s *Service) ReadDirectory(ctx context.Context, source string, list []DirectoryPerson, note func(ctx context.Context, tx *db.Tx, result ImportResult) error) (result ImportResult, err error) {
	err = s.planned(ctx, source, func(b *book) error {
		b.importDirectory(list)
		result = b.plan.result
		done := 0
		for steps := range slices.Chunk(b.plan.steps, somePeople) {
			err := s.part(ctx, b, steps, false, func(ctx context.Context, tx *db.Tx) error {
				if done > 0 {
					return nil
				}
				return note(ctx, tx, result)
			})
			done += len(steps)
			// Soon, for the parts that follow, and last, for whoever looks for people.
			if err == nil && len(b.plan.steps) >= manyPeople && (done == manyPeople || done == len(b.plan.steps)) {
				err = s.db.Write(ctx, analyze)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return ImportResult{}, fmt.Errorf("keep the people of a directory: %w", err)
	}
	return result, nil
}

// CountDirectory counts whom a directory tells of.
func (s *Service) CountDirectory(ctx context.Context, q db.Querier, source string) (int64, error) {
	return db.Value[int64](ctx, q, "SELECT COUNT(*) FROM person WHERE source = $1", source)
}

// LeaveDirectory lets people stay as a directory told of them last that is no
// more: from then on they are as if a file had brought them.
func (s *Service) LeaveDirectory(ctx context.Context, source string) error {
	persons, err := ofDirectory(ctx, s.db, source)
	for some := range slices.Chunk(persons, somePeople) {
		if err == nil {
			err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error { return release(ctx, tx, source, some, s.clock.Now()) })
		}
	}
	if err != nil {
		return fmt.Errorf("let the people of a directory stay: %w", err)
	}
	return nil
}

// Owner is whose an account is (""), and by what that was found: a word that is
// kept with the account.
type Owner struct{ PersonID, By string }

// Match is Matches for a single account.
func (s *Service) Match(ctx context.Context, q db.Querier, keys Keys, broad bool) (personID, by string, err error) {
	owners, err := s.Matches(ctx, q, []Keys{keys}, broad)
	if err != nil {
		return "", "", err
	}
	return owners[0].PersonID, owners[0].By, nil
}

// Matches finds whose accounts are: the one person with one of an account's e-mails
// or employee ids; where matching is broad, else the one with its username or the
// local part of its e-mail. If two people fit it is nobody's.
func (s *Service) Matches(ctx context.Context, q db.Querier, accounts []Keys, broad bool) ([]Owner, error) {
	var wanted []personKey
	for _, keys := range accounts {
		for _, group := range keys.groups(broad) {
			wanted = append(wanted, group...)
		}
	}
	found, err := peopleByKeys(ctx, q, wanted)
	if err != nil {
		return nil, fmt.Errorf("match accounts: %w", err)
	}
	owners := make([]Owner, len(accounts))
	for n, keys := range accounts {
		owners[n] = keys.owner(found, broad)
	}
	return owners, nil
}

// PersonFilter says which people are wanted; what is empty doesn't limit. The
// next page begins after the last one's name and id.
type PersonFilter struct {
	Status    string
	Source    string
	ManagerID string
	AfterName string
	AfterID   string
	Limit     int // 100 unless told, 1000 at most
}

// List reads a page of people by name.
func (s *Service) List(ctx context.Context, actor Actor, f PersonFilter) ([]Person, error) {
	if err := Can(actor, Read, Object{Kind: "person"}); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	list, err := listPeople(ctx, s.db, f)
	if err != nil {
		return nil, fmt.Errorf("list people: %w", err)
	}
	return list, nil
}

// ByID finds a person, for whoever may see what points at them.
func (s *Service) ByID(ctx context.Context, q db.Querier, id string) (Person, error) {
	person, err := personByID(ctx, q, id)
	switch {
	case none(err):
		return Person{}, fault.New(fault.NotFound, "there is no person with the id %q", id)
	case err != nil:
		return Person{}, fmt.Errorf("find the person %s: %w", id, err)
	}
	return person, nil
}

// Find finds the one person whose id, e-mail, employee id, username or name it
// is given; the first of these that anybody has decides.
func (s *Service) Find(ctx context.Context, q db.Querier, text string) (Person, error) {
	person, err := personByID(ctx, q, text)
	switch {
	case err == nil:
		return person, nil
	case !none(err):
		return Person{}, fmt.Errorf("find the person %q: %w", text, err)
	}
	kinds := []string{byEmail, byEmployeeID, byUsername, byName}
	keys := make([]personKey, len(kinds))
	for n, kind := range kinds {
		keys[n] = personKey{kind, Fold(text)}
	}
	found, err := peopleByKeys(ctx, q, keys)
	if err != nil {
		return Person{}, fmt.Errorf("find the person %q: %w", text, err)
	}
	for _, key := range keys {
		switch persons := found[key]; {
		case len(persons) == 1:
			return s.ByID(ctx, q, persons[0])
		case len(persons) > 1:
			return Person{}, fault.New(fault.Conflict, "%d people have the %s %q; name the one by e-mail or employee id", len(persons), key.kind, text)
		}
	}
	return Person{}, fault.New(fault.NotFound, "there is no person %q; `airlock export people` names all, and `airlock people import` brings them in", text)
}
