package hub_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/internal/interleave"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/hub"
)

const bound = clock.Bound(6 * time.Second)

func event(n int) []feed.Event {
	return []feed.Event{{Kind: feed.KindUser, User: fmt.Sprint(n)}}
}

// scene is an authority with one event, and one client of it.
type scene struct {
	c       *interleave.Chooser
	h       *hub.Hub
	w       *hub.Watcher
	proof   clock.Instant
	pushed  bool // the event
	pushes  int  // of others, that fill the queue
	others  int  // how many there are
	pushAt  uint64
	renewed bool
	sent    clock.Instant
	inbox   []hub.Message
	broken  bool
	ticks   int

	// The client.
	knows bool          // it has processed the event
	lease clock.Instant // what it may answer by
	acks  []uint64
}

// process is the client's: it drops what events name, then takes the grant, and
// acknowledges.
func (s *scene) process() {
	m := s.inbox[0]
	s.inbox = s.inbox[1:]
	for _, e := range m.Events {
		if e.Kind == feed.KindAll || e.User == "the event" {
			s.knows = true
		}
	}
	if m.Grant != nil {
		s.lease = max(s.lease, clock.AsOf(s.sent, m.Grant.Age))
	}
	s.acks = append(s.acks, m.Number)
}

func (s *scene) usable() bool {
	return !s.knows && clock.Now().Sub(s.lease) < bound.Lease()
}

func (s *scene) steps() []interleave.Step {
	var out []interleave.Step
	add := func(name string, do func()) { out = append(out, interleave.Step{Name: name, Do: do}) }
	if !s.pushed {
		add("the event is pushed, then the proof renewed", func() {
			s.h.Push([]feed.Event{{Kind: feed.KindUser, User: "the event"}})
			s.pushed, s.pushAt, s.proof = true, s.h.Pushed(), clock.Now()
		})
	}
	if s.pushes < s.others {
		add("another event is pushed", func() { s.pushes++; s.h.Push(event(1)) })
	}
	if !s.renewed {
		add("the client renews", func() {
			s.renewed, s.sent = true, clock.Now()
			s.w.Renew(1, func() (clock.Instant, bool) { return s.proof, true })
		})
	}
	if len(s.inbox) > 0 && !s.broken {
		add("the client processes a message", s.process)
	}
	if len(s.acks) > 0 && !s.broken {
		add("an acknowledgement arrives", func() {
			n := s.acks[0]
			s.acks = s.acks[1:]
			if err := s.w.Ack(n); err != nil {
				s.c.Note("ack: %v", err)
			}
		})
	}
	if !s.broken && s.others == 0 { // else there are too many orders
		add("the stream breaks", func() { s.broken = true; s.w.Close() })
	}
	if s.ticks < 2 {
		add("more than half of the bound passes", func() { s.ticks++; time.Sleep(time.Duration(bound) * 55 / 100) })
	}
	return out
}

// TestDone: whenever the hub calls the event done, the client has processed it or
// can no longer answer by a lease, whatever is lost, late or collapsed (W1 to W4).
func TestDone(t *testing.T) {
	for _, limit := range []int{8, 1} {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			orders := interleave.Explore(t, 2_000_000, func(t *testing.T, c *interleave.Chooser) string {
				h := hub.New(bound, limit)
				s := &scene{c: c, h: h, w: h.Watch("client"), proof: clock.Now(), lease: clock.Never, others: map[int]int{1: 1}[limit]}
				ctx, cancel := context.WithCancel(t.Context())
				defer func() { cancel(); synctest.Wait() }()
				go func() {
					for {
						m, err := s.w.Next(ctx)
						if err != nil {
							return
						}
						s.inbox = append(s.inbox, m)
					}
				}()
				synctest.Wait()
				for c.Next(s.steps()) {
					time.Sleep(time.Nanosecond)
					synctest.Wait()
					if s.pushed && h.Done(clock.Now()) >= s.pushAt && s.usable() {
						return "P4: the event is done and the client still answers by an older lease"
					}
				}
				time.Sleep(bound.Wait())
				if h.Done(clock.Now()) < h.Pushed() {
					return "a push is not done when every lease is over"
				}
				return ""
			})
			t.Logf("%d orders", orders)
		})
	}
}

