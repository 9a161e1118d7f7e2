package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
)

// Message is one message to a watcher: a hello alone, or events and then perhaps a grant.
type Message struct {
	// Number counts the messages of a Watch from 1.
	Number uint64
	Hello  bool
	Events []feed.Event
	Grant  *Grant
}

// Grant lends a lease.
type Grant struct {
	// Renew is the number of the renewal that this answers.
	Renew uint64
	// Age is that of the authority's proof when the grant was queued.
	Age time.Duration
}

// Watcher is one stream. One goroutine at a time calls Next; the other methods are
// safe for concurrent use with it.
type Watcher struct {
	hub   *Hub
	name  string
	since clock.Instant
	wake  chan struct{} // capacity 1

	// settled is the number of the last push that this watcher keeps nobody
	// waiting for.
	settled atomic.Uint64
	broken  atomic.Bool

	mu     sync.Mutex
	queue  []item
	queued int    // events in the queue
	number uint64 // of the last message
	// sent are the messages that brought events and are not acknowledged, oldest first.
	sent  []sent
	acked uint64 // number of the last push that was acknowledged
	// stated is the newest proof that a grant stated.
	stated clock.Instant
	// unacked are the pushes that are not acknowledged, oldest first; those during
	// which the same proof was the newest stated are one.
	unacked []unacked
}

// item is a thing to send: a hello, the events of one push, or a grant.
type item struct {
	hello  bool
	push   uint64
	events []feed.Event
	grant  *Grant
}

type sent struct{ number, push uint64 }

type unacked struct {
	push   uint64
	stated clock.Instant // newest proof stated before the push was queued
}

var forgetAll = []feed.Event{{Kind: feed.KindAll}}

// push queues events. The caller holds the hub's lock.
func (w *Watcher) push(number uint64, events []feed.Event, limit int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := len(w.unacked) - 1; last >= 0 && w.unacked[last].stated == w.stated {
		w.unacked[last].push = number
	} else {
		w.unacked = append(w.unacked, unacked{push: number, stated: w.stated})
	}
	if w.broken.Load() {
		return // nobody reads it any more; its leases still count
	}
	if w.queued+len(events) > limit {
		// Grants too: they would be read before what they come after (#93).
		keep := 0
		for keep < len(w.queue) && w.queue[keep].hello {
			keep++
		}
		w.queue, w.queued, events = w.queue[:keep:keep], 0, forgetAll
	}
	w.queue = append(w.queue, item{push: number, events: events})
	w.queued += len(events)
	w.wakeUp()
}

func (w *Watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next returns the next message, waiting for it.
func (w *Watcher) Next(ctx context.Context) (Message, error) {
	for {
		select {
		case <-ctx.Done():
			return Message{}, ctx.Err()
		case <-w.wake:
		}
		if m, ok := w.take(); ok {
			return m, nil
		}
	}
}

// take makes one message of what is queued, up to the first hello or grant.
func (w *Watcher) take() (Message, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return Message{}, false
	}
	w.number++
	m := Message{Number: w.number}
	n, push := 0, uint64(0)
	for n < len(w.queue) && m.Grant == nil && !m.Hello {
		it := w.queue[n]
		n++
		m.Hello, m.Grant = it.hello, it.grant
		if it.events != nil {
			push = it.push
			if m.Events == nil {
				m.Events = it.events // shared by all watchers, until it has to grow
			} else {
				m.Events = append(m.Events[:len(m.Events):len(m.Events)], it.events...)
			}
		}
	}
	w.queue = w.queue[n:]
	w.queued -= len(m.Events)
	if push != 0 {
		if len(w.sent) >= maxSent {
			w.sent = w.sent[1:] // a later message covers it
		}
		w.sent = append(w.sent, sent{number: m.Number, push: push})
	}
	if len(w.queue) > 0 {
		w.wakeUp()
	} else {
		w.queue = nil
	}
	return m, true
}

// maxSent bounds what is remembered for a watcher that reads and never acknowledges.
const maxSent = 4096

// Renew answers a renewal with a grant, if the proof is young enough for one.
// proof returns the newest proof, and false where there is none. It is loaded,
// noted as stated and queued in one critical section with the pushes (W2).
func (w *Watcher) Renew(number uint64, proof func() (clock.Instant, bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken.Load() {
		return
	}
	asOf, ok := proof()
	age := clock.Now().Sub(asOf)
	if !ok || age >= w.hub.bound.Lease() {
		return
	}
	w.stated = max(w.stated, asOf)
	grant := item{grant: &Grant{Renew: number, Age: max(age, 0)}}
	if last := len(w.queue) - 1; last >= 0 && w.queue[last].grant != nil {
		w.queue[last] = grant // the older one says less
		return
	}
	w.queue = append(w.queue, grant)
	w.wakeUp()
}

var errAck = errors.New("acknowledges a message that was not sent")

// Ack notes that a message, and all before it, was processed.
func (w *Watcher) Ack(number uint64) error {
	if err := w.ack(number); err != nil {
		return err
	}
	w.hub.signal()
	return nil
}

func (w *Watcher) ack(number uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if number > w.number {
		return fmt.Errorf("%w: number %d, the last was %d", errAck, number, w.number)
	}
	n := 0
	for n < len(w.sent) && w.sent[n].number <= number {
		w.acked = w.sent[n].push
		n++
	}
	w.sent = w.sent[n:]
	n = 0
	for n < len(w.unacked) && w.unacked[n].push <= w.acked {
		n++
	}
	w.unacked = w.unacked[n:]
	if w.settled.Load() < w.acked {
		w.settled.Store(w.acked)
	}
	return nil
}

// done returns the number of the last push that this watcher keeps nobody waiting
// for, and whether it can be forgotten.
func (w *Watcher) done(now clock.Instant, wait time.Duration) (push uint64, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	over := func(stated clock.Instant) bool { return stated == clock.Never || now.Sub(stated) >= wait }
	if w.broken.Load() && over(w.stated) {
		return 0, true
	}
	n := 0
	for n < len(w.unacked) && over(w.unacked[n].stated) {
		w.settled.Store(max(w.settled.Load(), w.unacked[n].push))
		n++
	}
	w.unacked = w.unacked[n:]
	return w.settled.Load(), false
}

// Close ends the Watch: its stream broke. Its leases count until they are over (W3).
func (w *Watcher) Close() {
	w.mu.Lock()
	w.broken.Store(true)
	w.queue, w.queued, w.sent = nil, 0, nil
	w.mu.Unlock()
	w.hub.signal()
}
