package interceptors_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/interceptors"
)

// accepting is a Validator that costs nothing.
type accepting struct{ session client.Session }

func (a *accepting) Validate(context.Context, client.Credential, ...client.CallOption) (*client.Session, error) {
	return &a.session, nil
}

// BenchmarkGuard is what the guard adds to a unary call, validation apart.
func BenchmarkGuard(b *testing.B) {
	guard, err := interceptors.New(&accepting{}, interceptors.Public("/public.v1.Service/*"), interceptors.RequireRole("/admin.v1.Service/*", "admin"))
	if err != nil {
		b.Fatal(err)
	}
	unary := guard.Unary()
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs("cookie", "session=x", "user-agent", "bench"))
	handler := func(context.Context, any) (any, error) { return nil, nil }
	for _, method := range []string{"/content.v1.Service/Get", "/public.v1.Service/Get"} {
		info := &grpc.UnaryServerInfo{FullMethod: method}
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := unary(ctx, nil, info, handler); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
