// Package feedtest holds the contract that every change feed has to keep, and a
// feed in memory that keeps it, for tests in virtual time.
package feedtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Memory is a store, an outbox and a registry in memory: one server, for any number
// of replicas. Its transactions are numbered as they begin and may commit in another
// order; a position says which were finished. It is safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	bound    time.Duration
	life     int
	sessions map[string]store.Record // by token
	events   []numbered
	last     int64
	open     map[int64]bool // transactions in progress
	replicas map[string]*row
	away     bool
	slow     time.Duration
}

type numbered struct {
	number int64
	event  feed.Event
}

type row struct {
	beat    int64
	written position
	done    feed.Position
	doneEra store.Era
}

// NewMemory returns an empty Memory, installed for a staleness bound.
func NewMemory(bound time.Duration) *Memory {
	return &Memory{bound: bound, life: 1, sessions: map[string]store.Record{}, open: map[int64]bool{}, replicas: map[string]*row{}}
}

var errAway = fmt.Errorf("%w: the memory is away", store.ErrUnavailable)

// SetAway has every statement fail, or work again.
func (m *Memory) SetAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// SetDelay has every statement take a time before it is done, and half of it after.
func (m *Memory) SetDelay(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slow = d
}

// Crash begins another era. It takes back the last numbers, which are used again,
// and their events, and all transactions in progress; what else there is survives,
// as what was flushed does.
func (m *Memory) Crash(lost int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	m.last -= min(lost, m.last)
	clear(m.open)
	m.events = slices.DeleteFunc(m.events, func(e numbered) bool { return e.number > m.last })
}

// Forget removes a replica's row, as a volume put back from a snapshot would.
func (m *Memory) Forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.replicas, id)
}

// Replicas returns the ids of those that are registered, ordered.
func (m *Memory) Replicas() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.replicas))
}

// Events returns how many events the outbox holds.
func (m *Memory) Events() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events)
}

// SignIn adds a session of a user and returns its token and id.
func (m *Memory) SignIn(user string) (token, session string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	token, session = rand.Text(), "s-"+rand.Text()
	far := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	m.sessions[token] = store.Record{
		Found:   true,
		Session: store.Session{ID: session, UserID: user, ExpiresAt: far},
		User:    &store.User{ID: user},
	}
	return token, session
}

// SignOut removes a session, as the issuer does.
func (m *Memory) SignOut(token string) { m.BeginSignOut(token)() }

// BeginSignOut removes a session in a transaction that has begun now, and is seen
// when commit is called; never, if the memory has crashed before.
func (m *Memory) BeginSignOut(token string) (commit func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, life := m.begin(), m.life
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if life != m.life {
			return
		}
		var told []feed.Event
		if r, ok := m.sessions[token]; ok {
			delete(m.sessions, token)
			told = append(told, feed.Event{Kind: feed.KindKey, Key: feed.KeyOf(token), User: r.Session.UserID})
		}
		m.commit(n, told...)
	}
}

// begin numbers a transaction. The caller holds mu.
func (m *Memory) begin() int64 {
	m.last++
	m.open[m.last] = true
	return m.last
}

// commit ends a transaction, with the events that it wrote. The caller holds mu.
func (m *Memory) commit(n int64, events ...feed.Event) {
	delete(m.open, n)
	for _, e := range events {
		m.events = append(m.events, numbered{n, e})
	}
}

func (m *Memory) era() store.Era { return store.Era("life" + strconv.Itoa(m.life)) }

// statement runs f as one statement: at one moment, with time before and after.
func (m *Memory) statement(ctx context.Context, f func() error) error {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	if err := sleep(ctx, slow); err != nil {
		return err
	}
	m.mu.Lock()
	err := errAway
	if !m.away {
		err = f()
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return sleep(ctx, slow/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
}

// Store returns the sessions.
func (m *Memory) Store() store.Store { return memoryStore{m} }

type memoryStore struct{ m *Memory }

func (s memoryStore) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	out := make([]store.Record, len(tokens))
	err := s.m.statement(ctx, func() error {
		if got := s.m.era(); era != "" && era != got {
			return &store.EraError{Got: got}
		}
		for i, t := range tokens {
			out[i] = s.m.sessions[t]
		}
		return nil
	})
	return out, err
}

func (s memoryStore) Ready(ctx context.Context) error {
	return s.m.statement(ctx, func() error { return nil })
}
func (s memoryStore) Findings(context.Context, string) []store.Finding { return nil }
func (s memoryStore) Describe() store.Description                      { return store.Description{Driver: "memory"} }
func (s memoryStore) Close() error                                     { return nil }

// Source returns a replica's feed.
func (m *Memory) Source() feed.Source { return &memorySource{m: m} }

type memorySource struct {
	m      *Memory
	closed atomic.Bool
}

// statement is one of the memory, while the source is open.
func (s *memorySource) statement(ctx context.Context, f func() error) error {
	return s.m.statement(ctx, func() error {
		if s.closed.Load() {
			return fmt.Errorf("%w: the feed is closed", store.ErrUnavailable)
		}
		return f()
	})
}

func (s *memorySource) news(from position) feed.News {
	n := feed.News{Era: s.m.era(), Position: feed.Position(s.m.now().String()), Coverage: feed.CoverageFull, Objects: "objects"}
	for _, e := range s.m.events {
		if !from.finished(e.number) {
			n.Events = append(n.Events, e.event)
		}
	}
	return n
}

func (s *memorySource) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	var reg feed.Registration
	err := s.statement(ctx, func() error {
		if bound != s.m.bound {
			return fmt.Errorf("%w: %v and %v", feed.ErrBound, s.m.bound, bound)
		}
		reg = feed.Registration{ID: rand.Text(), News: s.news(s.m.now())}
		s.m.replicas[reg.ID] = &row{beat: 1, written: s.m.now(), done: reg.Position, doneEra: reg.Era}
		return nil
	})
	return reg, err
}

