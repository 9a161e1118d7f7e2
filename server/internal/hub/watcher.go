package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

	mu     sync.Mutex
	broken bool
	queue  []item
	queued int    // events in the queue
	number uint64 // of the last message
	heard  uint64 // of the last message that was acknowledged
	// sent are the messages that brought events and are not acknowledged, oldest first.
	sent  []sent
	acked uint64 // number of the last push that was acknowledged
	// settled is the number of the last push that this watcher keeps nobody
	// waiting for: it is acknowledged, or no older lease is live.
	settled uint64
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

// push queues events, and returns when the first lease ends that somebody waits
// for. The caller holds the hub's lock.
func (w *Watcher) push(number uint64, events []feed.Event, limit int, now clock.Instant) clock.Instant {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := len(w.unacked) - 1; last >= 0 && w.unacked[last].stated == w.stated {
		w.unacked[last].push = number
	} else {
		w.unacked = append(w.unacked, unacked{push: number, stated: w.stated})
	}
	w.settleOver(now)
	if !w.broken { // else nobody reads it any more; its leases still count
		w.enqueue(number, events, limit)
	}
	return w.due()
}

// enqueue adds the events of a push to the queue. The caller holds mu.
func (w *Watcher) enqueue(number uint64, events []feed.Event, limit int) {
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
	n, events := 0, 0
	for n < len(w.queue) && m.Grant == nil && !m.Hello {
		m.Hello, m.Grant = w.queue[n].hello, w.queue[n].grant
		events += len(w.queue[n].events)
		n++
	}
	push := uint64(0)
	for _, it := range w.queue[:n] {
		switch {
		case it.push == 0:
			continue
		case len(it.events) == events:
			m.Events = it.events // shared by all watchers
		default:
			if m.Events == nil {
				m.Events = make([]feed.Event, 0, events)
			}
			m.Events = append(m.Events, it.events...)
		}
		push = it.push
	}
	w.queue, w.queued = dropFront(w.queue, n), w.queued-events
	if len(w.queue) > 0 {
		w.wakeUp()
	}
	if push != 0 {
		w.note(sent{number: m.Number, push: push})
	}
	return m, true
}

// maxSent bounds what is remembered for a watcher that reads and does not
// acknowledge.
const maxSent = 256

// note remembers what the acknowledgement of a message will cover. Where that is
// too much it forgets the message before, which the new one's covers too; not the
// oldest, or the acknowledgements of somebody slow would all come too late.
func (w *Watcher) note(s sent) {
	if len(w.sent) == maxSent {
		w.sent[maxSent-1] = s
		return
	}
	w.sent = append(w.sent, s)
}

// Renew answers a renewal with a grant, if the proof is young enough for one.
// proof returns the newest proof, and false where there is none. It is loaded,
// noted as stated and queued in one critical section with the pushes (W2).
func (w *Watcher) Renew(number uint64, proof func() (clock.Instant, bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
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

// Ack notes that a message, and all before it, was processed. The error is the
// client's: it acknowledges what was not sent.
func (w *Watcher) Ack(number uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if number > w.number {
		return fmt.Errorf("%w: number %d, the last was %d", errAck, number, w.number)
	}
	w.heard = max(w.heard, number)
	n := 0
	for n < len(w.sent) && w.sent[n].number <= number {
		w.acked = w.sent[n].push
		n++
	}
	w.sent = dropFront(w.sent, n)
	n = 0
	for n < len(w.unacked) && w.unacked[n].push <= w.acked {
		n++
	}
	w.unacked = dropFront(w.unacked, n)
	w.settle(w.acked)
	return nil
}

// maxKept is the most places of an empty queue that are kept for what comes next.
const maxKept = 4

// dropFront removes the first n items in place, and keeps nothing of them.
func dropFront[T any](items []T, n int) []T {
	if n == len(items) && cap(items) > maxKept {
		return nil
	}
	return slices.Delete(items, 0, n)
}

// settle notes that this watcher keeps nobody waiting for a push and those before.
// The caller holds mu.
func (w *Watcher) settle(push uint64) {
	if push <= w.settled {
		return
	}
	before := w.settled
	w.settled = push
	if w.hub.tally.move(before, push) {
		w.hub.signal()
	}
}

// over reports whether every lease that a proof stated is over, on every clock.
func (w *Watcher) over(stated, now clock.Instant) bool {
	return stated == clock.Never || now.Sub(stated) >= w.hub.bound.Wait()
}

// settleOver settles the pushes that were queued after leases that are over by now
// (W4). The caller holds mu.
func (w *Watcher) settleOver(now clock.Instant) {
	n := 0
	for n < len(w.unacked) && w.over(w.unacked[n].stated, now) {
		w.settle(w.unacked[n].push)
		n++
	}
	w.unacked = dropFront(w.unacked, n)
}

// due returns when expire has something to do. The caller holds mu.
func (w *Watcher) due() clock.Instant {
	switch {
	case len(w.unacked) > 0:
		return w.unacked[0].stated.Add(w.hub.bound.Wait())
	case w.broken:
		return w.stated.Add(w.hub.bound.Wait())
	}
	return forever
}

// expire settles what waits for leases that are over. It returns when to call it
// again, and whether the watcher has ended: its stream broke and no lease is left
// (W3). The caller holds the hub's lock.
func (w *Watcher) expire(now clock.Instant) (next clock.Instant, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken && w.over(w.stated, now) {
		w.hub.tally.leave(w.settled)
		return forever, true
	}
	w.settleOver(now)
	return w.due(), false
}

// Close ends the Watch: its stream broke. Its leases count until they are over (W3).
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return
	}
	w.broken = true
	w.queue, w.queued, w.sent = nil, 0, nil
	w.hub.open.Add(-1)
	w.hub.tally.due(w.due())
	w.hub.signal()
}

func (w *Watcher) info(now clock.Instant) (info WatcherInfo, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info = WatcherInfo{Name: w.name, Open: now.Sub(w.since), Queued: w.queued, Sent: w.number, Acked: w.heard, Lease: -1}
	if w.stated != clock.Never {
		info.Lease = now.Sub(w.stated)
	}
	return info, !w.broken
}
