// Command content is a gRPC worker that serves articles to signed-in users.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"net"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
	"github.com/sessiond/sessiond/interceptors"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7001", "address to serve on")
	authority := flag.String("authority", "127.0.0.1:8443", "address of sessiond")
	flag.Parse()
	if err := run(*listen, *authority); err != nil {
		log.Fatal(err)
	}
}

func run(listen, authority string) error {
	sessions, err := client.New(authority)
	if err != nil {
		return err
	}
	defer sessions.Close()
	guard, err := interceptors.New(sessions,
		interceptors.Public("/grpc.health.v1.Health/*"), // all else needs a session
		interceptors.WithObserver(logCall))
	if err != nil {
		return err
	}

	srv := grpc.NewServer(guard.ServerOptions()...)
	workersv1.RegisterContentServiceServer(srv, service{})
	healthv1.RegisterHealthServer(srv, health.NewServer())
	if err := guard.Check(srv); err != nil {
		return err
	}

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, srv.Stop)
	slog.Info("serving", "address", l.Addr().String())
	return srv.Serve(l)
}

// logCall logs what the guard decided. It is never given the credential.
func logCall(ctx context.Context, o client.Observation) {
	slog.InfoContext(ctx, "call", "method", o.Method, "outcome", o.Outcome, "reason", o.Reason, "duration", o.Duration)
}
