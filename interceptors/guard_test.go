package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	"github.com/sessiond/sessiond/interceptors"
)

const (
	unaryMethod  = "/grpc.health.v1.Health/Check"
	streamMethod = "/grpc.health.v1.Health/Watch"
	allMethods   = "/grpc.health.v1.Health/*"
	urlPath      = "/things/1"
)

// worker is the guarded service. Its handlers say whom they see in the response
// of a unary call and a stream, and in the body over HTTP.
type worker struct {
	grpc_health_v1.UnimplementedHealthServer
	// down is the next service, called with the context of the call; nil for none.
	down grpc_health_v1.HealthClient
	mu   sync.Mutex
	seen []string
}

func (w *worker) handle(ctx context.Context) error {
	who := "nobody"
	if session, ok := client.FromContext(ctx); ok {
		who = session.UserID
	}
	w.mu.Lock()
	w.seen = append(w.seen, who)
	w.mu.Unlock()
	if w.down == nil {
		return nil
	}
	if _, err := w.down.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		return err
	}
	stream, err := w.down.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if _, err = stream.Recv(); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (w *worker) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, w.handle(ctx)
}

func (w *worker) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	return w.handle(stream.Context())
}

// AuthFuncOverride would switch go-grpc-middleware's auth interceptors off.
func (w *worker) AuthFuncOverride(ctx context.Context, _ string) (context.Context, error) {
	return ctx, nil
}

func (w *worker) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// serve runs a worker behind options and returns a client of it.
func serve(t *testing.T, w *worker, server []grpc.ServerOption, dial ...grpc.DialOption) grpc_health_v1.HealthClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer(server...)
	grpc_health_v1.RegisterHealthServer(s, w)
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	dial = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	}, dial...)
	conn, err := grpc.NewClient("passthrough:///worker", dial...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return grpc_health_v1.NewHealthClient(conn)
}

// headers are what a caller sends.
type headers struct{ cookies, authorizations []string }

// result is the end of a call over one of the doors.
type result struct {
	Code codes.Code
	Who  string // "" if the handler did not run
}

// doors calls a guarded worker as a unary call, as a stream and over HTTP.
func doors(t *testing.T, guard *interceptors.Guard) map[string]func(headers) result {
	t.Helper()
	w := &worker{}
	health := serve(t, w, guard.ServerOptions())
	end := func(err error) result {
		return result{status.Code(err), strings.Join(w.take(), " ")}
	}
	outgoing := func(h headers) context.Context {
		md := metadata.MD{}
		md.Append("cookie", h.cookies...)
		md.Append("authorization", h.authorizations...)
		return metadata.NewOutgoingContext(t.Context(), md)
	}
	handler := guard.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := w.handle(r.Context()); err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
		}
	}))
	fromHTTP := map[int]codes.Code{
		200: codes.OK, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 503: codes.Unavailable,
		504: codes.DeadlineExceeded, 499: codes.Canceled, 500: codes.Internal,
	}
	return map[string]func(headers) result{
		"unary": func(h headers) result {
			_, err := health.Check(outgoing(h), &grpc_health_v1.HealthCheckRequest{})
			return end(err)
		},
		"stream": func(h headers) result {
			stream, err := health.Watch(outgoing(h), &grpc_health_v1.HealthCheckRequest{})
			if err == nil {
				if _, err = stream.Recv(); errors.Is(err, io.EOF) {
					err = nil
				}
			}
			return end(err)
		},
		"http": func(h headers) result {
			request := httptest.NewRequest(http.MethodGet, urlPath, nil)
			request.Header["Cookie"] = h.cookies
			request.Header["Authorization"] = h.authorizations
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			return result{fromHTTP[recorder.Code], strings.Join(w.take(), " ")}
		},
	}
}

