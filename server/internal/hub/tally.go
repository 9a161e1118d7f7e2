package hub

import (
	"math"
	"sync"

	"github.com/sessiond/sessiond/internal/clock"
)

// forever is later than every reading of the clock.
const forever clock.Instant = math.MaxInt64

// tally counts the watchers by the last push that they keep nobody waiting for, so
// that the least of these numbers is known without asking each of them. It is safe
// for concurrent use.
type tally struct {
	mu sync.Mutex
	// at holds how many watchers are settled up to a push, and no further.
	at map[uint64]int
	// least is what all of them are settled up to, last the last push.
	least, last uint64
	// next is a moment before which no lease ends that somebody waits for.
	next clock.Instant
}

func newTally() tally { return tally{at: map[uint64]int{}, next: forever} }

// push notes that there is another push, which nobody is settled up to yet.
func (t *tally) push(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = number
	t.advance()
}

// join adds a watcher that is settled up to a push, leave removes one.
func (t *tally) join(settled uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at[settled]++
}

func (t *tally) leave(settled uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(settled)
	t.advance()
}

// move notes that a watcher is settled further than before. It reports whether all are.
func (t *tally) move(from, to uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at[to]++
	t.remove(from)
	return t.advance()
}

func (t *tally) remove(settled uint64) {
	if t.at[settled]--; t.at[settled] == 0 {
		delete(t.at, settled)
	}
}

// advance moves least on, over each push once.
func (t *tally) advance() bool {
	before := t.least
	for t.least < t.last && t.at[t.least] == 0 {
		t.least++
	}
	return t.least != before
}

// due notes when a lease ends that somebody waits for.
func (t *tally) due(at clock.Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = min(t.next, at)
}

// rearm forgets what due was told, before every watcher is asked again.
func (t *tally) rearm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = forever
}

// done returns what all watchers are settled up to, and the moment from which on
// that may be more without an acknowledgement.
func (t *tally) done() (uint64, clock.Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.least, t.next
}