// TestGrantOrder: a grant never overtakes an event that was pushed before it, and
// repeats the renewal that it answers (W1, W2).
func TestGrantOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(bound, 8)
		w := h.Watch("client")
		proof := clock.Now()
		hello := next(t, w)
		if !hello.Hello || hello.Number != 1 || hello.Grant != nil {
			t.Fatalf("first message %+v", hello)
		}
		h.Push(event(1))
		h.Push(event(2))
		time.Sleep(time.Second)
		w.Renew(7, func() (clock.Instant, bool) { return proof, true })
		h.Push(event(3))
		first, second := next(t, w), next(t, w)
		if len(first.Events) != 2 || first.Grant == nil || first.Grant.Renew != 7 || first.Grant.Age != time.Second || len(second.Events) != 1 || second.Grant != nil {
			t.Errorf("messages %+v, %+v", first, second)
		}
		w.Renew(8, func() (clock.Instant, bool) { return clock.Never, false })
		time.Sleep(bound.Lease())
		w.Renew(9, func() (clock.Instant, bool) { return proof, true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if m, err := w.Next(ctx); err == nil {
			t.Errorf("a grant without a young proof: %+v", m)
		}
		if err := w.Ack(99); err == nil {
			t.Error("a message that was not sent is acknowledged")
		}
	})
}

