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
func (l *lease) live(now clock.Instant) bool {
	return l != nil && now.Sub(l.asOf) < l.bound.Lease()
}

// cache holds answers by the digest of the credential as it came, and what judges
// answers on their way. It is safe for concurrent use.
type cache struct {
	digester digester
	table    *table
	lease    atomic.Pointer[lease] // nil: none
	hits     hitCounter
	stats    cacheCounters
	// wanted has a lease asked for at once, where the last one is over.
	wanted chan struct{} // capacity 1

	// mu makes judging an answer and keeping it one step, which events and new
	// epochs take too.
	mu sync.Mutex
	// epoch counts the Watches whose hello has arrived; home is the instance of
	// the last, and watching says whether its stream still stands.
	epoch    uint64
	home     string
	watching bool
	// bound is the least of the authority's and own, the most that this client
	// takes (0: any).
	bound, own clock.Bound
	stamps     stamps
	follows    follows
}

type cacheCounters struct{ misses, joined, fenced, askedAgain, gaps atomic.Uint64 }

func newCache(maxBytes int64, own clock.Bound) *cache {
	c := &cache{
		digester: newDigester(), table: newTable(maxBytes), own: own, wanted: make(chan struct{}, 1),
		stamps: newStamps(), follows: newFollows(),
	}
	c.limit(clock.DefaultBound)
	return c
}

// limit takes the authority's staleness bound. A client may lower it for itself,
// never raise it.
func (c *cache) limit(bound clock.Bound) {
	c.bound = bound
	if c.own > 0 {
		c.bound = min(bound, c.own)
	}
}

// learnBound is limit for a bound that came without a Watch; 0 says nothing.
func (c *cache) learnBound(bound clock.Bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bound > 0 {
		c.limit(bound)
	}
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
	if e == nil || !e.answers(now, l) {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	c.hits.add()
	return e.session
}

// answers reports whether an entry may answer at an instant, under a live lease.
// Past its deadline the authority is asked, not the caller refused (C7).
func (e *entry) answers(now clock.Instant, l *lease) bool {
	return e.epoch == l.epoch && now < e.deadline && (!e.untracked || now.Sub(e.asOf) < l.bound.Lease())
}

// question is what has to be remembered of a question from before its sending on.
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
	asked     bool // false: decided here
	key       sessionDigest
	hasKey    bool
	asOf      clock.Instant
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

// judgement is what was found about an answer when it arrived.
type judgement struct {
	verdict verdict
	// stamp is when that happened which passed it.
	stamp clock.Instant
	// atHome says that the replica of the Watch gave it, and that the epoch is
	// still that in which it was asked.
	atHome bool
}

// judge says whether an answer may be used, and keeps it if it may be kept. follow
// is the open stream that asked, nil for none: it is registered in the same step.
func (c *cache) judge(d digest, q question, a *answer, f *follow) judgement {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := clock.Now()
	j := judgement{atHome: c.watching && q.epoch == c.epoch && a.instance == c.home}
	refused := a.result.Session == nil
	if refused && a.hasKey {
		// A refusal that was read from the store is evidence (A6).
		c.endKey(a.key, now)
	}
	if now.Sub(a.asOf) >= c.bound.Lease() {
		j.verdict = tooOld
		return j
	}
	if refused {
		return j
	}
	if j.stamp = c.stamps.last(a); j.stamp >= a.asOf {
		j.verdict = passed
		c.stats.fenced.Add(1)
	}
	left := min(a.remaining, maxLifetime)
	left -= left / 100 // 1−r: the authority's clock counted it
	deadline := q.sent.Add(left)
	if j.verdict == usable && j.atHome && a.hasKey && left > 0 {
		c.keep(d, deadline, a, now)
	}
	if f != nil {
		c.register(f, a, deadline, j)
	}
	return j
}

// keep keeps an answer of the home replica, under the Watch under which it was
// asked (C5, C6). Whether a refresh is due is kept for the bound only: the refresh
// is no event.
func (c *cache) keep(d digest, deadline clock.Instant, a *answer, now clock.Instant) {
	if a.result.Session.NeedsRefresh {
		deadline = min(deadline, a.asOf.Add(c.bound.Lease()))
	}
	c.table.put(&entry{
		digest: d, session: a.result.Session, key: a.key, epoch: c.epoch,
		deadline: deadline, asOf: a.asOf, untracked: a.untracked,
	})
	c.want(now)
}

// want has a lease asked for at once if there is none.
func (c *cache) want(now clock.Instant) {
	if c.lease.Load().live(now) {
		return
	}
	select {
	case c.wanted <- struct{}{}:
	default:
	}
}

// idle reports that there is nothing that a lease would be good for.
func (c *cache) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.oldest == nil && len(c.follows.all) == 0
}

// begin starts an epoch: a hello has arrived. The cache is emptied before the
// first lease of the epoch can be stored.
func (c *cache) begin(home string, bound clock.Bound) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.home, c.watching = home, true
	c.limit(bound)
	c.table.clear()
	for f := range c.follows.all {
		f.asOf, f.epoch = c.vouched(f), 0
	}
	c.lease.Store(nil)
	mark(c.follows.all, clock.Now())
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
			mark(c.follows.all, now)
			c.stats.gaps.Add(1)
		case e.hasKey:
			c.endKey(e.key, now)
		default:
			c.stamps.user(e.user, now, c.bound)
			c.table.dropUser(e.user)
			mark(c.follows.users[e.user], now)
		}
	}
}

func (c *cache) endKey(key sessionDigest, now clock.Instant) {
	c.stamps.key(key, now, c.bound)
	c.table.dropKey(key)
	mark(c.follows.keys[key], now)
}

// count adds what memory did to the statistics.
func (c *cache) count(s *Stats) {
	s.Hits = c.hits.sum()
	s.Misses, s.Joined = c.stats.misses.Load(), c.stats.joined.Load()
	s.Fenced, s.AskedAgain, s.Gaps = c.stats.fenced.Load(), c.stats.askedAgain.Load(), c.stats.gaps.Load()
	s.Entries, s.Bytes = c.table.count.Load(), c.table.bytes.Load()
	s.LeaseAge = -1
	if now, l := clock.Now(), c.lease.Load(); l.live(now) {
		s.LeaseAge = now.Sub(l.asOf)
	}
}
