package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// Hub holds the watchers of one authority. It is safe for concurrent use.
//
// Locks are taken in this order: mu, a watcher's, the tally's.
type Hub struct {
	bound clock.Bound
	limit int
	acked chan struct{} // capacity 1
	open  atomic.Int64
	tally tally

	mu     sync.RWMutex
	pushed uint64
	// watchers are those that are open, and those whose stream broke and whose
	// leases may still be live (W3).
	watchers []*Watcher
}

// New returns a Hub. limit is the most events that are queued for one watcher.
func New(bound clock.Bound, limit int) *Hub {
	return &Hub{bound: bound, limit: max(limit, 1), acked: make(chan struct{}, 1), tally: newTally()}
}

// Push queues events for every watcher. The slice must not change any more. The
// caller renews no proof before Push has returned (A1). No events are no push.
func (h *Hub) Push(events []feed.Event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushed++
	h.tally.push(h.pushed)
	now, due := clock.Now(), forever
	for _, w := range h.watchers {
		due = min(due, w.push(h.pushed, events, h.limit, now))
	}
	h.tally.due(due)
}

// Pushed returns the number of the last Push.
func (h *Hub) Pushed() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.pushed
}

// Done returns the number of the last Push up to which every watcher has
// acknowledged all, or can no longer use a lease that is older (W3, W4). It costs
// the same for any number of watchers, but for the moments at which a lease ends.
func (h *Hub) Done(now clock.Instant) uint64 {
	if done, due := h.tally.done(); now < due {
		return done
	}
	h.expire(now)
	done, _ := h.tally.done()
	return done
}

// expire settles what waits for leases that are over, and removes the watchers
// whose stream broke with them.
func (h *Hub) expire(now clock.Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tally.rearm()
	due := forever
	h.watchers = slices.DeleteFunc(h.watchers, func(w *Watcher) bool {
		next, ended := w.expire(now)
		due = min(due, next)
		return ended
	})
	h.tally.due(due)
}

// Acked is signalled when Done may have grown.
func (h *Hub) Acked() <-chan struct{} { return h.acked }

func (h *Hub) signal() {
	select {
	case h.acked <- struct{}{}:
	default:
	}
}

// Watch opens a Watch. The watcher is among those that are pushed to before its
// hello is queued (W1). The caller closes it.
func (h *Hub) Watch(name string) *Watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Watcher{
		hub: h, name: name, since: clock.Now(), wake: make(chan struct{}, 1),
		stated: clock.Never, acked: h.pushed, settled: h.pushed, queue: []item{{hello: true}},
	}
	w.wake <- struct{}{}
	h.watchers = append(h.watchers, w)
	h.tally.join(h.pushed)
	h.open.Add(1)
	return w
}

// Open returns how many Watches are open.
func (h *Hub) Open() int { return int(h.open.Load()) }

// WatcherInfo is an operator's view of a Watch.
type WatcherInfo struct {
	// Name is what the client calls itself.
	Name string
	// Open is for how long it has been open.
	Open time.Duration
	// Queued is how many events wait to be sent.
	Queued int
	// Sent and Acked are the numbers of the last message that was sent, and of the
	// last that was acknowledged.
	Sent, Acked uint64
	// Lease is the age of the newest proof that a grant stated; negative: there was
	// no grant.
	Lease time.Duration
}

// Watchers describes the Watches that are open, the oldest first.
func (h *Hub) Watchers() []WatcherInfo {
	h.mu.RLock()
	defer h.mu.RUnlock()
	now := clock.Now()
	out := make([]WatcherInfo, 0, len(h.watchers))
	for _, w := range h.watchers {
		if info, open := w.info(now); open {
			out = append(out, info)
		}
	}
	return out
}
