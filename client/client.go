package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

var errClosed = errors.New("the client is closed")

// Client asks an authority. It is safe for concurrent use; a process needs one.
type Client struct {
	conn     *grpc.ClientConn
	rpc      sessiondv1.SessionServiceClient
	intake   *intakeSource
	timeout  time.Duration
	observer Observer
	counters counters
	cache    *cache // without entries where it is turned off
	cached   bool
	watch    *watcher
	flights  *flights
	// background are the goroutines that Close waits for.
	background *background
	lifetime   context.Context // ends with Close
	end        context.CancelFunc
	closeOnce  sync.Once
	closeErr   error
}

// New returns a Client for a gRPC target, such as "dns:///sessiond:8443". It does
// no I/O: the first call connects. The caller closes the Client.
//
// A target that is not a loopback address or unix socket needs [WithTLS] or [WithInsecure].
func New(target string, opts ...Option) (*Client, error) {
	s := settings{timeout: DefaultTimeout, cacheBytes: DefaultCacheSize, name: filepath.Base(os.Args[0])}
	for _, o := range opts {
		o.apply(&s)
	}
	if s.timeout <= 0 {
		return nil, fmt.Errorf("client: WithTimeout(%v): the timeout must be positive", s.timeout)
	}
	if s.cacheBytes < 0 || s.bound < 0 {
		return nil, errors.New("client: WithCacheSize and WithStalenessBound must not be negative")
	}
	dialOptions, err := s.dialOptionsFor(target)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("client: target %q: %w", target, err)
	}
	lifetime, end := context.WithCancel(context.Background())
	c := &Client{
		conn:       conn,
		rpc:        sessiondv1.NewSessionServiceClient(conn),
		timeout:    s.timeout,
		observer:   s.observer,
		cache:      newCache(s.cacheBytes, clock.Bound(s.bound)),
		cached:     !s.uncached && s.cacheBytes > 0,
		background: &background{},
		lifetime:   lifetime,
		end:        end,
	}
	c.intake = &intakeSource{fetch: c.fetchIntake, lifetime: lifetime, timeout: s.timeout}
	c.watch = &watcher{rpc: c.rpc, cache: c.cache, intake: c.intake, name: s.name}
	c.flights = &flights{client: c, reads: map[digest]*read{}}
	return c, nil
}

// openWatch opens the Watch, the first time that there is something to watch for.
func (c *Client) openWatch() {
	if c.cached && c.watch.begun.CompareAndSwap(false, true) {
		c.background.run(func() { c.watch.run(c.lifetime) })
	}
}

// Close ends the calls under way, which then fail as [ErrUnavailable], and waits
// for the Client's goroutines. Further calls to Close do nothing.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.flights.close()
		c.intake.close(c.end)
		c.background.wait()
		if err := c.conn.Close(); err != nil {
			c.closeErr = fmt.Errorf("client: close the connection: %w", err)
		}
	})
	return c.closeErr
}

// Stats returns the counts since New.
func (c *Client) Stats() Stats {
	s := Stats{
		Calls:       c.counters.calls.Load(),
		Refusals:    c.counters.refusals.Load(),
		Unavailable: c.counters.unavailable.Load(),
	}
	c.cache.count(&s)
	s.Watch = c.watch.state()
	s.Calls += s.Hits
	return s
}

// Revision returns the store's present revision, for [AtLeast]: a call with it is
// judged by all that was committed before, whoever wrote it. The error is an
// [*UnavailableError] or ctx.Err().
func (c *Client) Revision(ctx context.Context) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.rpc.GetRevision(bounded, &sessiondv1.GetRevisionRequest{})
	if err != nil {
		return "", c.failure(ctx, bounded, fmt.Errorf("get revision: %w", err))
	}
	return answer.GetRevision(), nil
}

func (c *Client) fetchIntake(ctx context.Context) (*intake, error) {
	sentAt := time.Now()
	answer, err := c.rpc.GetIntake(ctx, &sessiondv1.GetIntakeRequest{})
	if err != nil {
		return nil, fmt.Errorf("get intake: %w", err)
	}
	in := newIntake(answer, sentAt)
	c.cache.learnBound(clock.Bound(in.bound))
	return in, nil
}
