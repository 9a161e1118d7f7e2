package cache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Mode says what the cache may do.
type Mode uint8

// The modes.
const (
	// ModeBypass: nothing is answered from memory and nothing is kept.
	ModeBypass Mode = iota
	// ModeAged: nobody tells of changes; entries live by the time of their own
	// read (A7).
	ModeAged
	// ModeTracked: the feed tells of every change.
	ModeTracked
)

// State is what the cache may do at a moment.
type State struct {
	Mode Mode
	// Proof is the moment of which the feed is known to be read; clock.Never: none.
	Proof clock.Instant
}

// Reading is the answer to a lookup.
type Reading struct {
	// Records are those of the tokens, in order. They must not change any more.
	Records []store.Record
	// Cacheable says that they are known to be of the present era (F5).
	Cacheable bool
}

// Config configures a Cache.
type Config struct {
	// Bound is the staleness bound.
	Bound clock.Bound
	// MaxBytes bounds the memory of the entries.
	MaxBytes int64
	// MaxBatch is the most tokens of one lookup, MaxFlights the most lookups at a time.
	MaxBatch, MaxFlights int
	// State returns the present state. It is called for every question.
	State func() State
	// Lookup reads the store.
	Lookup func(ctx context.Context, tokens []string) (Reading, error)
	// Timeout bounds a lookup.
	Timeout time.Duration
}

// Question asks for a token's record.
type Question struct {
	Token string
	// Key is the token's digest.
	Key feed.Key
	// Arrived is when the question came.
	Arrived clock.Instant
	// MaxAge is how old the knowledge may have been then; zero: the store is read.
	MaxAge time.Duration
}

// Answer is a token's record.
type Answer struct {
	// Record is shared and must not be changed.
	Record *store.Record
	// AsOf is the latest moment of which the record is surely true.
	AsOf clock.Instant
	// FromCache says that the store was not read for this question or another.
	FromCache bool
	// Untracked says that nobody would tell of a change.
	Untracked bool
}

// Stats counts since New.
type Stats struct {
	Entries, Bytes                                   int64
	Hits, Misses, Joined, Batches, Fenced, Evictions uint64
}

// Cache answers questions. It is safe for concurrent use.
type Cache struct {
	cfg      Config
	entries  *entries
	stamps   stamps
	flights  flights
	lifetime context.Context
	end      context.CancelFunc

	hits, misses, joined, batches, fenced atomic.Uint64

	// mu makes checking the stamps and inserting one step, which stamping with
	// dropping takes too (A2).
	mu sync.Mutex
}

// New returns an empty Cache. The caller closes it.
func New(cfg Config) *Cache {
	cfg.MaxBatch, cfg.MaxFlights = max(cfg.MaxBatch, 1), max(cfg.MaxFlights, 1)
	c := &Cache{cfg: cfg, entries: newEntries(cfg.MaxBytes)}
	c.stamps.init()
	c.flights.reads = map[feed.Key]*read{}
	c.lifetime, c.end = context.WithCancel(context.Background())
	return c
}

// Close ends the lookups on their way and waits for them.
func (c *Cache) Close() {
	c.end()
	c.flights.running.Wait()
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Joined: c.joined.Load(),
		Batches: c.batches.Load(), Fenced: c.fenced.Load(),
	}
	s.Entries, s.Bytes, s.Evictions = c.entries.size()
	return s
}

// Empty reports whether nothing is kept.
func (c *Cache) Empty() bool { return c.entries.empty() }

// Get answers one question. An error wraps [store.ErrUnavailable] or is the
// context's; nothing was found out then.
func (c *Cache) Get(ctx context.Context, q Question) (Answer, error) {
	state := c.cfg.State() // before the entry (A5)
	if answer, ok := c.hit(q, state); ok {
		return answer, nil
	}
	c.misses.Add(1)
	for {
		step := c.stamps.now() // after the proof, before joining (A3)
		r := c.flights.join(c, q, state)
		c.flights.launch(c) //nolint:contextcheck // a lookup does not end with those who wait for it
		answer, ok, err := c.await(ctx, q, r, step)
		if ok || err != nil {
			return answer, err
		}
		q.MaxAge = 0 // an event passed the answer that was joined: ask again
		state = c.cfg.State()
	}
}

