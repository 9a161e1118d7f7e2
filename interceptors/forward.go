package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sessiond/sessiond/client"
)

// narrower is implemented by Validators that know which part of a credential the
// authority reads, as [client.Client] does.
type narrower interface {
	Narrow(ctx context.Context, credential client.Credential) (client.Credential, error)
}

var _ narrower = (*client.Client)(nil)

type callerKey struct{}

// caller is what a guarded call presented.
type caller struct {
	credential client.Credential
	narrower   narrower
}

func (g *Guard) withCaller(ctx context.Context, credential client.Credential) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{credential, g.narrower})
}

// ForwardUnary returns a client interceptor that passes on to another gRPC
// service what the caller of the guarded call presented, so that the other
// service's guard sees the same session. Use it with the context of the guarded
// call, and only on connections to services that may hold the session: whoever
// receives it can act as the user.
//
// Of the cookies only those that can carry a session are passed on, if the
// guard's Validator is a [client.Client]. Nothing is passed on if the outgoing
// metadata holds a cookie or authorization already, if the credential did not
// come in headers, or if it holds bytes that metadata cannot carry. The error is
// the Validator's.
func ForwardUnary() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, err := forward(ctx)
		if err != nil {
			return err
		}
		return invoker(ctx, method, request, reply, conn, opts...)
	}
}

// ForwardStream is [ForwardUnary] for streams.
func ForwardStream() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, err := forward(ctx)
		if err != nil {
			return nil, err
		}
		return streamer(ctx, desc, conn, method, opts...)
	}
}

func forward(ctx context.Context) (context.Context, error) {
	presented, ok := ctx.Value(callerKey{}).(caller)
	if !ok || hasCredential(ctx) {
		return ctx, nil
	}
	credential := presented.credential
	if presented.narrower != nil {
		var err error
		if credential, err = presented.narrower.Narrow(ctx, credential); err != nil {
			return nil, answerTo(err).status().Err()
		}
	}
	cookie, authorization := credential.Headers()
	if !carriable(cookie) || !carriable(authorization) {
		return ctx, nil
	}
	if cookie != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, cookieKey, cookie)
	}
	if authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, authorizationKey, authorization)
	}
	return ctx, nil
}

func hasCredential(ctx context.Context) bool {
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	return len(outgoing.Get(cookieKey)) > 0 || len(outgoing.Get(authorizationKey)) > 0
}

// carriable reports whether metadata can hold a value: printable ASCII
// (gRPC over HTTP2, "Custom-Metadata").
func carriable(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}