// TestGuard: every case ends alike through every door.
func TestGuard(t *testing.T) {
	everywhere := []string{allMethods, urlPath}
	each := func(option func(string) interceptors.Option) []interceptors.Option {
		return []interceptors.Option{option(allMethods), option(urlPath)}
	}
	fresh := each(func(p string) interceptors.Option { return interceptors.RequireFresh(p, time.Hour) })
	admin := each(func(p string) interceptors.Option { return interceptors.RequireRole(p, "admin", "owner") })
	public := []interceptors.Option{interceptors.Public(everywhere...)}
	optional := []interceptors.Option{interceptors.Optional(everywhere...)}

	authority := clienttest.New(t)
	day := time.Now().Add(-24 * time.Hour)
	ann := authority.Add(client.Session{UserID: "ann", User: client.User{Role: "user,admin"}})
	old := authority.Add(client.Session{UserID: "old", CreatedAt: day, User: client.User{Role: "user"}})
	banned := authority.AddRefused(client.ReasonUserBanned)
	cookie := func(values ...string) headers { return headers{cookies: values} }
	sessions := authority.Client()
	broken := clienttest.New(t)
	broken.Fail(status.Error(codes.Unauthenticated, "worker unknown"))
	brokenSessions := broken.Client()

	for _, c := range []struct {
		name      string
		validator interceptors.Validator
		opts      []interceptors.Option
		headers   headers
		want      result
	}{
		{"good session", sessions, nil, cookie(ann), result{codes.OK, "ann"}},
		{"several cookie headers", sessions, nil, cookie("a=1", ann, "b=2"), result{codes.OK, "ann"}},
		{"authorization", sessions, nil, headers{authorizations: []string{"Bearer " + ann[strings.Index(ann, "=")+1:]}}, result{codes.OK, "ann"}},
		{"first authorization counts", sessions, nil, headers{authorizations: []string{"Bearer x", "Bearer " + ann[strings.Index(ann, "=")+1:]}}, result{codes.Unauthenticated, ""}},
		{"nothing", sessions, nil, headers{}, result{codes.Unauthenticated, ""}},
		{"nothing of ours", sessions, nil, cookie("theme=dark"), result{codes.Unauthenticated, ""}},
		{"refused", sessions, nil, cookie(banned), result{codes.Unauthenticated, ""}},
		{"authority away", brokenSessions, nil, cookie(ann), result{codes.Unavailable, ""}},

		{"public, nothing", sessions, public, headers{}, result{codes.OK, "nobody"}},
		{"public, good session", sessions, public, cookie(ann), result{codes.OK, "nobody"}},
		{"public, authority away", brokenSessions, public, cookie(ann), result{codes.OK, "nobody"}},

		{"optional, good session", sessions, optional, cookie(ann), result{codes.OK, "ann"}},
		{"optional, nothing", sessions, optional, headers{}, result{codes.OK, "nobody"}},
		{"optional, refused", sessions, optional, cookie(banned), result{codes.OK, "nobody"}},
		{"optional, authority away", brokenSessions, optional, cookie(ann), result{codes.Unavailable, ""}},

		{"fresh", sessions, fresh, cookie(ann), result{codes.OK, "ann"}},
		{"not fresh", sessions, fresh, cookie(old), result{codes.PermissionDenied, ""}},
		{"fresh, nothing", sessions, fresh, headers{}, result{codes.Unauthenticated, ""}},
		{"role", sessions, admin, cookie(ann), result{codes.OK, "ann"}},
		{"no role", sessions, admin, cookie(old), result{codes.PermissionDenied, ""}},

		{"caller's deadline", failing{context.DeadlineExceeded}, nil, cookie(ann), result{codes.DeadlineExceeded, ""}},
		{"caller gone", failing{context.Canceled}, nil, cookie(ann), result{codes.Canceled, ""}},
		{"a bug", failing{errors.New("bug")}, nil, cookie(ann), result{codes.Internal, ""}},
		{"a bug, optional", failing{errors.New("bug")}, optional, cookie(ann), result{codes.Internal, ""}},
		{"neither session nor error", failing{nil}, nil, cookie(ann), result{codes.Internal, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			guard, err := interceptors.New(c.validator, c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			for door, call := range doors(t, guard) {
				if diff := cmp.Diff(c.want, call(c.headers)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", door, diff)
				}
			}
		})
	}
}

// failing is a Validator that returns no session.
type failing struct{ err error }

func (f failing) Validate(context.Context, client.Credential, ...client.CallOption) (*client.Session, error) {
	return nil, f.err
}

// recording is a Validator that accepts, and keeps how it was called.
type recording struct {
	credential client.Credential
	options    int
}

func (r *recording) Validate(_ context.Context, credential client.Credential, opts ...client.CallOption) (*client.Session, error) {
	r.credential, r.options = credential, len(opts)
	return &client.Session{UserID: "ann"}, nil
}

func TestStrict(t *testing.T) {
	validator := &recording{}
	guard, err := interceptors.New(validator, interceptors.Strict(unaryMethod))
	if err != nil {
		t.Fatal(err)
	}
	calls := doors(t, guard)
	for door, want := range map[string]int{"unary": 1, "stream": 0, "http": 0} {
		calls[door](headers{cookies: []string{"a=1"}})
		if validator.options != want {
			t.Errorf("%s: %d call options, want %d", door, validator.options, want)
		}
	}
}

func TestWithCredential(t *testing.T) {
	validator := &recording{}
	guard, err := interceptors.New(validator, interceptors.WithCredential(func(context.Context) (client.Credential, error) {
		return client.CookieValue("elsewhere"), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	for door, call := range doors(t, guard) {
		if got := call(headers{cookies: []string{"a=1"}}); got.Code != codes.OK || validator.credential != client.CookieValue("elsewhere") {
			t.Errorf("%s: %v, with the headers' credential: %t", door, got, validator.credential == client.FromHeaders("a=1", ""))
		}
	}
	guard, err = interceptors.New(validator, interceptors.WithCredential(func(context.Context) (client.Credential, error) {
		return client.Credential{}, fmt.Errorf("no header: %w", client.ErrNoCredential)
	}))
	if err != nil {
		t.Fatal(err)
	}
	for door, call := range doors(t, guard) {
		if got := call(headers{}); got.Code != codes.Unauthenticated {
			t.Errorf("%s: %v, want Unauthenticated", door, got)
		}
	}
}

// TestSessionOfAnotherGuard: a session in the incoming context does not count.
func TestSessionOfAnotherGuard(t *testing.T) {
	guard, err := interceptors.New(failing{client.ErrNoCredential}, interceptors.Public("/public"), interceptors.Optional("/optional"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/public", "/optional"} {
		handler := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if session, ok := client.FromContext(r.Context()); ok {
				t.Errorf("%s: the handler sees %s", path, session.UserID)
			}
		}))
		request := httptest.NewRequest(http.MethodGet, path, nil)
		request = request.WithContext(client.NewContext(request.Context(), &client.Session{UserID: "mallory"}))
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK {
			t.Errorf("%s: %d", path, recorder.Code)
		}
	}
}

func TestObserver(t *testing.T) {
	authority := clienttest.New(t)
	var mu sync.Mutex
	var got []string
	guard, err := interceptors.New(authority.Client(),
		interceptors.Public("/public"), interceptors.Optional("/optional"), interceptors.RequireFresh("/fresh", time.Hour), interceptors.RequireRole("/role", "admin"),
		interceptors.WithObserver(func(_ context.Context, o client.Observation) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(o.Method, " ", o.Outcome, " ", o.Reason)+strings.Join(o.UnreadCookies, ","))
		}))
	if err != nil {
		t.Fatal(err)
	}
	cookie := authority.Add(client.Session{CreatedAt: time.Now().Add(-2 * time.Hour)})
	banned := authority.AddRefused(client.ReasonUserBanned)
	handler := guard.Handler(http.NotFoundHandler())
	for _, call := range [][2]string{
		{"/x", cookie}, {"/x", banned}, {"/x", ""}, {"/x", "codex-session=token." + strings.Repeat("A", 43) + "="}, {"/public", cookie}, {"/optional", banned}, {"/fresh", cookie}, {"/role", cookie},
	} {
		request := httptest.NewRequest(http.MethodGet, call[0], nil)
		if call[1] != "" {
			request.Header.Set("Cookie", call[1])
		}
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	authority.Break()
	request := httptest.NewRequest(http.MethodGet, "/x", nil)
	request.Header.Set("Cookie", cookie)
	handler.ServeHTTP(httptest.NewRecorder(), request)
	want := []string{
		"/x accepted ", "/x refused USER_BANNED", "/x refused NO_CREDENTIAL", "/x refused NO_CREDENTIALcodex-session", "/optional anonymous USER_BANNED",
		"/fresh forbidden NOT_FRESH", "/role forbidden ROLE_REQUIRED", "/x unavailable ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, &worker{})
	for _, c := range []struct{ pattern, wantErr string }{
		{unaryMethod, ""},
		{streamMethod, ""},
		{allMethods, ""},
		{"/healthz", ""},
		{"/assets/*", ""},
		{"/.well-known/*", ""},
		{"/*", ""},
		{"/grpc.health.v1.Health/Chekc", "no method Chekc"},
		{"/grpc.health.v1.Helth/*", "no service grpc.health.v1.Helth"},
		{"/grpc.health.v1.health/Check", "no service grpc.health.v1.health"},
	} {
		guard, err := interceptors.New(failing{}, interceptors.Public(c.pattern))
		if err != nil {
			t.Fatal(err)
		}
		err = guard.Check(server)
		if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
			t.Errorf("Check with %q: %v, want %q", c.pattern, err, c.wantErr)
		}
	}
}
