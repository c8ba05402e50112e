package airflow

import (
	"context"
	"sync"
)

// mutex is a lock, made with room for one, whose waiting ends with the context.
type mutex chan struct{}

func (m mutex) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case m <- struct{}{}:
		return func() { <-m }, nil
	case <-ctx.Done():
		return nil, stopped(ctx)
	}
}

// keyedMutex is one lock a key.
type keyedMutex struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	mutex
	holders int // and those who wait
}

// lock waits for the key's turn; it fails only with the context.
func (k *keyedMutex) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{mutex: make(mutex, 1)}
		k.locks[key] = l
	}
	l.holders++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.holders--; l.holders == 0 {
			delete(k.locks, key)
		}
	}
	open, err := l.lock(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { open(); leave() }, nil
}
