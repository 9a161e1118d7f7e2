package client

import (
	"context"
	"errors"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
)

var errUndecided = errors.New("nobody could say for too long whether the session still stands")

// Follow validates a credential, as [Client.Validate] does, and goes on doing so:
// the context it returns, a child of ctx, ends when the session does, within
// milliseconds in health and within twice the staleness bound whatever happens.
// [context.Cause] then says why: a [*RefusedError], an [*UnavailableError] if the
// authority could not say for too long, or what check returned.
//
// check is asked about the session now and whenever it was read anew, since a user
// may lose a role without being signed out. It must not block; nil accepts all.
// Its first error is returned as it is.
//
// What follows the session is released when ctx ends, so ctx must: pass the
// context of the stream or of the connection.
func (c *Client) Follow(ctx context.Context, credential Credential, check func(*Session) error, opts ...CallOption) (*Session, context.Context, error) {
	start := time.Now()
	call := callSettingsOf(opts)
	f := newFollow(credential, check)
	session, source, err := c.followFirst(ctx, f, call)
	c.observe(ctx, start, source, err)
	if err == nil {
		err = f.accepts(session)
	}
	if err != nil {
		c.cache.release(f)
		return nil, nil, err
	}
	followed, end := context.WithCancelCause(ctx)
	if !c.background.run(func() { end(c.follow(followed, f, call)) }) {
		c.cache.release(f)
		end(nil)
		return nil, nil, &UnavailableError{Cause: errClosed}
	}
	return session, followed, nil
}

// followFirst is the validation with which a stream begins.
func (c *Client) followFirst(ctx context.Context, f *follow, call callSettings) (*Session, Source, error) {
	if reason := localReason(f.credential); reason != "" {
		return nil, SourceLocal, refusal(reason, "")
	}
	if err := ctx.Err(); err != nil {
		return nil, SourceLocal, err
	}
	c.openWatch()
	if c.cached && !call.goesThrough() {
		if in := c.intake.known.Load(); in != nil {
			if narrowed, reason := in.narrow(f.credential); reason == "" {
				if session := c.cache.hitFor(f, narrowed); session != nil {
					return session, SourceCache, nil
				}
			}
		}
		c.cache.stats.misses.Add(1)
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answers, err := c.askOwn(ctx, bounded, []Credential{f.credential}, call, 0, f)
	if err != nil {
		return nil, SourceAuthority, err
	}
	return answers[0].result.Session, answers[0].source(), answers[0].result.Err
}

// follow asks about a stream's session again and again, until it returns why the
// stream has to end.
func (c *Client) follow(ctx context.Context, f *follow, call callSettings) error {
	defer c.cache.release(f)
	stop := context.AfterFunc(c.lifetime, f.signal) //nolint:contextcheck // it is the client's end that counts here
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := clock.Never
	for {
		s := c.cache.standing(f)
		now := clock.Now()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case c.lifetime.Err() != nil:
			return &UnavailableError{Cause: errClosed}
		case now >= s.end:
			return &UnavailableError{Cause: errUndecided}
		case now >= s.ask && now >= retry:
			if err := c.followAgain(ctx, f, call, s.end.Sub(now)); err != nil {
				return err
			}
			retry = clock.Now().Add(followPause)
			continue
		}
		timer.Reset(min(s.end, max(s.ask, retry)).Sub(now))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.wake:
		}
	}
}

// followPause is the least time between two questions about one stream: a question
// without an answer took its own time, and a session may change often.
const followPause = 50 * time.Millisecond

// followAgain asks about a stream's session. The error ends the stream.
func (c *Client) followAgain(ctx context.Context, f *follow, call callSettings, most time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, min(c.timeout, most))
	defer cancel()
	call.limit(c.cache.recent(f))
	answers, err := c.askOwn(ctx, bounded, []Credential{f.credential}, call, 0, f)
	if err != nil {
		return nil // undecided: nothing is known, and time counts
	}
	if err := answers[0].result.Err; err != nil {
		return err
	}
	return f.accepts(answers[0].result.Session)
}

// follow is an open stream. Its second part is the cache's, under its lock.
type follow struct {
	credential Credential
	check      func(*Session) error
	wake       chan struct{} // capacity 1

	key    sessionDigest
	hasKey bool
	user   string
	// asOf and deadline are those of its own last answer.
	asOf, deadline clock.Instant
	// epoch is that of the Watch which tells of changes since; 0: none does.
	epoch uint64
	// dirty says that something has passed the answer, at since for the first time.
	dirty bool
	since clock.Instant
}

func newFollow(credential Credential, check func(*Session) error) *follow {
	return &follow{credential: credential, check: check, wake: make(chan struct{}, 1), asOf: clock.Never}
}

