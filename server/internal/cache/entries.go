package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// entries holds records by key, finds them by user too, and drops those that were
// not asked for lately when there is no room. get is safe for concurrent use with
// everything; the caller of the others holds the cache's lock.
type entries struct {
	shards [shardCount]shard
	seed   maphash.Seed
	users  map[uint64]*entry // by a hash of the user's id, linked
	oldest *entry            // of a ring, in the order of coming
	max    int64

	count, bytes atomic.Int64
	evictions    atomic.Uint64
}

const shardCount = 64

type shard struct {
	mu sync.RWMutex
	m  map[feed.Key]*entry
	_  [64]byte // shards are locked by different cores
}

// entry is one record. Its fields but used do not change while it can be found.
type entry struct {
	record store.Record
	key    feed.Key
	asOf   clock.Instant
	size   int64
	used   atomic.Bool // since it was last looked at for eviction

	older, newer         *entry // the ring
	userPrior, userAfter *entry // of the same user's hash
}

func newEntries(maxBytes int64) *entries {
	e := &entries{seed: maphash.MakeSeed(), users: map[uint64]*entry{}, max: maxBytes}
	for i := range e.shards {
		e.shards[i].m = map[feed.Key]*entry{}
	}
	return e
}

func (es *entries) shard(k *feed.Key) *shard { return &es.shards[k[0]%shardCount] }

// get returns an entry, nil if there is none.
func (es *entries) get(k feed.Key) *entry {
	s := es.shard(&k)
	s.mu.RLock()
	e := s.m[k]
	s.mu.RUnlock()
	if e != nil && !e.used.Load() {
		e.used.Store(true)
	}
	return e
}

// put keeps a record, in the place of another of its key.
func (es *entries) put(k feed.Key, record *store.Record, asOf clock.Instant) {
	es.drop(k)
	e := &entry{record: *record, key: k, asOf: asOf}
	e.size = sizeOf(e)
	if e.size > es.max {
		return
	}
	for es.bytes.Load()+e.size > es.max {
		es.evict()
	}
	es.link(e)
	s := es.shard(&k)
	s.mu.Lock()
	s.m[k] = e
	s.mu.Unlock()
	es.count.Add(1)
	es.bytes.Add(e.size)
}

// evict drops the oldest entry that was not used since it was last looked at.
func (es *entries) evict() {
	for es.oldest.used.Swap(false) {
		es.oldest = es.oldest.newer
	}
	es.evictions.Add(1)
	es.drop(es.oldest.key)
}

func (es *entries) drop(k feed.Key) {
	s := es.shard(&k)
	s.mu.Lock()
	e := s.m[k]
	delete(s.m, k)
	s.mu.Unlock()
	if e == nil {
		return
	}
	es.unlink(e)
	es.count.Add(-1)
	es.bytes.Add(-e.size)
}

func (es *entries) dropUser(user string) {
	for e := es.users[maphash.String(es.seed, user)]; e != nil; {
		after := e.userAfter
		if e.record.Session.UserID == user {
			es.drop(e.key)
		}
		e = after
	}
}

func (es *entries) clear() {
	for i := range es.shards {
		s := &es.shards[i]
		s.mu.Lock()
		s.m = map[feed.Key]*entry{}
		s.mu.Unlock()
	}
	es.users, es.oldest = map[uint64]*entry{}, nil
	es.count.Store(0)
	es.bytes.Store(0)
}

func (es *entries) size() (count, bytes int64, evictions uint64) {
	return es.count.Load(), es.bytes.Load(), es.evictions.Load()
}

func (es *entries) empty() bool { return es.count.Load() == 0 }

func (es *entries) link(e *entry) {
	if es.oldest == nil {
		e.older, e.newer, es.oldest = e, e, e
	} else {
		e.newer, e.older = es.oldest, es.oldest.older
		e.older.newer, e.newer.older = e, e
	}
	h := maphash.String(es.seed, e.record.Session.UserID)
	if first := es.users[h]; first != nil {
		e.userAfter, first.userPrior = first, e
	}
	es.users[h] = e
}

func (es *entries) unlink(e *entry) {
	if e.newer == e {
		es.oldest = nil
	} else {
		e.older.newer, e.newer.older = e.newer, e.older
		if es.oldest == e {
			es.oldest = e.newer
		}
	}
	if e.userAfter != nil {
		e.userAfter.userPrior = e.userPrior
	}
	switch h := maphash.String(es.seed, e.record.Session.UserID); {
	case e.userPrior != nil:
		e.userPrior.userAfter = e.userAfter
	case e.userAfter != nil:
		es.users[h] = e.userAfter
	default:
		delete(es.users, h)
	}
}

// mapBytes is what the two maps need for an entry, at their usual load.
const mapBytes = 96

// sizeOf is the memory of an entry, all that it points to included.
func sizeOf(e *entry) int64 {
	s := &e.record.Session
	n := mapBytes + unsafe.Sizeof(*e) + text(s.ID) + text(s.UserID) + optional(s.IPAddress) + optional(s.UserAgent) +
		optional(s.ActiveOrganizationID) + optional(s.ImpersonatedBy) + attributes(s.Attributes)
	if u := e.record.User; u != nil {
		n += unsafe.Sizeof(*u) + text(u.ID) + text(u.Name) + text(u.Email) + optional(u.Image) + optional(u.Role) + attributes(u.Attributes)
		if u.BanExpires != nil {
			n += unsafe.Sizeof(*u.BanExpires)
		}
	}
	return int64(n)
}

// text is the memory of a string's bytes; allocations come in steps.
func text(s string) uintptr { return (uintptr(len(s)) + 15) &^ 15 }

func optional(s *string) uintptr {
	if s == nil {
		return 0
	}
	return unsafe.Sizeof(*s) + text(*s)
}

func attributes(as []store.Attribute) uintptr {
	var n uintptr
	for i := range as {
		// Names are those of the schema, shared by all records.
		n += unsafe.Sizeof(as[i]) + text(as[i].Text) + (uintptr(len(as[i].Bytes))+15)&^15
	}
	return n
}
