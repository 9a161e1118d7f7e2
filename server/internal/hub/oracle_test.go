package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/hub"
)

// oracle says what Done has to be by the words of W3 and W4 alone: it asks every
// watcher for every push.
type oracle struct {
	hub      *hub.Hub
	limit    int
	proof    clock.Instant
	pushed   uint64
	watchers []*watched
}

// watched is a watcher and all that happened to it.
type watched struct {
	*hub.Watcher
	first  uint64                   // the first push that it was told of
	before map[uint64]clock.Instant // newest proof stated before a push was queued
	queue  []queued
	sent   []sentMessage
	acked  uint64
	stated clock.Instant
	heard  uint64 // last message acknowledged
	closed bool
}

type queued struct {
	hello  bool
	grant  hub.Grant // of number 0: none
	upTo   uint64    // the last push that it tells of
	events int
}

type sentMessage struct{ number, upTo uint64 }

func (o *oracle) watch() {
	w := &watched{Watcher: o.hub.Watch("w"), first: o.pushed + 1, before: map[uint64]clock.Instant{}, acked: o.pushed, stated: clock.Never}
	w.queue = []queued{{hello: true}}
	o.watchers = append(o.watchers, w)
}

func (o *oracle) push(n int) {
	events := make([]feed.Event, n)
	for i := range events {
		events[i] = event(i)[0]
	}
	o.hub.Push(events)
	o.pushed++
	for _, w := range o.watchers {
		w.before[o.pushed] = w.stated
		if w.closed {
			continue
		}
		total := n
		for _, q := range w.queue {
			total += q.events
		}
		if total <= o.limit {
			w.queue = append(w.queue, queued{upTo: o.pushed, events: n})
			continue
		}
		var kept []queued
		for _, q := range w.queue {
			if q.hello {
				kept = append(kept, q)
			}
		}
		w.queue = append(kept, queued{upTo: o.pushed, events: 1})
	}
}

func (o *oracle) renew(w *watched, number uint64) {
	w.Renew(number, func() (clock.Instant, bool) { return o.proof, o.proof != clock.Never })
	if w.closed || o.proof == clock.Never || clock.Now().Sub(o.proof) >= bound.Lease() {
		return
	}
	w.stated = max(w.stated, o.proof)
	if n := len(w.queue); n > 0 && w.queue[n-1].grant.Renew != 0 {
		w.queue = w.queue[:n-1]
	}
	w.queue = append(w.queue, queued{grant: hub.Grant{Renew: number, Age: clock.Now().Sub(o.proof)}})
}

// next reads a message, and returns what is wrong with it.
func (o *oracle) next(t *testing.T, w *watched) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	m, err := w.Next(ctx)
	if len(w.queue) == 0 || w.closed {
		if err == nil {
			return fmt.Sprintf("a message where nothing is queued: %+v", m)
		}
		return ""
	}
	if err != nil {
		return "nothing where something is queued: " + err.Error()
	}
	var want queued
	n := 0
	for n < len(w.queue) && want.grant.Renew == 0 && !want.hello {
		q := w.queue[n]
		want.hello, want.grant = q.hello, q.grant
		want.events += q.events
		want.upTo = max(want.upTo, q.upTo)
		n++
	}
	w.queue = w.queue[n:]
	var grant hub.Grant
	if m.Grant != nil {
		grant = *m.Grant
	}
	if m.Hello != want.hello || grant != want.grant || len(m.Events) != want.events {
		return fmt.Sprintf("message %+v, want %+v", m, want)
	}
	if k := len(w.sent); k > 0 && m.Number <= w.sent[k-1].number {
		return fmt.Sprintf("message %d after %d", m.Number, w.sent[k-1].number)
	}
	w.sent = append(w.sent, sentMessage{m.Number, want.upTo})
	return ""
}

func (w *watched) ack(number uint64) error {
	if err := w.Ack(number); err != nil {
		return err
	}
	if w.closed {
		return nil // nobody hears it any more
	}
	for _, s := range w.sent {
		if s.number <= number {
			w.acked, w.heard = max(w.acked, s.upTo), max(w.heard, s.number)
		}
	}
	return nil
}

func (o *oracle) done(now clock.Instant) uint64 {
	over := func(stated clock.Instant) bool { return stated == clock.Never || now.Sub(stated) >= bound.Wait() }
	for push := uint64(1); push <= o.pushed; push++ {
		for _, w := range o.watchers {
			if push < w.first || push <= w.acked || over(w.before[push]) {
				continue
			}
			return push - 1
		}
	}
	return o.pushed
}

// TestDoneOfMany compares Done, and every message, with the oracle's after each of
// many steps.
func TestDoneOfMany(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			o := &oracle{limit: 1 + random.IntN(8), proof: clock.Never}
			o.hub = hub.New(bound, o.limit)
			var story []string
			renewals := uint64(0)
			for range 300 {
				step, wrong := "", ""
				var w *watched
				if n := len(o.watchers); n > 0 {
					at := random.IntN(n)
					w = o.watchers[at]
					step = fmt.Sprintf("%d: ", at)
				}
				switch choice := random.IntN(20); {
				case w == nil || choice == 0 && len(o.watchers) < 8:
					step = "watch"
					o.watch()
				case choice < 4:
					n := 1 + random.IntN(3)
					step = fmt.Sprintf("push %d", n)
					o.push(n)
				case choice < 6:
					step = "beat"
					o.proof = clock.Now()
				case choice == 6 && random.IntN(4) == 0:
					step = "place lost"
					o.proof = clock.Never
				case choice < 10:
					renewals++
					step += "renew"
					o.renew(w, renewals)
				case choice < 14:
					step += "next"
					wrong = o.next(t, w)
				case choice < 17 && len(w.sent) > 0:
					number := w.sent[random.IntN(len(w.sent))].number
					step += fmt.Sprintf("ack %d", number)
					if err := w.ack(number); err != nil {
						wrong = err.Error()
					}
				case choice == 17 && random.IntN(3) == 0:
					step += "close"
					w.Close()
					w.closed = true
				default:
					d := time.Duration(random.Int64N(int64(bound) / 3))
					step = fmt.Sprintf("%v pass", d)
					time.Sleep(d)
				}
				story = append(story, step)
				now := clock.Now()
				if got, want := o.hub.Done(now), o.done(now); wrong == "" && got != want {
					wrong = fmt.Sprintf("done %d of %d, want %d", got, o.pushed, want)
				}
				if wrong != "" {
					t.Fatalf("seed %d: %s, after\n%s", seed, wrong, strings.Join(story, "\n"))
				}
			}
			open := 0
			for _, w := range o.watchers {
				if !w.closed {
					open++
				}
			}
			if infos := o.hub.Watchers(); len(infos) != open || o.hub.Open() != open {
				t.Fatalf("seed %d: %d watchers, %d open, want %d", seed, len(infos), o.hub.Open(), open)
			}
		})
	}
}
