package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
)

// follower is implemented by Validators that can tell when a session ends, as
// [client.Client] does.
type follower interface {
	Follow(ctx context.Context, credential client.Credential, check func(*client.Session) error, opts ...client.CallOption) (*client.Session, context.Context, error)
}

var _ follower = (*client.Client)(nil)

// ended returns why the session of a stream's context has ended, nil if it has not.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	var refused *client.RefusedError
	var unavailable *client.UnavailableError
	if errors.As(cause, &refused) || errors.As(cause, &unavailable) || errors.Is(cause, errNotFresh) || errors.Is(cause, errRoleRequired) {
		return answerTo(cause).status().Err()
	}
	return nil // the caller's end, not the session's
}

// guardedStream is a stream whose context ends with its session. Receiving and
// sending then return the status of that, though the peer be silent or not read.
type guardedStream struct {
	grpc.ServerStream
	ctx        context.Context
	recv, send pump
}

func newGuardedStream(ctx context.Context, stream grpc.ServerStream) *guardedStream {
	return &guardedStream{
		ServerStream: stream, ctx: ctx,
		recv: pump{do: stream.RecvMsg, over: stream.Context()},
		send: pump{do: stream.SendMsg, over: stream.Context()},
	}
}

// Context returns the context that carries the session and ends with it.
func (s *guardedStream) Context() context.Context { return s.ctx }

// RecvMsg receives. After an error the message must not be read.
func (s *guardedStream) RecvMsg(m any) error { return s.through(&s.recv, m) }

// SendMsg sends.
func (s *guardedStream) SendMsg(m any) error { return s.through(&s.send, m) }

func (s *guardedStream) through(p *pump, m any) error {
	if err := ended(s.ctx); err != nil {
		return err
	}
	err := p.run(s.ctx, m)
	if end := ended(s.ctx); end != nil {
		return end
	}
	return err
}

// pump does what may block in a goroutine of its own, so that the caller can leave
// when the session ends. The goroutine begins when it is first needed and ends with
// the stream. One caller at a time, as with streams.
type pump struct {
	do   func(any) error
	over context.Context // of the stream

	in  chan any
	out chan error // capacity 1, for what nobody waits for any more
}

// run does it and returns the result, or leaves it when the session has ended:
// then nothing may be run any more.
func (p *pump) run(ctx context.Context, m any) error {
	if p.in == nil {
		p.in, p.out = make(chan any), make(chan error, 1)
		go p.work()
	}
	select {
	case p.in <- m:
	case <-p.over.Done():
		return status.FromContextError(p.over.Err()).Err()
	}
	select {
	case err := <-p.out:
		return err
	case <-ctx.Done():
		if ended(ctx) != nil {
			return ctx.Err()
		}
		return <-p.out // the stream's own end, which the stream knows best
	}
}

func (p *pump) work() {
	for {
		select {
		case m := <-p.in:
			p.out <- p.do(m)
		case <-p.over.Done():
			return
		}
	}
}