func (s *memorySource) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	var n feed.News
	err := s.statement(ctx, func() error {
		at, err := parsePosition(string(from))
		if err == nil {
			n = s.news(at)
		}
		return err
	})
	return n, err
}

func (s *memorySource) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	var n feed.News
	err := s.statement(ctx, func() error {
		r := s.m.replicas[b.ID]
		if r == nil || r.beat < b.Acked {
			return feed.ErrLostPlace
		}
		written, err := parsePosition(string(b.Written))
		if err != nil {
			return err
		}
		from, err := parsePosition(string(b.From))
		if err != nil {
			return err
		}
		r.beat, r.written, r.done, r.doneEra = max(r.beat, b.Number), written, b.Done, b.DoneEra
		n = s.news(from)
		return nil
	})
	return n, err
}

func (s *memorySource) Replicas(ctx context.Context, own string, acked int64) (feed.Registry, error) {
	var out feed.Registry
	err := s.statement(ctx, func() error {
		if r := s.m.replicas[own]; r == nil || r.beat < acked {
			return feed.ErrLostPlace
		}
		out.Era = s.m.era()
		for _, id := range slices.Sorted(maps.Keys(s.m.replicas)) {
			r := s.m.replicas[id]
			out.Replicas = append(out.Replicas, feed.Replica{ID: id, Beat: r.beat, Done: r.done, DoneEra: r.doneEra})
		}
		return nil
	})
	return out, err
}

func (s *memorySource) Exclude(ctx context.Context, id string, beat int64) (gone bool, err error) {
	err = s.statement(ctx, func() error {
		if r := s.m.replicas[id]; r != nil && r.beat == beat {
			delete(s.m.replicas, id)
			gone = true
		}
		return nil
	})
	return gone, err
}

func (s *memorySource) Clean(ctx context.Context) error {
	return s.statement(ctx, func() error {
		s.m.events = slices.DeleteFunc(s.m.events, func(e numbered) bool {
			for _, r := range s.m.replicas {
				if !r.written.finished(e.number) {
					return false
				}
			}
			return true
		})
		return nil
	})
}

func (s *memorySource) Revoke(ctx context.Context, t feed.Target) (feed.Revoked, error) {
	var out feed.Revoked
	err := s.statement(ctx, func() error {
		n := s.m.begin()
		for token, r := range s.m.sessions {
			switch {
			case t.Token != "" && token != t.Token,
				t.Token == "" && r.Session.UserID != t.User,
				t.Session != "" && r.Session.ID != t.Session,
				t.Except != "" && r.Session.ID == t.Except:
				continue
			}
			delete(s.m.sessions, token)
			out.Sessions++
		}
		e := feed.Event{Kind: feed.KindUser, User: t.User, Urgent: true}
		if t.Token != "" {
			out.Key = feed.KeyOf(t.Token)
			e = feed.Event{Kind: feed.KindKey, Key: out.Key, Urgent: true}
		}
		s.m.commit(n, e)
		out.Era, out.Revision = s.m.era(), wanted{era: s.m.era(), transaction: n}.revision()
		return nil
	})
	return out, err
}

func (s *memorySource) Revision(ctx context.Context) (feed.Revision, error) {
	var r feed.Revision
	err := s.statement(ctx, func() error {
		r = wanted{era: s.m.era(), at: s.m.now()}.revision()
		return nil
	})
	return r, err
}

func (s *memorySource) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	w, err := parseRevision(r)
	if err != nil || p == "" {
		return false, err
	}
	at, err := parsePosition(string(p))
	return err == nil && w.coveredBy(at, era), err
}

func (s *memorySource) Meets(_ store.Era, r feed.Revision) (bool, error) {
	_, err := parseRevision(r)
	return err == nil, err
}

func (s *memorySource) Close() error {
	s.closed.Store(true)
	return nil
}
