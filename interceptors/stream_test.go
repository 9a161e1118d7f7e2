package interceptors_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	"github.com/sessiond/sessiond/interceptors"
)

const talkMethod = "/test.Talk/Talk"

// talk serves a stream in both directions behind a guard and opens one. It returns
// the caller's side. Both end with the test.
func talk(t *testing.T, guard *interceptors.Guard, cookie string, handler func(grpc.ServerStream) error) grpc.ClientStream {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer(guard.ServerOptions()...)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Talk",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "Talk", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return handler(stream) },
		}},
	}, struct{}{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///talk",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	ctx = metadata.AppendToOutgoingContext(ctx, "cookie", cookie)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, talkMethod)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func guardOf(t *testing.T, v interceptors.Validator, opts ...interceptors.Option) *interceptors.Guard {
	t.Helper()
	guard, err := interceptors.New(v, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// TestStreamEndsWithItsSession: whatever a handler does when its session is
// revoked, it learns of it, and the caller gets the guard's status.
func TestStreamEndsWithItsSession(t *testing.T) {
	handlers := map[string]func(grpc.ServerStream) error{
		"receives": func(s grpc.ServerStream) error {
			for {
				if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
					return err
				}
			}
		},
		"sends to a peer that does not read": func(s grpc.ServerStream) error {
			for {
				if err := s.SendMsg(wrapperspb.Bytes(make([]byte, 64<<10))); err != nil {
					return err
				}
			}
		},
		"waits for its context": func(s grpc.ServerStream) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
		"returns nil": func(s grpc.ServerStream) error {
			<-s.Context().Done()
			return nil
		},
		"returns an error of its own": func(s grpc.ServerStream) error {
			<-s.Context().Done()
			return status.Error(codes.Aborted, "mine")
		},
		"looks at the cause": func(s grpc.ServerStream) error {
			<-s.Context().Done()
			if err := context.Cause(s.Context()); !errors.Is(err, client.ErrInvalid) {
				return status.Errorf(codes.Internal, "the cause is %v", err)
			}
			if err := s.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.Unauthenticated {
				return status.Errorf(codes.Internal, "RecvMsg after the end: %v", err)
			}
			if err := s.SendMsg(wrapperspb.String("late")); status.Code(err) != codes.Unauthenticated {
				return status.Errorf(codes.Internal, "SendMsg after the end: %v", err)
			}
			return nil
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				authority := clienttest.New(t)
				cookie := authority.Add(client.Session{})
				var got error
				stream := talk(t, guardOf(t, authority.Client()), cookie, func(s grpc.ServerStream) error {
					got = handler(s)
					return got
				})
				time.Sleep(2 * time.Second) // virtual
				start := time.Now()
				authority.Revoke(cookie)
				for err := error(nil); err == nil; {
					if err = stream.RecvMsg(&wrapperspb.BytesValue{}); err != nil && status.Code(err) != codes.Unauthenticated {
						t.Errorf("the stream ended with %v, want Unauthenticated", err)
					}
				}
				if status.Code(got) == codes.Internal {
					t.Errorf("the handler: %v", got)
				}
				if took := time.Since(start); took > 100*time.Millisecond {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestStreamExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := clienttest.New(t)
		cookie := authority.Add(client.Session{ExpiresAt: time.Now().Add(time.Hour)})
		start := time.Now()
		stream := talk(t, guardOf(t, authority.Client()), cookie, func(s grpc.ServerStream) error {
			return s.RecvMsg(&wrapperspb.StringValue{})
		})
		err := stream.RecvMsg(&wrapperspb.StringValue{})
		took := time.Since(start)
		if status.Code(err) != codes.Unauthenticated || took < time.Hour || took > time.Hour+time.Second {
			t.Errorf("it ended after %v with %v, want Unauthenticated after an hour", took, err)
		}
	})
}

// TestStreamUndecided: a stream goes on while the authority may be believed, and
// then ends as unavailable.
func TestStreamUndecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := clienttest.New(t)
		cookie := authority.Add(client.Session{})
		stream := talk(t, guardOf(t, authority.Client()), cookie, func(s grpc.ServerStream) error {
			return s.RecvMsg(&wrapperspb.StringValue{})
		})
		time.Sleep(time.Hour)
		authority.Break()
		start := time.Now()
		err := stream.RecvMsg(&wrapperspb.StringValue{})
		if took := time.Since(start); status.Code(err) != codes.Unavailable || took < 4*time.Second || took > 10*time.Second {
			t.Errorf("it ended after %v with %v, want Unavailable within two bounds", took, err)
		}
	})
}

// TestStreamEndsByItself: what the peer and the handler do is as without a guard.
func TestStreamEndsByItself(t *testing.T) {
	authority := clienttest.New(t)
	cookie := authority.Add(client.Session{})
	guard := guardOf(t, authority.Client())
	stream := talk(t, guard, cookie, func(s grpc.ServerStream) error {
		for {
			m := &wrapperspb.StringValue{}
			if err := s.RecvMsg(m); err != nil {
				return status.Errorf(codes.DataLoss, "received: %v", err)
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	})
	for range 100 {
		if err := stream.SendMsg(wrapperspb.String("hello")); err != nil {
			t.Fatal(err)
		}
		m := &wrapperspb.StringValue{}
		if err := stream.RecvMsg(m); err != nil || m.GetValue() != "hello" {
			t.Fatalf("received %q, %v", m.GetValue(), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "received: EOF" {
		t.Errorf("ended with %v", err)
	}
}

// changing is a Validator whose session a test changes.
type changing struct {
	session atomic.Pointer[client.Session]
	end     context.CancelCauseFunc
	check   func(*client.Session) error
}

func (c *changing) Validate(context.Context, client.Credential, ...client.CallOption) (*client.Session, error) {
	return c.session.Load(), nil
}

func (c *changing) Follow(ctx context.Context, _ client.Credential, check func(*client.Session) error, _ ...client.CallOption) (*client.Session, context.Context, error) {
	ctx, c.end = context.WithCancelCause(ctx)
	c.check = check
	return c.session.Load(), ctx, check(c.session.Load())
}

// TestStreamLosesItsRole: freshness is asked for when a stream starts, roles for
// as long as it is open.
func TestStreamLosesItsRole(t *testing.T) {
	v := &changing{}
	v.session.Store(&client.Session{CreatedAt: time.Now(), User: client.User{Role: "admin"}})
	guard := guardOf(t, v, interceptors.RequireRole(talkMethod, "admin"), interceptors.RequireFresh(talkMethod, time.Hour))
	entered := make(chan struct{})
	stream := talk(t, guard, "", func(s grpc.ServerStream) error {
		close(entered)
		return s.RecvMsg(&wrapperspb.StringValue{})
	})
	<-entered
	if err := v.check(&client.Session{User: client.User{Role: "admin"}}); err != nil {
		t.Errorf("no longer fresh: %v", err)
	}
	v.end(v.check(&client.Session{User: client.User{Role: "user"}}))
	if err := stream.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("ended with %v, want PermissionDenied", err)
	}
	// At the start freshness counts.
	v.session.Store(&client.Session{CreatedAt: time.Now().Add(-2 * time.Hour), User: client.User{Role: "admin"}})
	stale := talk(t, guard, "", func(grpc.ServerStream) error { return nil })
	if err := stale.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("not fresh: %v, want PermissionDenied", err)
	}
}
