package interceptors

import (
	"context"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sessiond/sessiond/client"
)

// The metadata keys, which are the HTTP headers in lower case.
const (
	cookieKey        = "cookie"
	authorizationKey = "authorization"
)

// ServerOptions returns the options that install the guard on a gRPC server, for
// unary calls and streams. Interceptors of earlier options run before it.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.Unary()), grpc.ChainStreamInterceptor(g.Stream())}
}

// Unary returns the interceptor of unary calls. Install [Guard.Stream] with it:
// either alone leaves the other kind of call unguarded.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, err := g.authenticateCall(ctx, info.FullMethod, false)
		if err != nil {
			return nil, err
		}
		return handler(ctx, request)
	}
}

// Stream returns the interceptor of streams, which authenticates when the stream
// starts, before its first message is read. With a [client.Client] for Validator
// the stream ends with its session: its context is cancelled, receiving and sending
// return the refusal, and that is the status of the stream whatever the handler
// returns.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, err := g.authenticateCall(stream.Context(), info.FullMethod, true)
		if err != nil {
			return err
		}
		if _, signedIn := client.FromContext(ctx); g.follower == nil || !signedIn {
			// Not WrapServerStream, which would change a wrapper that an earlier
			// interceptor still holds.
			return handler(server, &middleware.WrappedServerStream{ServerStream: stream, WrappedContext: ctx})
		}
		err = handler(server, newGuardedStream(ctx, stream))
		if end := ended(ctx); end != nil {
			return end
		}
		return err
	}
}

// authenticateCall decides on a call; stays says that it is a stream, which has to
// end with its session.
func (g *Guard) authenticateCall(ctx context.Context, method string, stays bool) (context.Context, error) {
	headers := client.FromHeaders(
		joinCookies(metadata.ValueFromIncomingContext(ctx, cookieKey)),
		first(metadata.ValueFromIncomingContext(ctx, authorizationKey)),
	)
	ctx, err := g.authenticate(ctx, method, g.policy.of(method), headers, stays)
	if err != nil {
		return nil, answerTo(err).status().Err()
	}
	return ctx, nil
}