func next(t *testing.T, w *hub.Watcher) hub.Message {
	t.Helper()
	m, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSlowWatcher: a watcher that reads nothing costs bounded memory, and is told
// to forget all.
func TestSlowWatcher(t *testing.T) {
	h := hub.New(bound, 16)
	w := h.Watch("slow")
	reads := h.Watch("reads, and never acknowledges")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range 100_000 {
		h.Push(event(n))
		if n%2 == 0 {
			next(t, reads)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes for two watchers after 100,000 events", grown)
	}
	if m := next(t, w); !m.Hello {
		t.Errorf("the hello was lost: %+v", m)
	}
	m := next(t, w)
	if len(m.Events) > 16 || m.Events[0].Kind != feed.KindAll {
		t.Errorf("%d events, the first %+v", len(m.Events), m.Events[0])
	}
	if err := w.Ack(m.Number); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(reads)
}

// TestManyWatchers: many at a time, in every state, are told everything in order.
func TestManyWatchers(t *testing.T) {
	h := hub.New(bound, 1000)
	const watchers, pushes = 100, 200
	var running sync.WaitGroup
	for range watchers {
		w := h.Watch("one of many")
		running.Go(func() {
			at := 0
			for at < pushes {
				m, err := w.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range m.Events {
					if e.User != fmt.Sprint(at) {
						t.Errorf("event %s, want %d", e.User, at)
					}
					at++
				}
				if err := w.Ack(m.Number); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range pushes {
		h.Push(event(n))
	}
	running.Wait()
	if done := h.Done(clock.Now()); done != pushes {
		t.Errorf("done %d of %d", done, pushes)
	}
}

// TestSignal: whoever waits is woken when Done grows, and not for each of many
// acknowledgements.
func TestSignal(t *testing.T) {
	h := hub.New(bound, 8)
	ws := []*hub.Watcher{h.Watch("a"), h.Watch("b")}
	for _, w := range ws {
		w.Renew(1, func() (clock.Instant, bool) { return clock.Now(), true })
		next(t, w)
		next(t, w)
	}
	h.Push(event(1))
	for i, w := range ws {
		if err := w.Ack(next(t, w).Number); err != nil {
			t.Fatal(err)
		}
		select {
		case <-h.Acked():
			if i == 0 {
				t.Error("signalled though the other watcher has not acknowledged")
			}
		default:
			if i == 1 {
				t.Error("not signalled when all have acknowledged")
			}
		}
	}
}

// TestSlowAcknowledger: the acknowledgements of a watcher that is far behind count
// as they come, though not each message is remembered.
func TestSlowAcknowledger(t *testing.T) {
	h := hub.New(bound, 8)
	w := h.Watch("slow")
	w.Renew(1, func() (clock.Instant, bool) { return clock.Now(), true })
	next(t, w)
	next(t, w)
	const messages = 5000
	for n := range messages {
		h.Push(event(n))
		next(t, w)
	}
	before := uint64(0)
	for number := uint64(3); number <= messages+2; number++ {
		if err := w.Ack(number); err != nil {
			t.Fatal(err)
		}
		done := h.Done(clock.Now())
		if done > number-2 {
			t.Fatalf("done %d, acknowledged are %d pushes", done, number-2)
		}
		if number == 102 && done != 100 {
			t.Errorf("done %d after 100 acknowledgements", done)
		}
		if done < before {
			t.Fatalf("done went back from %d to %d", before, done)
		}
		before = done
	}
	if before != messages {
		t.Errorf("done %d of %d", before, messages)
	}
}

// TestWatchers is the operator's view.
func TestWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(bound, 8)
		a, gone := h.Watch("a"), h.Watch("gone")
		gone.Close()
		time.Sleep(time.Second)
		proof := clock.Now()
		want := hub.WatcherInfo{Name: "a", Open: time.Second, Lease: -1}
		check := func() {
			t.Helper()
			if got := h.Watchers(); len(got) != 1 || got[0] != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		check()
		a.Renew(1, func() (clock.Instant, bool) { return proof, true })
		next(t, a)
		if err := a.Ack(next(t, a).Number); err != nil {
			t.Fatal(err)
		}
		h.Push(event(1))
		time.Sleep(time.Second)
		want.Open, want.Queued, want.Sent, want.Acked, want.Lease = 2*time.Second, 1, 2, 2, time.Second
		check()
	})
}

// TestAllAtOnce does everything at the same time, for the race detector.
func TestAllAtOnce(t *testing.T) {
	h := hub.New(bound, 4)
	ctx, cancel := context.WithCancel(t.Context())
	var pushing, watching sync.WaitGroup
	for range 8 {
		watching.Go(func() {
			// Each leaves a lease behind, for which every push has to wait.
			for range 50 {
				w := h.Watch("short")
				for n := range uint64(20) {
					w.Renew(n+1, func() (clock.Instant, bool) { return clock.Now(), true })
					m, err := w.Next(ctx)
					if err != nil {
						break
					}
					if err := w.Ack(m.Number); err != nil {
						t.Error(err)
					}
				}
				w.Close()
			}
		})
	}
	for range 2 {
		pushing.Go(func() {
			last := uint64(0)
			for n := range 500 {
				h.Push(event(n))
				done := h.Done(clock.Now())
				if done < last || done > h.Pushed() {
					t.Errorf("done %d after %d, pushed %d", done, last, h.Pushed())
				}
				last = done
				h.Watchers()
			}
		})
	}
	pushing.Wait()
	cancel()
	watching.Wait()
	if h.Open() != 0 {
		t.Errorf("%d are open", h.Open())
	}
	if done := h.Done(clock.Now().Add(bound.Wait())); done != h.Pushed() {
		t.Errorf("done %d of %d when every lease is over", done, h.Pushed())
	}
}

// TestBrokenAreForgotten: Watches that come and go cost nothing once their leases
// are over, though nothing is pushed meanwhile.
func TestBrokenAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(bound, 8)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 10_000 {
			w := h.Watch("short")
			w.Renew(1, func() (clock.Instant, bool) { return clock.Now(), true })
			w.Close()
		}
		time.Sleep(bound.Wait())
		h.Done(clock.Now())
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
			t.Errorf("%d bytes for 10,000 Watches that are over", grown)
		}
		runtime.KeepAlive(h)
	})
}
