package sessiondtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/interceptors"
	"github.com/sessiond/sessiond/server/sessiondtest"
)

// TestHandler is the own test of a worker of net/http: its handler, with the real guard.
func TestHandler(t *testing.T) {
	t.Parallel()
	a := sessiondtest.Start(t)
	guard, err := interceptors.New(a.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	posts := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := client.FromContext(r.Context())
		fmt.Fprintf(w, "hello, %s", session.User.Name)
	}))
	get := func(s sessiondtest.Session, want int) {
		t.Helper()
		recorder := httptest.NewRecorder()
		posts.ServeHTTP(recorder, s.Request(httptest.NewRequest(http.MethodGet, "/posts", nil)))
		if recorder.Code != want {
			t.Errorf("got %d, want %d", recorder.Code, want)
		}
	}
	ann := a.User(t, sessiondtest.User{Name: "Ann"})
	first, second := a.SignIn(t, ann), a.SignIn(t, ann)
	get(first, http.StatusOK)
	a.SignOut(t, first)
	get(first, http.StatusUnauthorized)
	a.Advance(t, 6*24*time.Hour) // a session is good for a week
	get(second, http.StatusOK)
	a.Advance(t, 2*24*time.Hour)
	get(second, http.StatusUnauthorized)
}

// worker serves a method that streams: the health service's Watch.
type worker struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (worker) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if _, ok := client.FromContext(ctx); !ok {
		return nil, status.Error(codes.Internal, "no session")
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (worker) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	if err := stream.Send(&grpc_health_v1.HealthCheckResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// TestGuard is a worker's own test: its calls and streams, with the real guard.
func TestGuard(t *testing.T) {
	t.Parallel()
	a := sessiondtest.Start(t)
	guard, err := interceptors.New(a.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(guard.ServerOptions()...)
	grpc_health_v1.RegisterHealthServer(srv, worker{})
	listener := httptest.NewUnstartedServer(nil).Listener // a free loopback port
	go srv.Serve(listener)                                //nolint:errcheck // Stop ends it
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	calls := grpc_health_v1.NewHealthClient(conn)
	check := func(s sessiondtest.Session) codes.Code {
		_, err := calls.Check(s.Outgoing(t.Context()), &grpc_health_v1.HealthCheckRequest{})
		return status.Code(err)
	}

	u := a.User(t, sessiondtest.User{})
	s := a.SignIn(t, u)
	if got := check(s); got != codes.OK {
		t.Fatal(got)
	}
	stream, err := calls.Watch(s.Outgoing(t.Context()), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	a.BreakStore(t)
	if got := check(s); got != codes.Unavailable {
		t.Errorf("the store is broken: %v", got)
	}
	a.MendStore(t)
	a.Revoke(t, s)
	if got := check(s); got != codes.Unauthenticated {
		t.Errorf("revoked: %v", got)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the stream of a revoked session: %v", err)
	}
}
