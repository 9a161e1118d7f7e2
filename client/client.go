package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

var errClosed = errors.New("the client is closed")

// Client asks an authority. It is safe for concurrent use; a process needs one.
type Client struct {
	conn      *grpc.ClientConn
	rpc       sessiondv1.SessionServiceClient
	intake    *intakeSource
	timeout   time.Duration
	observer  Observer
	counters  counters
	end       context.CancelFunc
	closeOnce sync.Once
	closeErr  error
}

// New returns a Client for a gRPC target, such as "dns:///sessiond:8443". It does
// no I/O: the first call connects. The caller closes the Client.
//
// A target that is not a loopback address or unix socket needs [WithTLS] or [WithInsecure].
func New(target string, opts ...Option) (*Client, error) {
	s := settings{timeout: DefaultTimeout}
	for _, o := range opts {
		o.apply(&s)
	}
	if s.timeout <= 0 {
		return nil, fmt.Errorf("client: WithTimeout(%v): the timeout must be positive", s.timeout)
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
		conn:     conn,
		rpc:      sessiondv1.NewSessionServiceClient(conn),
		timeout:  s.timeout,
		observer: s.observer,
		end:      end,
	}
	c.intake = &intakeSource{fetch: c.fetchIntake, lifetime: lifetime, timeout: s.timeout}
	return c, nil
}

// Close ends the calls under way, which then fail as [ErrUnavailable], and waits
// for the Client's goroutines. Further calls to Close do nothing.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.intake.close(c.end)
		if err := c.conn.Close(); err != nil {
			c.closeErr = fmt.Errorf("client: close the connection: %w", err)
		}
	})
	return c.closeErr
}

// Stats returns the counts since New.
func (c *Client) Stats() Stats {
	return Stats{
		Calls:       c.counters.calls.Load(),
		Refusals:    c.counters.refusals.Load(),
		Unavailable: c.counters.unavailable.Load(),
	}
}

func (c *Client) fetchIntake(ctx context.Context) (*intake, error) {
	sentAt := time.Now()
	answer, err := c.rpc.GetIntake(ctx, &sessiondv1.GetIntakeRequest{})
	if err != nil {
		return nil, fmt.Errorf("get intake: %w", err)
	}
	return newIntake(answer, sentAt), nil
}
