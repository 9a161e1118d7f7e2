package client

import (
	"sync/atomic"
	"unsafe"

	"github.com/sessiond/sessiond/internal/clock"
)

// sessionDigest names a session in events: the SHA-256 of its token.
type sessionDigest [32]byte

// entry is one answer. Of its fields only used and next change while it can be found.
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
	buckets atomic.Pointer[buckets]
	keys    map[sessionDigest]*entry
	users   map[string]*entry
	oldest  *entry
	max     int64

	count, bytes atomic.Int64
}

// buckets holds the first entries of chains. Their number is a power of two.
type buckets []atomic.Pointer[entry]

func (b buckets) of(d digest) *atomic.Pointer[entry] { return &b[d[0]&uint64(len(b)-1)] }

const firstBuckets = 64

func newTable(maxBytes int64) *table {
	t := &table{max: maxBytes}
	t.clear()
	return t
}

// get returns an entry, nil if there is none. While the table grows it may miss
// one, never find another.
func (t *table) get(d digest) *entry {
	for e := t.buckets.Load().of(d).Load(); e != nil; e = e.next.Load() {
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
	if t.count.Load() >= int64(len(*t.buckets.Load())) {
		t.grow()
	}
	t.link(e)
	first := t.buckets.Load().of(e.digest)
	e.next.Store(first.Load())
	first.Store(e)
	t.count.Add(1)
	t.bytes.Add(e.size)
}

// grow doubles the buckets. A reader that is led into another chain meanwhile
// comes to its end, since an entry only ever points to one moved before it.
func (t *table) grow() {
	old := *t.buckets.Load()
	wider := make(buckets, 2*len(old))
	for i := range old {
		var next *entry
		for e := old[i].Load(); e != nil; e = next {
			next = e.next.Load()
			first := wider.of(e.digest)
			e.next.Store(first.Load())
			first.Store(e)
		}
	}
	t.buckets.Store(&wider)
}

// drop removes an entry. A reader that is at it goes on to those after it.
func (t *table) drop(e *entry) {
	at := t.buckets.Load().of(e.digest)
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

// clear drops everything.
func (t *table) clear() {
	none := make(buckets, firstBuckets)
	t.buckets.Store(&none)
	t.keys, t.users, t.oldest = map[sessionDigest]*entry{}, map[string]*entry{}, nil
	t.count.Store(0)
	t.bytes.Store(0)
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

// What the runtime needs beside the values: a string or record of its own is
// rounded up to a size class, a small map is a header and one group of eight.
const (
	indexBytes   = 208 // the two maps of the table and the bucket, for one entry
	roundUpBytes = 8
	mapBytes     = 48 + 8 + 8*(16+16)
)

// sizeOf is the memory of an entry, all that it points to included.
func sizeOf(e *entry) int64 {
	s := e.session
	n := indexBytes + int(unsafe.Sizeof(*e)) + int(unsafe.Sizeof(*s)) + 2*roundUpBytes
	for _, text := range []string{
		s.ID, s.UserID, s.IPAddress, s.UserAgent, s.ActiveOrganizationID, s.ImpersonatedBy,
		s.User.Name, s.User.Email, s.User.Image, s.User.Role,
	} {
		n += textSize(text)
	}
	if s.User.ID != s.UserID {
		n += textSize(s.User.ID)
	}
	return int64(n + attributesSize(s.Attributes) + attributesSize(s.User.Attributes))
}

func textSize(s string) int {
	if s == "" {
		return 0
	}
	return len(s) + roundUpBytes
}

func attributesSize(attributes map[string]Attribute) int {
	if attributes == nil {
		return 0
	}
	n := mapBytes * (1 + len(attributes)/7)
	for name, a := range attributes {
		n += textSize(name) + a.size() + 3*roundUpBytes // the header of a boxed text
	}
	return n
}
