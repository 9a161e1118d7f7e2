package interceptors_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/sessiond/sessiond/interceptors"
)

// callsOf calls a worker behind a guard over gRPC (health, nil for not at all)
// and HTTP. The errors are those of the handler.
func callsOf(t *testing.T, guard *interceptors.Guard, health grpc_health_v1.HealthClient, w *worker) map[string]func(headers) error {
	t.Helper()
	calls := map[string]func(headers) error{
		"http": func(h headers) error {
			var handled error
			request := httptest.NewRequest(http.MethodGet, urlPath, nil)
			request.Header["Cookie"], request.Header["Authorization"] = h.cookies, h.authorizations
			recorder := httptest.NewRecorder()
			guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { handled = w.handle(r.Context()) })).ServeHTTP(recorder, request)
			if recorder.Code != http.StatusOK {
				t.Errorf("the guard answered %d", recorder.Code)
			}
			return handled
		},
	}
	if health != nil {
		calls["grpc"] = func(h headers) error {
			md := metadata.MD{}
			md.Append("cookie", h.cookies...)
			md.Append("authorization", h.authorizations...)
			_, err := health.Check(metadata.NewOutgoingContext(t.Context(), md), &grpc_health_v1.HealthCheckRequest{})
			return err
		}
	}
	return calls
}

func explicitly(ctx context.Context, md metadata.MD) context.Context {
	if len(md) == 0 {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, md)
}

func explicitUnary(md metadata.MD) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoker(explicitly(ctx, md), method, request, reply, conn, opts...)
	}
}

func explicitStream(md metadata.MD) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(explicitly(ctx, md), desc, conn, method, opts...)
	}
}