func (f *follow) accepts(s *Session) error {
	if f.check == nil {
		return nil
	}
	return f.check(s)
}

// signal has the stream look at where it stands.
func (f *follow) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// follows are the open streams, by what ends them.
type follows struct {
	all   map[*follow]struct{}
	keys  map[sessionDigest]map[*follow]struct{}
	users map[string]map[*follow]struct{}
}

func newFollows() follows {
	return follows{all: map[*follow]struct{}{}, keys: map[sessionDigest]map[*follow]struct{}{}, users: map[string]map[*follow]struct{}{}}
}

func (fs *follows) add(f *follow) {
	fs.all[f] = struct{}{}
	if f.hasKey {
		addTo(fs.keys, f.key, f)
	}
	addTo(fs.users, f.user, f)
}

func (fs *follows) remove(f *follow) {
	delete(fs.all, f)
	if f.hasKey {
		removeFrom(fs.keys, f.key, f)
	}
	removeFrom(fs.users, f.user, f)
}

func addTo[K comparable](index map[K]map[*follow]struct{}, k K, f *follow) {
	if index[k] == nil {
		index[k] = map[*follow]struct{}{}
	}
	index[k][f] = struct{}{}
}

func removeFrom[K comparable](index map[K]map[*follow]struct{}, k K, f *follow) {
	delete(index[k], f)
	if len(index[k]) == 0 {
		delete(index, k)
	}
}

// mark notes that something passed what streams know. The caller holds the lock.
func mark(streams map[*follow]struct{}, now clock.Instant) {
	for f := range streams {
		if !f.dirty {
			f.dirty, f.since = true, now
		}
		f.signal()
	}
}

// register notes a stream's answer, in the step in which it was judged (T1). One
// that was passed does not count: it only says that until then all was well.
func (c *cache) register(f *follow, a *answer, deadline clock.Instant, j judgement) {
	if _, ok := c.follows.all[f]; ok {
		c.follows.remove(f)
	}
	f.key, f.hasKey, f.user = a.key, a.hasKey, a.result.Session.UserID
	c.follows.add(f)
	if a.remaining <= 0 {
		deadline = a.asOf.Add(c.bound.Lease()) // none was stated
	}
	f.asOf, f.deadline, f.epoch = max(f.asOf, a.asOf), deadline, 0
	if j.atHome && a.hasKey && !a.untracked {
		f.epoch = c.epoch
	}
	if f.dirty = j.verdict == passed; f.dirty {
		f.since = max(f.since, a.asOf)
	}
	c.want(clock.Now())
}

// hitFor is hit for a stream, which is registered in the same step.
func (c *cache) hitFor(f *follow, credential Credential) *Session {
	d := c.digester.of(credential)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := clock.Now()
	l := c.lease.Load()
	e := c.table.get(d)
	if !l.live(now) || e == nil || !e.answers(now, l) {
		return nil
	}
	f.key, f.hasKey, f.user = e.key, true, e.session.UserID
	f.asOf, f.deadline = e.asOf, e.deadline
	if !e.untracked {
		f.epoch = e.epoch
	}
	c.follows.add(f)
	return e.session
}

// release forgets a stream.
func (c *cache) release(f *follow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follows.remove(f)
}

// standing says when a stream has to ask again, and when it has to end unless
// somebody says yes before.
type standing struct{ ask, end clock.Instant }

// standing: what vouches for a stream is the lease of the Watch that tells of its
// session, else its own last answer (T1). It asks in good time before that is
// B(1−r) old, and ends when nothing was decided for as long again: so at most 2B
// after the commit.
func (c *cache) standing(f *follow) standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	vouched, most := c.vouched(f), c.bound.Lease()
	s := standing{ask: min(vouched.Add(most*3/5), f.deadline), end: min(vouched.Add(2*most), f.deadline.Add(most))}
	if f.dirty {
		s = standing{ask: clock.Never, end: min(s.end, f.since.Add(most))}
	}
	return s
}

// vouched is the latest moment of which a stream's session is known to have been
// good. The caller holds the lock.
func (c *cache) vouched(f *follow) clock.Instant {
	if l := c.lease.Load(); f.epoch != 0 && l != nil && l.epoch == f.epoch {
		return max(f.asOf, l.asOf)
	}
	return f.asOf
}

// recent is how old an answer about a stream may be, so that it is worth asking:
// newer than what passed the last one.
func (c *cache) recent(f *follow) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := c.bound.Beat()
	if f.dirty {
		age = min(age, clock.Now().Sub(f.since))
	}
	return clock.Within(age)
}
