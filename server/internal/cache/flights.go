package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// flights are the lookups on their way and the next one, which gathers tokens
// while as many as may be are on their way. There is no timer: when there is room,
// a token is sent at once.
type flights struct {
	running sync.WaitGroup

	mu    sync.Mutex
	reads map[feed.Key]*read // the newest read of each key, sent or not
	sent  []*flight
	// gathered are not sent yet; all but the last are full.
	gathered []*flight
}

// flight is one lookup.
type flight struct {
	reads []*read
	// Set when it is sent, before anything else can see it as sent.
	isSent bool
	step   uint64
	sent   clock.Instant
	// Set before done is closed.
	done chan struct{}
	err  error
}

// read is one token in a flight.
type read struct {
	key    feed.Key
	token  string
	flight *flight
	record *store.Record // set before the flight is done
}

// join returns a read that answers a question: one that is not sent yet, one on
// its way where memory could have answered (A3), or a new one.
func (f *flights) join(c *Cache, q Question, state State) *read {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.reads[q.Key]; r != nil && (!r.flight.isSent || c.mayJoin(r.flight, q, state)) {
		c.joined.Add(1)
		return r
	}
	r := &read{key: q.Key, token: q.Token, flight: f.gathering(c.cfg.MaxBatch)}
	r.flight.reads = append(r.flight.reads, r)
	f.reads[q.Key] = r
	return r
}

// gathering returns the flight that may take one more read. The caller holds the lock.
func (f *flights) gathering(most int) *flight {
	if n := len(f.gathered); n > 0 && len(f.gathered[n-1].reads) < most {
		return f.gathered[n-1]
	}
	f.gathered = append(f.gathered, &flight{done: make(chan struct{})})
	return f.gathered[len(f.gathered)-1]
}

// mayJoin reports whether a question may be answered by a flight that was sent (A3).
func (c *Cache) mayJoin(f *flight, q Question, state State) bool {
	now := clock.Now()
	return c.mayAnswer(state, now) && now.Sub(f.sent) < c.cfg.Bound.Lease() && q.Arrived.Sub(f.sent) < q.MaxAge
}

// launch sends what is gathered while there is room.
func (f *flights) launch(c *Cache) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.gathered) > 0 && len(f.sent) < c.cfg.MaxFlights {
		going := f.gathered[0]
		f.gathered = f.gathered[1:]
		// The step before the sending: an event applied from now on is later (A2).
		going.step, going.sent, going.isSent = c.stamps.now(), clock.Now(), true
		f.sent = append(f.sent, going)
		f.running.Go(func() { c.fly(going) })
	}
}

// fly sends a lookup and hands out what it brought.
func (c *Cache) fly(f *flight) {
	c.batches.Add(1)
	tokens := make([]string, len(f.reads))
	for i, r := range f.reads {
		tokens[i] = r.token
	}
	reading, err := c.ask(tokens)
	if err != nil {
		f.err = err
	} else {
		for i, r := range f.reads {
			r.record = &reading.Records[i]
		}
		c.fill(f, reading.Cacheable)
	}
	c.flights.land(f)
	close(f.done)
	c.flights.launch(c)
}

func (c *Cache) ask(tokens []string) (Reading, error) {
	ctx, cancel := context.WithTimeout(c.lifetime, c.cfg.Timeout)
	defer cancel()
	reading, err := c.cfg.Lookup(ctx, tokens)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		// The flight's deadline is not that of those who wait: it is hidden from them.
		return Reading{}, fmt.Errorf("%w: %s", store.ErrUnavailable, err.Error())
	}
	return reading, err
}

// land removes a flight from those that can be joined.
func (f *flights) land(landed *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range f.sent {
		if s == landed {
			f.sent = append(f.sent[:i], f.sent[i+1:]...)
			break
		}
	}
	for _, r := range landed.reads {
		if f.reads[r.key] == r {
			delete(f.reads, r.key)
		}
	}
}

// oldest returns the step of the oldest flight on its way, now if there is none.
func (f *flights) oldest(now uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sent {
		now = min(now, s.step)
	}
	return now
}
