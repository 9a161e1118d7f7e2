package client

import (
	"sync/atomic"
	"unsafe"

	"github.com/sessiond/sessiond/internal/clock"
)

// sessionDigest names a session in events: the SHA-256 of its token.
type sessionDigest [32]byte

// entry is one answer. Its fields but used and next do not change while it can be found.
type entry struct {
	digest  digest
	session *Session
	key     sessionDigest
	epoch   uint64
	// deadline is when the session may have ended by itself; past it: ask (C7).
	deadline clock.Instant
	// asOf is the moment of which the answer is surely true. It counts where
	// nobody would tell of a change.
	asOf      clock.Instant
	untracked bool

	used atomic.Bool // since it was last looked at for eviction
	size int64
	next atomic.Pointer[entry] // in its bucket

	older, newer         *entry // the ring, in the order of coming
	keyPrior, keyAfter   *entry // other spellings of the session
	userPrior, userAfter *entry // other sessions of the user
}

// table finds entries by digest without a lock, for any number of readers. The
// caller of all methods but get holds the cache's lock.
type table struct {
	buckets []atomic.Pointer[entry]
	keys    map[sessionDigest]*entry
	users   map[string]*entry
	oldest  *entry
	max     int64

	count, bytes atomic.Int64
}

// usualEntry is about what an entry takes; there is a bucket for each that has room.
const usualEntry = 1024

func newTable(maxBytes int64) *table {
	n := int64(64)
	for n*usualEntry < maxBytes {
		n *= 2
	}
	return &table{buckets: make([]atomic.Pointer[entry], n), keys: map[sessionDigest]*entry{}, users: map[string]*entry{}, max: maxBytes}
}

func (t *table) bucket(d digest) *atomic.Pointer[entry] {
	return &t.buckets[d[0]&uint64(len(t.buckets)-1)]
}

// get returns an entry, nil if there is none.
func (t *table) get(d digest) *entry {
	for e := t.bucket(d).Load(); e != nil; e = e.next.Load() {
		if e.digest == d {
			return e
		}
	}
	return nil
}

// put adds an entry, in the place of another of its digest.
func (t *table) put(e *entry) {
	if old := t.get(e.digest); old != nil {
		t.drop(old)
	}
	e.size = sizeOf(e)
	if e.size > t.max {
		return
	}
	for t.bytes.Load()+e.size > t.max {
		t.evict()
	}
	t.link(e)
	b := t.bucket(e.digest)
	e.next.Store(b.Load())
	b.Store(e)
	t.count.Add(1)
	t.bytes.Add(e.size)
}

// drop removes an entry. A reader that is at it goes on to those after it.
func (t *table) drop(e *entry) {
	at := t.bucket(e.digest)
	for at.Load() != e {
		at = &at.Load().next
	}
	at.Store(e.next.Load())
	t.unlink(e)
	t.count.Add(-1)
	t.bytes.Add(-e.size)
}

func (t *table) dropKey(k sessionDigest) {
	for e := t.keys[k]; e != nil; e = t.keys[k] {
		t.drop(e)
	}
}

func (t *table) dropUser(user string) {
	for e := t.users[user]; e != nil; e = t.users[user] {
		t.drop(e)
	}
}

func (t *table) clear() {
	for t.oldest != nil {
		t.drop(t.oldest)
	}
}

// evict drops the oldest entry that was not used since it was last looked at.
func (t *table) evict() {
	for t.oldest.used.Swap(false) {
		t.oldest = t.oldest.newer
	}
	t.drop(t.oldest)
}

func (t *table) link(e *entry) {
	if t.oldest == nil {
		e.older, e.newer, t.oldest = e, e, e
	} else {
		e.newer, e.older = t.oldest, t.oldest.older
		e.older.newer, e.newer.older = e, e
	}
	if first := t.keys[e.key]; first != nil {
		e.keyAfter, first.keyPrior = first, e
	}
	t.keys[e.key] = e
	user := e.session.UserID
	if first := t.users[user]; first != nil {
		e.userAfter, first.userPrior = first, e
	}
	t.users[user] = e
}

func (t *table) unlink(e *entry) {
	if e.newer == e {
		t.oldest = nil
	} else {
		e.older.newer, e.newer.older = e.newer, e.older
		if t.oldest == e {
			t.oldest = e.newer
		}
	}
	if e.keyAfter != nil {
		e.keyAfter.keyPrior = e.keyPrior
	}
	switch {
	case e.keyPrior != nil:
		e.keyPrior.keyAfter = e.keyAfter
	case e.keyAfter != nil:
		t.keys[e.key] = e.keyAfter
	default:
		delete(t.keys, e.key)
	}
	if e.userAfter != nil {
		e.userAfter.userPrior = e.userPrior
	}
	switch user := e.session.UserID; {
	case e.userPrior != nil:
		e.userPrior.userAfter = e.userAfter
	case e.userAfter != nil:
		t.users[user] = e.userAfter
	default:
		delete(t.users, user)
	}
}

// indexBytes is what the two maps and the bucket need for an entry.
const indexBytes = 160

// sizeOf is the memory of an entry, all that it points to included.
func sizeOf(e *entry) int64 {
	s := e.session
	n := indexBytes + int(unsafe.Sizeof(*e)) + int(unsafe.Sizeof(*s)) +
		len(s.ID) + len(s.UserID) + len(s.IPAddress) + len(s.UserAgent) + len(s.ActiveOrganizationID) + len(s.ImpersonatedBy) +
		len(s.User.ID) + len(s.User.Name) + len(s.User.Email) + len(s.User.Image) + len(s.User.Role)
	for _, attributes := range []map[string]Attribute{s.Attributes, s.User.Attributes} {
		for name, a := range attributes {
			n += 2*len(name) + int(unsafe.Sizeof(a)) + a.size()
		}
	}
	return int64(n)
}
