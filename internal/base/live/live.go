// Package live tells pages, commands and waiting calls that something changed. A
// topic such as "connector/ID" says "look again" and nothing else: whoever hears
// it reads the database. So hearing it twice does no harm, and several tellings
// may be heard as one.
//
// A hub tells its own process. On PostgreSQL it tells the hubs of the other
// replicas as well, by NOTIFY; what was missed while that connection was broken
// is made good by telling every subscriber all of its topics.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"airlock/internal/base/db"
	"airlock/internal/base/id"
)

const (
	channel    = "airlock_live"
	longest    = 7999 // bytes in a payload of NOTIFY
	pulse      = 20 * time.Second
	retryAfter = 200 * time.Millisecond // and longer each time, up to
	retryMost  = 5 * time.Second
)

// Hub passes topics on.
type Hub struct {
	db  *db.DB
	log *slog.Logger
	id  string // begins what it sends, so that it doesn't hear itself

	mu            sync.Mutex
	subscriptions map[string]map[*Subscription]struct{} // by topic

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New makes a hub. Until Start it tells only its own process.
func New(d *db.DB, log *slog.Logger) *Hub {
	return &Hub{
		db: d, log: log, id: id.New(),
		subscriptions: map[string]map[*Subscription]struct{}{}, cancel: func() {},
	}
}

// Start begins to listen to the other replicas, until Stop.
func (h *Hub) Start(ctx context.Context) error {
	if h.db.Engine() != db.Postgres {
		return nil
	}
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx)) // the order of stopping is the caller's
	pool, err := h.db.Listener(ctx)
	if err != nil {
		return fmt.Errorf("listen to other replicas: %w", err)
	}
	conn, err := listen(ctx, pool)
	if err != nil {
		pool.Close()
		return fmt.Errorf("listen to other replicas: %w", err)
	}
	h.running.Go(func() {
		defer pool.Close()
		h.hear(ctx, pool, conn)
	})
	return nil
}

// Stop ends the listening.
func (h *Hub) Stop() {
	h.cancel()
	h.running.Wait()
}

// Publish tells of topics once a transaction is committed, here and on all
// replicas.
func (h *Hub) Publish(ctx context.Context, tx *db.Tx, topics ...string) error {
	tx.AfterCommit(func() { h.tell(topics) })
	if tx.Engine() != db.Postgres {
		return nil
	}
	return h.notify(ctx, tx, topics)
}

// Tell tells of topics at once, outside of a transaction.
func (h *Hub) Tell(ctx context.Context, topics ...string) {
	h.tell(topics)
	if h.db.Engine() != db.Postgres {
		return
	}
	if err := h.notify(ctx, h.db, topics); err != nil {
		h.log.WarnContext(ctx, "the other replicas weren't told of a change", "error", err)
	}
}

// notify sends topics to the other replicas, in as many payloads as it takes.
func (h *Hub) notify(ctx context.Context, q db.Querier, topics []string) error {
	payload := h.id
	send := func() error {
		if payload == h.id {
			return nil
		}
		return db.Each(ctx, q, func(db.Scanner) error { return nil }, `SELECT pg_notify($1, $2)`, channel, payload)
	}
	for _, topic := range topics {
		if strings.Contains(topic, "\n") || len(h.id)+1+len(topic) > longest {
			return fmt.Errorf("the topic %.100q is too long or has more than one line", topic)
		}
		if len(payload)+1+len(topic) > longest {
			if err := send(); err != nil {
				return err
			}
			payload = h.id
		}
		payload += "\n" + topic
	}
	return send()
}

// listen begins to listen on a connection of its own.
func listen(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		conn.Release()
		return nil, err
	}
	return conn, nil
}

// hear passes on what other replicas tell.
func (h *Hub) hear(ctx context.Context, pool *pgxpool.Pool, conn *pgxpool.Conn) {
	for conn != nil {
		err := h.pass(ctx, conn)
		_ = conn.Conn().Close(context.WithoutCancel(ctx)) // it is broken, or we stop
		conn.Release()
		conn = h.listenAnew(ctx, pool, err)
	}
}

// listenAnew makes a connection in place of one that broke; nil once we stop.
func (h *Hub) listenAnew(ctx context.Context, pool *pgxpool.Pool, broke error) *pgxpool.Conn {
	if ctx.Err() == nil {
		h.log.WarnContext(ctx, "the connection that hears other replicas broke and is made anew", "error", broke)
	}
	for wait := retryAfter; ctx.Err() == nil; wait = min(2*wait, retryMost) {
		if conn, err := listen(ctx, pool); err == nil {
			h.tellAll()
			return conn
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// pass passes on what comes by a connection until it breaks.
func (h *Hub) pass(ctx context.Context, conn *pgxpool.Conn) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, pulse)
		notification, err := conn.Conn().WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil:
			if lines := strings.Split(notification.Payload, "\n"); lines[0] != h.id {
				h.tell(lines[1:])
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded): // nothing came: is anybody there?
			pinging, cancel := context.WithTimeout(ctx, pulse)
			err := conn.Ping(pinging)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (h *Hub) tell(topics []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		for s := range h.subscriptions[topic] {
			s.add(topic)
		}
	}
}

func (h *Hub) tellAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic, list := range h.subscriptions {
		for s := range list {
			s.add(topic)
		}
	}
}

// Subscription hears topics.
type Subscription struct {
	topics []string
	c      chan string
	wake   chan struct{}
	done   chan struct{}
	close  func()

	mu      sync.Mutex
	pending []string // each topic once
}

// Subscribe hears what is told of topics from now on, until Close: subscribe
// first, then read what you watch.
func (h *Hub) Subscribe(topics ...string) *Subscription {
	s := &Subscription{
		topics: slices.Clone(topics),
		c:      make(chan string), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.close = sync.OnceFunc(func() {
		h.leave(s)
		close(s.done)
	})
	h.mu.Lock()
	for _, topic := range topics {
		if h.subscriptions[topic] == nil {
			h.subscriptions[topic] = map[*Subscription]struct{}{}
		}
		h.subscriptions[topic][s] = struct{}{}
	}
	h.mu.Unlock()
	go s.deliver()
	return s
}

// C is where topics come from. A topic that was told several times before it is
// taken comes once. After Close it is closed.
func (s *Subscription) C() <-chan string { return s.c }

// Close ends the subscription.
func (s *Subscription) Close() { s.close() }

func (h *Hub) leave(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range s.topics {
		delete(h.subscriptions[topic], s)
		if len(h.subscriptions[topic]) == 0 {
			delete(h.subscriptions, topic)
		}
	}
}

func (s *Subscription) add(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.pending, topic) {
		return
	}
	s.pending = append(s.pending, topic)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliver hands over topics as fast as they are taken.
func (s *Subscription) deliver() {
	defer close(s.c)
	for {
		s.mu.Lock()
		topic, some := "", len(s.pending) > 0
		if some {
			topic, s.pending = s.pending[0], s.pending[1:]
		}
		s.mu.Unlock()
		if some {
			select {
			case s.c <- topic:
			case <-s.done:
				return
			}
			continue
		}
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
	}
}
