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
	own      string // sessiond's own hash, whose changes show that the connection is told
	location string

	// conn and stop are used by the one goroutine that registers, beats and polls.
	conn rueidis.DedicatedClient
	stop func()

	mu sync.Mutex
	// generation counts the connections: what is between two of them is not known.
	generation int64
	told       bool // of a change of own, in this generation
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
	t.events, t.told = nil, false
	t.mu.Unlock()
	conn.SetOnInvalidations(func(keys []rueidis.RedisMessage) { t.note(generation, keys) })
	if err := t.track(ctx, conn); err != nil {
		conn.Close()
		stop()
		return err
	}
	t.conn, t.stop = conn, stop
	return nil
}

// track turns tracking on and sees that a change of one's own is told: a server that
// speaks an older protocol, or something in between, takes the command and is silent
// (S1).
func (t *tracker) track(ctx context.Context, conn rueidis.DedicatedClient) error {
	args := []string{"TRACKING", "ON", "BCAST"}
	if t.prefix != "" {
		args = append(args, "PREFIX", t.prefix)
		if !strings.HasPrefix(t.own, t.prefix) {
			args = append(args, "PREFIX", t.own)
		}
	}
	results := conn.DoMulti(ctx,
		conn.B().Arbitrary("CLIENT").Args(args...).Build(),
		conn.B().Hset().Key(t.own).FieldValue().FieldValue("told", "1").Build())
	for _, result := range append(results, conn.Do(ctx, conn.B().Ping().Build())) { // see barrier
		err := result.Error()
		if refused, ok := rueidis.IsRedisErr(err); ok && isForGood(refused) {
			return fmt.Errorf("%w: redis %s refuses CLIENT TRACKING or its own keys %s*: %s: Redis 6 or newer is wanted, and the rights", feed.ErrNotInstalled, t.location, feedPrefix, textOf(err))
		}
		if err != nil {
			return unavailable(t.location, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told {
		return fmt.Errorf("%w: redis %s tells a connection nothing of changes: it has to speak RESP3 (no protocol=2 in secondary.url), with no proxy in between", feed.ErrNotInstalled, t.location)
	}
	return nil
}

// isForGood tells a command that this server does not know or this user may not run
// from one that is refused for now.
func isForGood(err *rueidis.RedisError) bool {
	text := strings.ToLower(err.Error())
	return strings.HasPrefix(text, "noperm") || strings.Contains(text, "unknown") || strings.Contains(text, "syntax error")
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
		t.told = t.told || key == t.own
		switch {
		case !ours, strings.HasPrefix(key, feedPrefix), strings.HasPrefix(name, activePrefix):
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

// since returns the invalidations from a place on, the place behind them, and whether
// some are not known. It is one look: what arrives between two would be skipped (F1).
func (t *tracker) since(from place) (events []feed.Event, to place, overflow bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	to = place{from.revision, t.generation, t.first + int64(len(t.events))}
	if from.generation != t.generation || from.number < t.first {
		return nil, to, true
	}
	if n := from.number - t.first; n < int64(len(t.events)) {
		events = append(events, t.events[n:]...)
	}
	return events, to, false
}

// forget drops the invalidations before a place, which nobody reads from any more.
func (t *tracker) forget(before place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := min(before.number-t.first, int64(len(t.events))); before.generation == t.generation && n > 0 {
		t.events = append([]feed.Event(nil), t.events[n:]...)
		t.first += n
	}
}

// ask runs a command on the tracking connection, reads the era, and then waits for
// the barrier.
func (t *tracker) ask(ctx context.Context, command func(rueidis.DedicatedClient) rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	if err := t.connect(ctx); err != nil {
		return "", rueidis.RedisMessage{}, err
	}
	era, answer, err := inEra(ctx, t.conn.DoMulti, t.conn.B(), command(t.conn))
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
