package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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

// ImportPeople takes people from a file of CSV: one heading row; the columns
// email, name, username, employee_id, department, job_title, manager (an
// e-mail), status (enabled, disabled, deleted) and kind (human, service,
// system), all others go into the profile. A row changes the person with its employee id, else
// its e-mail, else its username. If one row is wrong, nothing is changed, and
// the error names each wrong line. Who isn't in the file stays as they are.
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
	if preview {
		b, err := readBook(ctx, s.db, SourceCSV, s.clock.Now())
		if err != nil {
			return ImportResult{}, fmt.Errorf("read the people: %w", err)
		}
		if err := b.importRows(rows); err != nil {
			return ImportResult{}, err
		}
		return b.plan.result, nil
	}
	var result ImportResult
	err = s.db.Write(ctx, func(ctx context.Context, tx *db.Tx) error {
		b, err := readBook(ctx, tx, SourceCSV, s.clock.Now())
		if err != nil {
			return err
		}
		if err := b.importRows(rows); err != nil {
			return err
		}
		if err := writePlan(ctx, tx, SourceCSV, b.plan); err != nil {
			return err
		}
		result = b.plan.result
		if err := s.live.Publish(ctx, tx, TopicPeople); err != nil {
			return err
		}
		return s.audit.Append(ctx, tx, audit.Event{
			Actor: actor, Action: "people.imported", Object: audit.Object{Kind: "people", ID: SourceCSV, Name: "people"},
			Detail: struct {
				ImportResult
				SHA256 string `json:"sha256"`
			}{result, hex.EncodeToString(hash.Sum(nil))},
		})
	})
	if err != nil {
		return ImportResult{}, fmt.Errorf("import people: %w", err)
	}
	return result, nil
}

// UpsertFromDirectory takes all people that a directory's app has. Who isn't
// listed any more is marked deleted, and stays on record. One known from a file, or who
// left another directory, becomes this directory's, if an employee id or e-mail
// is theirs alone. Whoever asks writes the audit event.
func (s *Service) UpsertFromDirectory(ctx context.Context, tx *db.Tx, source string, list []DirectoryPerson) (ImportResult, error) {
	b, err := readBook(ctx, tx, source, s.clock.Now())
	if err != nil {
		return ImportResult{}, fmt.Errorf("read the people: %w", err)
	}
	b.importDirectory(list)
	if err := writePlan(ctx, tx, source, b.plan); err != nil {
		return ImportResult{}, fmt.Errorf("keep the people of a directory: %w", err)
	}
	if b.plan.result.Added+b.plan.result.Changed+b.plan.result.Gone > 0 {
		err = s.live.Publish(ctx, tx, TopicPeople)
	}
	return b.plan.result, err
}

// DirectoryDiffers says whether UpsertFromDirectory would change anything. It
// reads all people, so one asks it before the transaction, which then needn't be.
func (s *Service) DirectoryDiffers(ctx context.Context, q db.Querier, source string, list []DirectoryPerson) (bool, error) {
	b, err := readBook(ctx, q, source, s.clock.Now())
	if err != nil {
		return false, fmt.Errorf("read the people: %w", err)
	}
	b.importDirectory(list)
	return len(b.plan.added)+len(b.plan.changed)+len(b.plan.rekeyed) > 0, nil
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
