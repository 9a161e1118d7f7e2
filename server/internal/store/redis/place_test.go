package redis

import (
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// TestNoInvalidationIsSkipped: what arrives while a place is taken is told from it.
func TestNoInvalidationIsSkipped(t *testing.T) {
	const changes = 20_000
	var tr tracker
	go func() {
		for range changes {
			tr.mu.Lock()
			tr.add(feed.Event{Kind: feed.KindKey})
			tr.mu.Unlock()
		}
	}()
	told := 0
	for at := (place{}); at.number < changes; {
		var events []feed.Event
		events, at, _ = tr.since(at)
		told += len(events)
	}
	if told != changes {
		t.Errorf("%d of %d were told", told, changes)
	}
}

// TestTooManyInvalidations: whoever reads from before those that were dropped is told
// to forget all.
func TestTooManyInvalidations(t *testing.T) {
	var tr tracker
	add := func(n int) {
		for range n {
			tr.add(feed.Event{Kind: feed.KindKey})
		}
	}
	_, start, _ := tr.since(place{})
	add(1)
	_, early, _ := tr.since(start)
	add(maxTracked)
	_, late, overflow := tr.since(early)
	if !overflow {
		t.Error("events that are gone are not missed")
	}
	if len(tr.events) > maxTracked {
		t.Errorf("%d events are kept", len(tr.events))
	}
	add(2)
	if events, _, overflow := tr.since(late); overflow || len(events) != 2 {
		t.Errorf("%d events, overflow %t", len(events), overflow)
	}
	tr.forget(late)
	if _, _, overflow := tr.since(early); !overflow {
		t.Error("a place before the forgotten ones")
	}
	if events, _, overflow := tr.since(late); overflow || len(events) != 2 {
		t.Errorf("after the forgotten ones: %d events, overflow %t", len(events), overflow)
	}
}
