// Command identity is a gRPC worker that tells users about themselves. One of its
// methods wants a recent sign-in.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
	"github.com/sessiond/sessiond/interceptors"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7003", "address to serve on")
	authority := flag.String("authority", "127.0.0.1:8443", "address of sessiond")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(logger, *listen, *authority); err != nil {
		logger.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(logger *slog.Logger, listen, authority string) (err error) {
	sessions, err := client.New(authority)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sessions.Close()) }()
	guard, err := interceptors.New(sessions,
		interceptors.Public("/grpc.health.v1.Health/*"), // all else needs a session
		interceptors.RequireFresh(workersv1.IdentityService_CloseAccount_FullMethodName, 5*time.Minute),
		interceptors.WithObserver(logCalls(logger)))
	if err != nil {
		return err
	}

	srv := grpc.NewServer(guard.ServerOptions()...)
	workersv1.RegisterIdentityServiceServer(srv, service{})
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
	logger.Info("serving", "address", l.Addr().String())
	return srv.Serve(l)
}

// logCalls logs what the guard decided. It is never given the credential.
func logCalls(logger *slog.Logger) client.Observer {
	return func(ctx context.Context, o client.Observation) {
		logger.InfoContext(ctx, "call", "method", o.Method, "outcome", o.Outcome, "reason", o.Reason, "duration", o.Duration)
	}
}
