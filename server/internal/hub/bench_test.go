package hub_test

import (
	"runtime"
	"testing"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/hub"
)

const many = 10_000

// crowd is many watchers that have a lease and are done with all so far.
func crowd(tb testing.TB, h *hub.Hub) []*hub.Watcher {
	tb.Helper()
	ws := make([]*hub.Watcher, many)
	proof := clock.Now()
	for i := range ws {
		ws[i] = h.Watch("one of many")
		ws[i].Renew(1, func() (clock.Instant, bool) { return proof, true })
		for range 2 { // the hello, the grant
			read(tb, ws[i])
		}
	}
	return ws
}

// read takes a message and acknowledges it.
func read(tb testing.TB, w *hub.Watcher) {
	m, err := w.Next(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Ack(m.Number); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkWave is one event for 10,000 watchers who read and acknowledge it, while
// somebody who waits asks at every signal whether it is done.
func BenchmarkWave(b *testing.B) {
	h := hub.New(bound, 1024)
	ws := crowd(b, h)
	events := event(1)
	asked := 0
	b.ReportAllocs()
	for b.Loop() {
		h.Push(events)
		for _, w := range ws {
			read(b, w)
			select {
			case <-h.Acked():
				h.Done(clock.Now())
				asked++
			default:
			}
		}
		if h.Done(clock.Now()) != h.Pushed() {
			b.Fatal("not done")
		}
	}
	b.ReportMetric(float64(asked)/float64(b.N), "asked/op")
}

// BenchmarkDone asks while 10,000 watchers have not acknowledged.
func BenchmarkDone(b *testing.B) {
	h := hub.New(bound, 1024)
	crowd(b, h)
	h.Push(event(1))
	b.ReportAllocs()
	for b.Loop() {
		if h.Done(clock.Now()) == h.Pushed() {
			b.Fatal("done, and nobody has acknowledged")
		}
	}
}

// BenchmarkCatchUp is a watcher that finds a full queue of single events.
func BenchmarkCatchUp(b *testing.B) {
	const full = 1024
	h := hub.New(bound, full)
	w := h.Watch("late")
	read(b, w)
	pushes := make([][]feed.Event, full)
	for i := range pushes {
		pushes[i] = event(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, events := range pushes {
			h.Push(events)
		}
		read(b, w)
	}
}

// BenchmarkWatcherMemory reports what an idle watcher with a lease costs.
func BenchmarkWatcherMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		h := hub.New(bound, 1024)
		ws := crowd(b, h)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/many, "B/watcher")
		runtime.KeepAlive(ws)
	}
}
