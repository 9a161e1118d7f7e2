package client

import (
	"context"
	"errors"
	"sync"

	"github.com/sessiond/sessiond/internal/clock"
)

// maxFlights is how many questions are on their way at a time; more gather in one
// batch, which is sent when there is room. There is no timer: a lone question is
// sent at once.
const maxFlights = 4

// maxGathered is the most credentials that gather in one flight; the authority's
// own limit splits it further.
const maxGathered = 256

// flights are the questions on their way, and the next one.
type flights struct {
	client  *Client
	running sync.WaitGroup

	mu     sync.Mutex
	reads  map[digest]*read // the newest read of each credential, sent or not
	next   *flight          // not sent yet; nil: none
	inAir  int
	closed bool
}

// flight is one question about one or many credentials.
type flight struct {
	reads []*read
	// Set when it is sent.
	isSent bool
	q      question
	// Set before done is closed.
	done chan struct{}
	err  error
}

// read is one credential in a flight.
type read struct {
	digest     digest // of the credential as it came
	credential Credential
	flight     *flight
	// Set before the flight is done.
	answer answer
	kept   digest // of the part of the credential that was sent
}

// join returns a read that answers a question: one that is not sent yet, one on its
// way where memory could have answered (A3), or a new one.
func (f *flights) join(c Credential) *read {
	d := f.client.cache.digester.of(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.reads[d]; r != nil && (!r.flight.isSent || f.mayJoin(r.flight)) {
		f.client.cache.stats.joined.Add(1)
		return r
	}
	if f.next == nil || len(f.next.reads) >= maxGathered {
		f.next = &flight{done: make(chan struct{})}
	}
	r := &read{digest: d, credential: c, flight: f.next}
	f.next.reads = append(f.next.reads, r)
	f.reads[d] = r
	if f.closed {
		r.flight.err = &UnavailableError{Cause: errClosed}
		close(r.flight.done)
		f.next = nil
		delete(f.reads, d)
		return r
	}
	f.launch()
	return r
}

// mayJoin reports whether a question may be answered by a flight that was sent:
// only where the lease is live now and the flight was sent under its epoch, less
// than B(1−r) ago (A3). That it went to the home replica shows with its answer.
func (f *flights) mayJoin(sent *flight) bool {
	now := clock.Now()
	l := f.client.cache.lease.Load()
	return l.live(now) && sent.q.epoch == l.epoch && now.Sub(sent.q.sent) < l.bound.Lease()
}

// launch sends what is gathered while there is room. The caller holds the lock.
func (f *flights) launch() {
	for f.next != nil && f.inAir < maxFlights {
		going := f.next
		f.next = nil
		f.inAir++
		going.q, going.isSent = f.client.cache.ask(), true
		f.running.Go(func() { f.fly(going) })
	}
}

func (f *flights) fly(going *flight) {
	going.err = f.client.fly(going)
	f.mu.Lock()
	f.inAir--
	for _, r := range going.reads {
		if f.reads[r.digest] == r {
			delete(f.reads, r.digest)
		}
	}
	if !f.closed {
		f.launch()
	}
	f.mu.Unlock()
	close(going.done)
}

// close lets no flight begin any more. The caller ends those on their way.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	waiting := f.next
	f.next = nil
	f.mu.Unlock()
	if waiting != nil {
		waiting.err = &UnavailableError{Cause: errClosed}
		close(waiting.done)
	}
}

// fly asks about the credentials of a flight.
func (c *Client) fly(f *flight) error {
	ctx, cancel := context.WithTimeout(c.lifetime, c.timeout)
	defer cancel()
	r := newRound(c, len(f.reads), c.sendBatch)
	if len(f.reads) == 1 {
		r.via = c.sendOne
	}
	open := make([]int, len(f.reads))
	for i, read := range f.reads {
		open[i], r.credentials[i] = i, read.credential
	}
	if err := r.run(ctx, open); err != nil {
		if c.lifetime.Err() != nil {
			return &UnavailableError{Cause: errClosed}
		}
		return c.failure(c.lifetime, ctx, err)
	}
	for i, read := range f.reads {
		read.answer, read.kept = r.answers[i], c.cache.digester.of(r.narrowed[i])
	}
	return nil
}

// askShared asks what memory did not answer, together with others that do.
func (c *Client) askShared(ctx context.Context, credential Credential) (answer, error) {
	began := clock.Now()
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.flights.join(credential)
	select {
	case <-r.flight.done:
	case <-bounded.Done():
		return answer{}, c.failure(ctx, bounded, bounded.Err())
	}
	if err := r.flight.err; err != nil {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return answer{}, ctxErr
		}
		return answer{}, err
	}
	a := r.answer
	if a.sent == 0 {
		return a, nil // decided here
	}
	v, at := c.cache.judge(r.kept, r.flight.q, &a)
	// A call that joined a flight on its way may use only what the home replica
	// said: the lease that let it join says nothing of others (A3).
	if v == usable && (r.flight.q.sent >= began || c.cache.atHome(&a)) {
		return a, nil
	}
	return c.askAgain(ctx, bounded, credential, callSettings{}, v, at)
}

// askAlone asks a question with conditions of its own.
func (c *Client) askAlone(ctx context.Context, credential Credential, call callSettings) (answer, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	a, v, at, err := c.askOnce(ctx, bounded, credential, call)
	if err != nil || v == usable || v == passed && call.strict() {
		return a, err
	}
	return c.askAgain(ctx, bounded, credential, call, v, at)
}

// askAgain asks alone: first for knowledge that is newer than what passed the
// answer, then strictly (C3).
func (c *Client) askAgain(ctx, bounded context.Context, credential Credential, call callSettings, v verdict, passedAt clock.Instant) (answer, error) {
	call.limited, call.maxAge = true, 0
	if v == passed {
		call.maxAge = clock.Within(clock.Now().Sub(passedAt))
	}
	for range 2 {
		a, v, _, err := c.askOnce(ctx, bounded, credential, call)
		// A strict answer is used though it was passed: it was read after this call began.
		if err != nil || v == usable || v == passed && call.strict() {
			return a, err
		}
		call.maxAge = 0
	}
	return answer{}, &UnavailableError{Cause: errTooOld}
}

func (c *Client) askOnce(ctx, bounded context.Context, credential Credential, call callSettings) (answer, verdict, clock.Instant, error) {
	q := c.cache.ask()
	r := newRound(c, 1, c.sendOne)
	r.credentials[0], r.call = credential, call
	if err := r.run(bounded, []int{0}); err != nil {
		return answer{}, usable, 0, c.failure(ctx, bounded, err)
	}
	a := r.answers[0]
	if a.sent == 0 {
		return a, usable, 0, nil
	}
	v, at := c.cache.judge(c.cache.digester.of(r.narrowed[0]), q, &a)
	return a, v, at, nil
}

// source says who decided.
func (a *answer) source(err error) Source {
	if err == nil && a.sent == 0 {
		return SourceLocal
	}
	return SourceAuthority
}

func (c *Client) countMiss() {
	if c.cached {
		c.cache.stats.misses.Add(1)
	}
}

var errTooOld = errors.New("the answers of the authority were older than the staleness bound when they arrived")