// GetBatch answers many questions, all or an error. Those that memory does not
// answer share lookups. out is as long as qs.
func (c *Cache) GetBatch(ctx context.Context, qs []Question, out []Answer) error {
	state := c.cfg.State()
	open := make([]int, 0, len(qs))
	for i, q := range qs {
		answer, ok := c.hit(q, state)
		if !ok {
			open = append(open, i)
			continue
		}
		out[i] = answer
	}
	c.misses.Add(uint64(len(open)))
	for again := false; len(open) > 0; again = true {
		step := c.stamps.now()
		reads := make([]*read, len(open))
		for n, i := range open {
			q := qs[i]
			if again {
				q.MaxAge = 0
			}
			reads[n] = c.flights.join(c, q, state)
		}
		c.flights.launch(c) //nolint:contextcheck // a lookup does not end with those who wait for it
		var passed []int
		for n, i := range open {
			answer, ok, err := c.await(ctx, qs[i], reads[n], step)
			switch {
			case err != nil:
				return err
			case ok:
				out[i] = answer
			default:
				passed = append(passed, i)
			}
		}
		open, state = passed, c.cfg.State()
	}
	return nil
}

// hit answers from memory, while the proof is young (A4).
func (c *Cache) hit(q Question, state State) (Answer, bool) {
	now := clock.Now()
	if !c.mayAnswer(state, now) || q.MaxAge <= 0 {
		return Answer{}, false
	}
	e := c.entries.get(q.Key)
	if e == nil {
		return Answer{}, false
	}
	asOf := e.asOf
	if state.Mode == ModeTracked {
		asOf = max(asOf, state.Proof)
	}
	if now.Sub(asOf) >= c.cfg.Bound.Lease() || q.Arrived.Sub(asOf) >= q.MaxAge {
		return Answer{}, false
	}
	c.hits.Add(1)
	return Answer{Record: &e.record, AsOf: asOf, FromCache: true, Untracked: state.Mode == ModeAged}, true
}

// mayAnswer reports whether memory may answer anything now (A4).
func (c *Cache) mayAnswer(state State, now clock.Instant) bool {
	return state.Mode != ModeBypass && now.Sub(state.Proof) < c.cfg.Bound.Lease()
}

// await waits for a read and judges its answer for a caller who noted a step
// before he joined it. Not ok: an event has passed it; ask again.
func (c *Cache) await(ctx context.Context, q Question, r *read, step uint64) (answer Answer, ok bool, err error) {
	select {
	case <-r.flight.done:
	case <-ctx.Done():
		return Answer{}, false, fmt.Errorf("session lookup: %w", ctx.Err())
	}
	if err := r.flight.err; err != nil {
		return Answer{}, false, err
	}
	// A flight that was sent after the caller's step is a read of his own.
	if r.flight.step < step && c.passed(q.Key, r.record, r.flight.step) {
		c.fenced.Add(1)
		return Answer{}, false, nil
	}
	return Answer{Record: r.record, AsOf: r.flight.sent, Untracked: c.cfg.State().Mode == ModeAged}, true, nil
}

// passed reports whether key, user or all were stamped after a step.
func (c *Cache) passed(key feed.Key, record *store.Record, step uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamps.after(key, record.Session.UserID, step)
}

// Apply ends what events name: it stamps, then drops (A1).
func (c *Cache) Apply(events []feed.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range events {
		switch e := &events[i]; e.Kind {
		case feed.KindKey:
			c.stamps.key(e.Key)
			c.entries.drop(e.Key)
		case feed.KindUser:
			c.stamps.user(e.User)
			c.entries.dropUser(e.User)
		default:
			c.stamps.all()
			c.entries.clear()
		}
	}
	c.stamps.prune(c.flights.oldest)
}

// ForgetAll ends everything.
func (c *Cache) ForgetAll() { c.Apply([]feed.Event{{Kind: feed.KindAll}}) }

// fill keeps what a flight brought, unless an event has passed it (A2). What was
// not found is evidence, as good as an event for its key (A6).
func (c *Cache) fill(f *flight, cacheable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := cacheable && c.cfg.State().Mode != ModeBypass && c.cfg.MaxBytes > 0
	for _, r := range f.reads {
		if !r.record.Found {
			c.stamps.key(r.key)
			c.entries.drop(r.key)
			continue
		}
		if !keep || r.record.Unreadable != "" {
			continue
		}
		if c.stamps.after(r.key, r.record.Session.UserID, f.step) {
			c.fenced.Add(1)
			continue
		}
		c.entries.put(r.key, r.record, f.sent)
	}
}
