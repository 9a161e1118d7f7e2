package client

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
)

// maxLifetime is the longest time for which an entry is kept (C7).
const maxLifetime = 5 * time.Minute

// lease lends the right to answer from memory, until it is bound.Lease() old on
// the clock of whoever uses it: no timer ends it (C1). Lease and epoch are one
// value (C2).
type lease struct {
	epoch uint64
	asOf  clock.Instant
	bound clock.Bound
}

// live reports whether the lease may be used at an instant.
func (l *lease) live(now clock.Instant) bool { return l != nil && now.Sub(l.asOf) < l.bound.Lease() }

// cache holds answers by the digest of the credential as it came. It is safe for
// concurrent use.
type cache struct {
	digester digester
	table    *table
	lease    atomic.Pointer[lease] // nil: none

	// mu makes judging an answer and keeping it one step, which events and new
	// epochs take too.
	mu sync.Mutex
	// epoch counts the Watches whose hello has arrived; home is the instance of
	// the last, and watching says whether its stream still stands.
	epoch    uint64
	home     string
	watching bool
	bound    clock.Bound
	stamps   stamps

	hits  [counterStripes]stripe
	stats cacheCounters
}

// counterStripes keeps cores that count hits out of each other's way.
const counterStripes = 32

type stripe struct {
	n atomic.Uint64
	_ [56]byte
}

type cacheCounters struct{ misses, joined, fenced, gaps atomic.Uint64 }

func newCache(maxBytes int64, bound clock.Bound) *cache {
	c := &cache{digester: newDigester(), table: newTable(maxBytes), bound: bound}
	c.stamps.clear(clock.Never)
	return c
}

// hit returns the session of a narrowed credential, nil if memory may not answer.
// The order of the loads is clock, lease, entry (C2).
func (c *cache) hit(credential Credential) *Session {
	d := c.digester.of(credential)
	now := clock.Now()
	l := c.lease.Load()
	if !l.live(now) {
		return nil
	}
	e := c.table.get(d)
	if e == nil || e.epoch != l.epoch || now >= e.deadline || e.untracked && now.Sub(e.asOf) >= l.bound.Lease() {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	c.hits[d[1]%counterStripes].n.Add(1)
	return e.session
}

// question is what has to be remembered of a question from its sending on.
type question struct {
	sent  clock.Instant
	epoch uint64 // of the Watch that was live then; 0: none
}

// ask notes a question that is sent now.
func (c *cache) ask() question {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := question{sent: clock.Now()}
	if c.watching {
		q.epoch = c.epoch
	}
	return q
}

// answer is what the authority said, and of when that is true.
type answer struct {
	result    Result
	key       sessionDigest
	hasKey    bool
	asOf      clock.Instant
	sent      clock.Instant
	remaining time.Duration
	untracked bool
	instance  string
}

// verdict is what becomes of an answer.
type verdict uint8

const (
	// usable: for everybody who waits for it.
	usable verdict = iota
	// passed: something ended it on its way. A strict answer may still be used for
	// those who asked before it was sent (C3).
	passed
	// tooOld: it says nothing any more (C4).
	tooOld
)

// judge says whether an answer may be used, and keeps it if it may be kept. since
// is the time from the event that passed it to now.
func (c *cache) judge(d digest, q question, a *answer) (v verdict, since clock.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := clock.Now()
	if a.result.Session == nil {
		if a.hasKey {
			// A refusal that was read from the store is evidence (A6).
			c.stamps.keys[a.key] = now
			c.table.dropKey(a.key)
		}
		return usable, 0
	}
	if now.Sub(a.asOf) >= c.bound.Lease() {
		return tooOld, 0
	}
	if at := c.stamps.last(a); at >= a.asOf {
		c.stats.fenced.Add(1)
		return passed, at
	}
	c.keep(d, q, a)
	return usable, 0
}

// keep keeps an answer, under a live Watch and if the question was sent under the
// same (C5), to the home replica (C6). What says that a refresh is due is not kept:
// the refresh would be no event.
func (c *cache) keep(d digest, q question, a *answer) {
	s := a.result.Session
	if !c.watching || q.epoch != c.epoch || a.instance != c.home || !a.hasKey || s.NeedsRefresh {
		return
	}
	left := min(a.remaining, maxLifetime)
	left -= left / 100 // 1−r: the authority's clock counted it
	if left <= 0 {
		return
	}
	c.table.put(&entry{
		digest: d, session: s, key: a.key, epoch: c.epoch,
		deadline: q.sent.Add(left), asOf: a.asOf, untracked: a.untracked,
	})
}

// begin starts an epoch: a hello has arrived. The cache is emptied before the
// first lease of the epoch can be stored.
func (c *cache) begin(home string, bound clock.Bound) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.home, c.bound, c.watching = home, bound, true
	c.lease.Store(nil)
	c.stamps.clear(clock.Now())
	c.table.clear()
	c.stats.gaps.Add(1)
	return c.epoch
}

