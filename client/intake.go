package client

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/sessioncookie"
)

// intake is what an authority reads of a request. It does not change, but for
// the time of its last confirmation.
type intake struct {
	rules         []cookieRule
	authorization bool
	maxBytes      int
	maxBatch      int
	digest        []byte
	bound         time.Duration
	// instances are the authority processes known to read credentials this way:
	// replicas behind a balancer answer in turn.
	instances []string
	// confirmed is when the last question was sent whose answer showed that this
	// still holds, in nanoseconds since base.
	confirmed atomic.Int64
	base      time.Time
}

const (
	maxInstances = 32
	maxFetches   = 3
)

func newIntake(answer *sessiondv1.GetIntakeResponse, sentAt time.Time) *intake {
	in := &intake{
		authorization: answer.GetAuthorization(),
		maxBytes:      int(answer.GetMaxCredentialBytes()),
		maxBatch:      max(int(answer.GetMaxBatchSize()), 1),
		digest:        answer.GetConfigDigest(),
		bound:         answer.GetStalenessBound().AsDuration(),
		instances:     []string{answer.GetInstance()},
		base:          sentAt,
	}
	for _, rule := range answer.GetCookies() {
		in.rules = append(in.rules, cookieRule{name: rule.GetName(), chunked: rule.GetChunked()})
	}
	return in
}

// sameAs reports whether both read credentials alike.
func (in *intake) sameAs(other *intake) bool { return bytes.Equal(in.digest, other.digest) }

// isDigest reports whether an answer that names the digest of its authority's
// configuration comes from one that reads credentials this way.
func (in *intake) isDigest(digest []byte) bool {
	return len(digest) > 0 && bytes.Equal(digest, in.digest)
}

func (in *intake) knows(instance string) bool { return slices.Contains(in.instances, instance) }

// confirm notes that an answer to a question sent at an instant fits.
func (in *intake) confirm(sentAt time.Time) {
	now := int64(sentAt.Sub(in.base))
	for {
		last := in.confirmed.Load()
		if last >= now || in.confirmed.CompareAndSwap(last, now) {
			return
		}
	}
}

// current reports whether the intake was confirmed within the staleness bound,
// so that a refusal may be decided by it without asking.
func (in *intake) current() bool {
	return time.Since(in.base)-time.Duration(in.confirmed.Load()) < in.bound
}

// narrow returns the part of a credential that the authority reads, or the
// reason for which it would refuse that.
func (in *intake) narrow(c Credential) (Credential, Reason) {
	if c.form == formHeaders {
		c.cookie = filterCookies(c.cookie, in.rules)
		if !in.authorization {
			c.authorization = ""
		}
	}
	switch {
	case c.IsZero():
		return c, ReasonNoCredential
	case in.maxBytes > 0 && c.size() > in.maxBytes:
		return c, ReasonMalformed
	default:
		return c, ""
	}
}

// maxUnread bounds how many cookies of a header are looked at for one that is not read.
const maxUnread = 32

// unread names the cookies of a header that has none of those that are read, and yet
// some that look like a session's.
func unread(cookie string) []string {
	var names []string
	for _, c := range sessioncookie.Inspect(cookie, maxUnread) {
		if c.SignedShape {
			names = append(names, c.Name)
		}
	}
	return names
}

// intakeSource holds the intake and fetches it, once for all who wait.
type intakeSource struct {
	fetch    func(context.Context) (*intake, error)
	lifetime context.Context // ends with the Client
	timeout  time.Duration

	known atomic.Pointer[intake]

	mu      sync.Mutex
	flight  *intakeFlight
	closed  bool
	running sync.WaitGroup
}

type intakeFlight struct {
	done chan struct{}
	in   *intake
	err  error
}

// get returns the intake, which the first call fetches.
func (s *intakeSource) get(ctx context.Context) (*intake, error) {
	if in := s.known.Load(); in != nil {
		return in, nil
	}
	return s.refresh(ctx)
}

// refresh fetches the intake, or waits for a fetch that is on its way. The fetch
// does not end with the caller that began it. A failure is not remembered.
func (s *intakeSource) refresh(ctx context.Context) (*intake, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, &UnavailableError{Cause: errClosed}
	}
	flight := s.flight
	if flight == nil {
		flight = &intakeFlight{done: make(chan struct{})}
		s.flight = flight
		s.running.Go(func() { s.fly(flight) }) //nolint:contextcheck // the flight outlives the caller that started it
	}
	s.mu.Unlock()

	select {
	case <-flight.done:
		return flight.in, flight.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refreshFor fetches the intake because an unknown instance answered. Once is
// enough on one connection, unless a fetch was on its way before that answer
// came. Behind a balancer that spreads calls it takes a few to meet the instance;
// one that is never met is believed to be like the others.
func (s *intakeSource) refreshFor(ctx context.Context, instance string) (*intake, error) {
	in, err := s.refresh(ctx)
	for range maxFetches - 1 {
		if err != nil || in.knows(instance) {
			break
		}
		in, err = s.refresh(ctx)
	}
	return in, err
}

func (s *intakeSource) fly(flight *intakeFlight) {
	ctx, cancel := context.WithTimeout(s.lifetime, s.timeout)
	defer cancel()
	var err error
	if flight.in, err = s.fetch(ctx); err != nil {
		// The deadline is the flight's, not that of those who wait.
		flight.err = &UnavailableError{Cause: err}
	} else {
		s.learn(flight.in)
	}
	s.mu.Lock()
	s.flight = nil
	s.mu.Unlock()
	close(flight.done)
}

// learn adds the instances of an intake that reads alike, the newest first.
func (in *intake) learn(instances []string) {
	for _, instance := range instances {
		if len(in.instances) < maxInstances && !in.knows(instance) {
			in.instances = append(in.instances, instance)
		}
	}
}

// learn takes an intake as the one that holds now.
func (s *intakeSource) learn(in *intake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.known.Load(); last != nil && last.sameAs(in) {
		in.learn(last.instances)
	}
	s.known.Store(in)
}

// close ends a fetch on its way, waits for it, and lets no other begin.
func (s *intakeSource) close(end context.CancelFunc) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	end()
	s.running.Wait()
}
