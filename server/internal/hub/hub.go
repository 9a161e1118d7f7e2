package hub

import (
	"slices"
	"sync"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// Hub holds the watchers of one authority. It is safe for concurrent use.
type Hub struct {
	bound clock.Bound
	limit int
	acked chan struct{} // capacity 1

	mu     sync.RWMutex
	pushed uint64
	// watchers are those that are open, and those whose stream broke and whose
	// leases may still be live (W3).
	watchers []*Watcher
}

// New returns a Hub. limit is the most events that are queued for one watcher.
func New(bound clock.Bound, limit int) *Hub {
	return &Hub{bound: bound, limit: max(limit, 1), acked: make(chan struct{}, 1)}
}

// Push queues events for every watcher. The slice must not change any more. The
// caller renews no proof before Push has returned (A1).
func (h *Hub) Push(events []feed.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushed++
	for _, w := range h.watchers {
		w.push(h.pushed, events, h.limit)
	}
}

// Pushed returns the number of the last Push.
func (h *Hub) Pushed() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.pushed
}

// Done returns the number of the last Push up to which every watcher has
// acknowledged all, or can no longer use a lease that is older (W3, W4).
func (h *Hub) Done(now clock.Instant) uint64 {
	h.mu.RLock()
	done, over := h.pushed, false
	for _, w := range h.watchers {
		if w.settled.Load() >= h.pushed && !w.broken.Load() {
			continue
		}
		d, ended := w.done(now, h.bound.Wait())
		over = over || ended
		if !ended {
			done = min(done, d)
		}
	}
	h.mu.RUnlock()
	if over {
		h.forget(now)
	}
	return done
}

// forget removes the watchers whose stream broke and whose leases are over.
func (h *Hub) forget(now clock.Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = slices.DeleteFunc(h.watchers, func(w *Watcher) bool {
		_, ended := w.done(now, h.bound.Wait())
		return ended
	})
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
		stated: clock.Never, acked: h.pushed, queue: []item{{hello: true}},
	}
	w.settled.Store(h.pushed)
	w.wake <- struct{}{}
	h.watchers = append(h.watchers, w)
	return w
}

// Open returns how many Watches are open.
func (h *Hub) Open() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	for _, w := range h.watchers {
		if !w.broken.Load() {
			n++
		}
	}
	return n
}
