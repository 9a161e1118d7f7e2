package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// maxTracked is the most invalidations that are kept for a position to read from.
const maxTracked = 100_000

// tracker is the one connection that the server tells of changed keys: CLIENT
// TRACKING in broadcast mode, for all keys of the prefix (X3). What is asked over it
// is answered after the invalidations of everything before; see [tracker.barrier].
type tracker struct {
	client   rueidis.Client
	prefix   string
	marks    bool   // keys of revoked users count
	own      string // prefix of sessiond's own keys, which are nobody's sessions
	location string

	// conn and stop are used by the one goroutine that registers, beats and polls.
	conn rueidis.DedicatedClient
	stop func()

	mu sync.Mutex
	// generation counts the connections: what is between two of them is not known.
	generation int64
	// events are those with numbers from first on.
	events []feed.Event
	first  int64
}

// connect makes sure that there is a connection that is told of changes.
func (t *tracker) connect(ctx context.Context) error {
	if t.conn != nil {
		return nil
	}
	conn, stop := t.client.Dedicate()
	t.mu.Lock()
	t.generation++
	generation := t.generation
	t.first += int64(len(t.events))
	t.events = nil
	t.mu.Unlock()
	conn.SetOnInvalidations(func(keys []rueidis.RedisMessage) { t.note(generation, keys) })
	args := []string{"TRACKING", "ON", "BCAST", "NOLOOP"}
	if t.prefix != "" {
		args = append(args, "PREFIX", t.prefix)
	}
	if err := conn.Do(ctx, conn.B().Arbitrary("CLIENT").Args(args...).Build()).Error(); err != nil {
		conn.Close()
		stop()
		if _, refused := rueidis.IsRedisErr(err); refused {
			return fmt.Errorf("%w: redis %s refuses CLIENT TRACKING: %v: Redis 6 or newer is wanted, and the right to run it", feed.ErrNotInstalled, t.location, err) //nolint:errorlint // the driver's errors do not leave
		}
		return unavailable(t.location, err)
	}
	t.conn, t.stop = conn, stop
	return nil
}

// drop gives the connection up: the next one begins a new generation.
func (t *tracker) drop() {
	if t.conn != nil {
		t.conn.Close()
		t.stop()
		t.conn = nil
	}
}

// note keeps an invalidation. The driver calls it while it reads, before it hands on
// any answer that came later.
func (t *tracker) note(generation int64, keys []rueidis.RedisMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation != t.generation {
		return
	}
	if keys == nil { // the database was flushed
		t.add(feed.Event{Kind: feed.KindAll})
		return
	}
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil {
			t.add(feed.Event{Kind: feed.KindAll})
			continue
		}
		name, ours := strings.CutPrefix(key, t.prefix)
		user, mark := strings.CutPrefix(name, revokedPrefix)
		switch {
		case !ours, strings.HasPrefix(key, t.own), strings.HasPrefix(name, activePrefix):
		case mark && t.marks:
			t.add(feed.Event{Kind: feed.KindUser, User: user})
		case mark:
		default:
			t.add(feed.Event{Kind: feed.KindKey, Key: feed.KeyOf(name)})
		}
	}
}

func (t *tracker) add(e feed.Event) {
	if len(t.events) >= maxTracked {
		t.first += int64(len(t.events))
		t.events = nil // whoever reads from before is told to forget all
	}
	t.events = append(t.events, e)
}

// now is the present place in the invalidations.
func (t *tracker) now() (generation, number int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.generation, t.first + int64(len(t.events))
}

// since returns the invalidations from a place on, and whether some are not known.
func (t *tracker) since(generation, number int64) (events []feed.Event, overflow bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation != t.generation || number < t.first {
		return nil, true
	}
	if n := number - t.first; n < int64(len(t.events)) {
		events = append(events, t.events[n:]...)
	}
	return events, false
}

// forget drops the invalidations before a place, which nobody reads from any more.
func (t *tracker) forget(generation, number int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := min(number-t.first, int64(len(t.events))); generation == t.generation && n > 0 {
		t.events = append([]feed.Event(nil), t.events[n:]...)
		t.first += n
	}
}

// ask runs commands on the tracking connection as one transaction, with the era
// first, and then waits for the barrier.
func (t *tracker) ask(ctx context.Context, command func(rueidis.DedicatedClient) rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	if err := t.connect(ctx); err != nil {
		return "", rueidis.RedisMessage{}, err
	}
	era, answer, err := transaction(ctx, t.conn.DoMulti, t.conn.B(), command(t.conn))
	if err == nil {
		err = t.barrier(ctx)
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errRefused) {
			t.drop()
		}
		return "", rueidis.RedisMessage{}, err
	}
	return era, answer, nil
}

// barrier waits until every invalidation of what was committed before the question
// has been noted. The server queues invalidations at the end of a turn of its event
// loop, after the answers of that turn (tracking.c, trackingBroadcastInvalidationMessages):
// a question in the turn of the change overtakes them. This one is asked when the
// answer of the turn before is here, and so comes after them.
func (t *tracker) barrier(ctx context.Context) error {
	return t.conn.Do(ctx, t.conn.B().Ping().Build()).Error()
}
