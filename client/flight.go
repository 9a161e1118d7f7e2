package client

import (
	"context"
	"sync"

	"github.com/sessiond/sessiond/internal/clock"
)

const (
	// maxFlights is how many questions are on their way at a time. More gather in
	// one batch, which is sent when there is room: a lone question never waits.
	maxFlights = 4
	// maxGathered is the most credentials that gather in one flight; the
	// authority's own limit splits it further.
	maxGathered = 256
)

// flights are the questions of misses, which are shared: equal ones are one, and
// different ones gather while others are on their way. Safe for concurrent use.
type flights struct {
	client *Client

	mu sync.Mutex
	// reads holds the newest read of each credential that has not landed.
	reads map[digest]*read
	// gathered have not been sent, the oldest first; all but the last are full.
	gathered []*flight
	inAir    int
	closed   bool
}

// flight is one question about one or many credentials.
type flight struct {
	reads []*read
	// Set when it is sent.
	sent bool
	q    question
	// Set before done is closed.
	done chan struct{}
	err  error
}

// read is one credential in a flight.
type read struct {
	credential Credential // of the caller that was first
	key        digest     // where it stands in reads
	flight     *flight
	// Set before the flight is done.
	answer    answer
	asked     digest // of the part of the credential that was sent
	judgement judgement
}

// join returns a read that answers a question: one that is not sent yet, one on
// its way where memory could have answered (A3), or a new one. first reports
// whether the question was, or will be, sent after this call began.
func (f *flights) join(c Credential, key digest) (r *read, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		r := &read{flight: &flight{done: make(chan struct{}), err: &UnavailableError{Cause: errClosed}}}
		close(r.flight.done)
		return r, true
	}
	if r := f.reads[key]; r != nil && (!r.flight.sent || f.client.cache.mayJoin(r.flight.q)) {
		f.client.cache.stats.joined.Add(1)
		return r, !r.flight.sent
	}
	r = &read{credential: c, key: key, flight: f.gathering()}
	r.flight.reads = append(r.flight.reads, r)
	f.reads[key] = r
	f.launch()
	return r, true
}

// gathering returns the flight that may take one more read. The caller holds the lock.
func (f *flights) gathering() *flight {
	if n := len(f.gathered); n > 0 && len(f.gathered[n-1].reads) < maxGathered {
		return f.gathered[n-1]
	}
	f.gathered = append(f.gathered, &flight{done: make(chan struct{})})
	return f.gathered[len(f.gathered)-1]
}

// mayJoin reports whether a call that begins now may be answered by a question
// that was sent before: only where the lease is live now, and the question was
// sent under its epoch, less than B(1−r) ago (A3). That the home replica answered
// it shows when it has.
func (c *cache) mayJoin(q question) bool {
	now := clock.Now()
	l := c.lease.Load()
	return l.live(now) && q.epoch == l.epoch && now.Sub(q.sent) < l.bound.Lease()
}

// launch sends what is gathered while there is room. The caller holds the lock.
func (f *flights) launch() {
	for len(f.gathered) > 0 && f.inAir < maxFlights && !f.closed {
		going := f.gathered[0]
		f.gathered = f.gathered[1:]
		going.q, going.sent = f.client.cache.ask(), true
		f.inAir++
		if !f.client.background.run(func() { f.fly(going) }) {
			f.inAir--
			f.land(going, &UnavailableError{Cause: errClosed})
		}
	}
}

func (f *flights) fly(going *flight) {
	err := f.client.fly(going)
	f.mu.Lock()
	f.inAir--
	f.forget(going)
	f.launch()
	f.mu.Unlock()
	// Judged when nobody joins any more: whoever has joined did so before now.
	if err == nil {
		for _, r := range going.reads {
			if r.answer.asked {
				r.judgement = f.client.cache.judge(r.asked, going.q, &r.answer, nil)
			}
		}
	}
	going.err = err
	close(going.done)
}

// forget has nobody join a flight any more. The caller holds the lock.
func (f *flights) forget(going *flight) {
	for _, r := range going.reads {
		if f.reads[r.key] == r {
			delete(f.reads, r.key)
		}
	}
}

// land ends a flight that was never sent. The caller holds the lock.
func (f *flights) land(going *flight, err error) {
	f.forget(going)
	going.err = err
	close(going.done)
}

// close lets no flight begin any more. The caller ends those on their way.
func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, waiting := range f.gathered {
		f.land(waiting, &UnavailableError{Cause: errClosed})
	}
	f.gathered = nil
}

// fly asks about the credentials of a flight. It does not end with the callers
// that wait for it.
func (c *Client) fly(f *flight) error {
	bounded, cancel := context.WithTimeout(c.lifetime, c.timeout)
	defer cancel()
	credentials := make([]Credential, len(f.reads))
	for i, r := range f.reads {
		credentials[i] = r.credential
	}
	r := newRound(c, credentials)
	if err := r.run(bounded, r.all()); err != nil {
		if c.lifetime.Err() != nil {
			return &UnavailableError{Cause: errClosed}
		}
		return c.failure(c.lifetime, bounded, err)
	}
	for i, read := range f.reads {
		read.answer, read.asked = r.answers[i], c.cache.digester.of(r.narrowed[i])
	}
	return nil
}

// askShared asks what memory did not answer, together with others that do.
func (c *Client) askShared(ctx context.Context, credential Credential) (answer, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, first := c.flights.join(credential, c.joinKey(credential)) //nolint:contextcheck // the flight outlives the caller that started it
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
	var call callSettings
	asked := 1
	switch {
	case !c.sameQuestion(credential, r):
		asked = 0
	case !r.answer.asked:
		return r.answer, nil
	// A call that joined on the way may use only what the home replica said: the
	// lease that let it join says nothing of others (A3).
	case r.judgement.verdict == usable && (first || r.judgement.atHome):
		return r.answer, nil
	default:
		call = call.after(r.judgement)
	}
	c.cache.stats.askedAgain.Add(1)
	answers, err := c.askOwn(ctx, bounded, []Credential{credential}, call, asked, nil)
	if err != nil {
		return answer{}, err
	}
	return answers[0], nil
}

// joinKey is what equal questions have in common: the part of the credential that
// is sent, as far as that is known.
func (c *Client) joinKey(credential Credential) digest {
	if in := c.intake.known.Load(); in != nil {
		if narrowed, reason := in.narrow(credential); reason == "" {
			credential = narrowed
		}
	}
	return c.cache.digester.of(credential)
}

// sameQuestion reports whether the answer of a read is one to a credential: the
// authority's configuration may have changed since they were found to be equal.
func (c *Client) sameQuestion(credential Credential, r *read) bool {
	return credential == r.credential || r.answer.asked && c.joinKey(credential) == r.asked
}
