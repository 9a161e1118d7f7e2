package interceptors_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	"github.com/sessiond/sessiond/interceptors"
)

// downstream keeps the metadata it was sent.
type downstream struct{ got []metadata.MD }

func (d *downstream) options() []grpc.ServerOption {
	keep := func(ctx context.Context) {
		md, _ := metadata.FromIncomingContext(ctx)
		kept := metadata.MD{}
		for _, key := range []string{"cookie", "authorization"} {
			if values := md.Get(key); len(values) > 0 {
				kept.Append(key, values...)
			}
		}
		d.got = append(d.got, kept)
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			keep(ctx)
			return handler(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			keep(stream.Context())
			return handler(server, stream)
		}),
	}
}

func TestForward(t *testing.T) {
	authority := clienttest.New(t)
	ann := authority.Add(client.Session{UserID: "ann"})
	sessions := authority.Client()
	for _, c := range []struct {
		name      string
		validator interceptors.Validator
		opts      []interceptors.Option
		explicit  metadata.MD // what the handler sets itself
		headers   headers
		want      metadata.MD
	}{
		{"session cookies only", sessions, nil, nil, headers{cookies: []string{"theme=dark; " + ann}}, metadata.Pairs("cookie", ann)},
		{"whole headers if nobody can tell", &recording{}, nil, nil, headers{cookies: []string{"theme=dark; " + ann}, authorizations: []string{"Bearer x"}},
			metadata.Pairs("cookie", "theme=dark; "+ann, "authorization", "Bearer x")},
		{"never over a cookie", sessions, nil, metadata.Pairs("cookie", "own=1"), headers{cookies: []string{ann}}, metadata.Pairs("cookie", "own=1")},
		{"never beside an authorization", sessions, nil, metadata.Pairs("authorization", "Bearer own"), headers{cookies: []string{ann}}, metadata.Pairs("authorization", "Bearer own")},
		{"public method", sessions, []interceptors.Option{interceptors.Public(allMethods, urlPath)}, nil, headers{cookies: []string{ann}}, metadata.Pairs("cookie", ann)},
		{"optional method, nothing", sessions, []interceptors.Option{interceptors.Optional(allMethods, urlPath)}, nil, headers{}, metadata.MD{}},
		{"not from headers", &recording{}, []interceptors.Option{interceptors.WithCredential(func(context.Context) (client.Credential, error) {
			return client.CookieValue("x"), nil
		})}, nil, headers{cookies: []string{ann}}, metadata.MD{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := &downstream{}
			down := serve(t, &worker{}, below.options(),
				grpc.WithChainUnaryInterceptor(explicitUnary(c.explicit), interceptors.ForwardUnary()),
				grpc.WithChainStreamInterceptor(explicitStream(c.explicit), interceptors.ForwardStream()))
			guard, err := interceptors.New(c.validator, c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			health := serve(t, &worker{down: down}, guard.ServerOptions())
			for door, call := range callsOf(t, guard, health, &worker{down: down}) {
				below.got = nil
				if err := call(c.headers); err != nil {
					t.Fatalf("%s: %v", door, err)
				}
				if diff := cmp.Diff([]metadata.MD{c.want, c.want}, below.got); diff != "" {
					t.Errorf("%s: unary and stream passed on (-want +got):\n%s", door, diff)
				}
			}
		})
	}
}

func TestForwardOutsideOfAGuardedCall(t *testing.T) {
	below := &downstream{}
	down := serve(t, &worker{}, below.options(), grpc.WithChainUnaryInterceptor(interceptors.ForwardUnary()), grpc.WithChainStreamInterceptor(interceptors.ForwardStream()))
	incoming := metadata.NewIncomingContext(t.Context(), metadata.Pairs("cookie", "a=1"))
	if err := (&worker{down: down}).handle(incoming); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metadata.MD{{}, {}}, below.got); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
}

func TestForwardWhatMetadataCannotCarry(t *testing.T) {
	below := &downstream{}
	down := serve(t, &worker{}, below.options(), grpc.WithChainUnaryInterceptor(interceptors.ForwardUnary()), grpc.WithChainStreamInterceptor(interceptors.ForwardStream()))
	guard, err := interceptors.New(&recording{})
	if err != nil {
		t.Fatal(err)
	}
	call := callsOf(t, guard, nil, &worker{down: down})["http"]
	if err := call(headers{cookies: []string{"name=Zo\xeb"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metadata.MD{{}, {}}, below.got); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
}

func TestForwardWithoutAnAuthority(t *testing.T) {
	authority := clienttest.New(t)
	authority.Break()
	below := &downstream{}
	down := serve(t, &worker{}, below.options(), grpc.WithChainUnaryInterceptor(interceptors.ForwardUnary()))
	guard, err := interceptors.New(authority.Client(), interceptors.Public(urlPath))
	if err != nil {
		t.Fatal(err)
	}
	err = callsOf(t, guard, nil, &worker{down: down})["http"](headers{cookies: []string{"a=1"}})
	if status.Code(err) != codes.Unavailable || len(below.got) != 0 {
		t.Errorf("%v, and %d calls got through, want Unavailable and none", err, len(below.got))
	}
}