// endWatch notes that the stream of an epoch broke. What is kept may be used until
// the lease ends; nothing more is kept.
func (c *cache) endWatch(epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		c.watching = false
	}
}

// grant stores a lease, in the epoch of its own stream, and never moves it back.
func (c *cache) grant(epoch uint64, asOf clock.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.lease.Load(); c.epoch == epoch && (old == nil || old.asOf < asOf) {
		c.lease.Store(&lease{epoch: epoch, asOf: asOf, bound: c.bound})
	}
}

// change is an event.
type change struct {
	key    sessionDigest
	user   string
	hasKey bool
	all    bool
}

// apply stamps and drops what events name. Only then are they acknowledged (C3).
func (c *cache) apply(epoch uint64, changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	now := clock.Now()
	for i := range changes {
		switch e := &changes[i]; {
		case e.all:
			c.stamps.clear(now)
			c.table.clear()
			c.stats.gaps.Add(1)
		case e.hasKey:
			c.stamps.keys[e.key] = now
			c.table.dropKey(e.key)
		default:
			c.stamps.users[e.user] = now
			c.table.dropUser(e.user)
		}
	}
	c.stamps.prune(now.Add(-c.bound.Wait()))
}

// stamps say when keys, users and all were last invalidated, on this process's
// clock. They outlive entries.
type stamps struct {
	keys  map[sessionDigest]clock.Instant
	users map[string]clock.Instant
	all   clock.Instant // also the floor: older stamps may be gone
}

// manyStamps is when old ones are looked for. No answer that is older than the
// bound is used, so no stamp that is older can meet one.
const manyStamps = 4096

func (s *stamps) clear(now clock.Instant) {
	s.keys, s.users, s.all = map[sessionDigest]clock.Instant{}, map[string]clock.Instant{}, now
}

// last returns when what an answer speaks of was last invalidated.
func (s *stamps) last(a *answer) clock.Instant {
	at := s.all
	if t, ok := s.keys[a.key]; ok && a.hasKey {
		at = max(at, t)
	}
	if t, ok := s.users[a.result.Session.UserID]; ok {
		at = max(at, t)
	}
	return at
}

func (s *stamps) prune(before clock.Instant) {
	if len(s.keys)+len(s.users) < manyStamps {
		return
	}
	for k, at := range s.keys {
		if at < before {
			delete(s.keys, k)
		}
	}
	for u, at := range s.users {
		if at < before {
			delete(s.users, u)
		}
	}
	s.all = max(s.all, before)
}

// atHome reports whether an answer is of the replica whose Watch this is.
func (c *cache) atHome(a *answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.instance == c.home
}

// count adds what memory did to the statistics.
func (c *cache) count(s *Stats) {
	for i := range c.hits {
		s.Hits += c.hits[i].n.Load()
	}
	s.Misses, s.Joined, s.Fenced, s.Gaps = c.stats.misses.Load(), c.stats.joined.Load(), c.stats.fenced.Load(), c.stats.gaps.Load()
	s.Entries, s.Bytes = c.table.count.Load(), c.table.bytes.Load()
	s.LeaseAge = -1
	if now, l := clock.Now(), c.lease.Load(); l.live(now) {
		s.LeaseAge = now.Sub(l.asOf)
	}
}
