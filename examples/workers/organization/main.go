// Command organization is a gRPC worker that tells users about their organization.
// It asks the identity worker, as the user it was called by.
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
	"github.com/sessiond/sessiond/interceptors"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7002", "address to serve on")
	authority := flag.String("authority", "127.0.0.1:8443", "address of sessiond")
	identity := flag.String("identity", "127.0.0.1:7003", "address of the identity worker")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(logger, *listen, *authority, *identity); err != nil {
		logger.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(logger *slog.Logger, listen, authority, identity string) (err error) {
	sessions, err := client.New(authority)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sessions.Close()) }()
	guard, err := interceptors.New(sessions,
		interceptors.Public("/grpc.health.v1.Health/*"), // all else needs a session
		interceptors.WithObserver(logCalls(logger)))
	if err != nil {
		return err
	}

	// Calls on this connection carry the session cookie of the call being served.
	downstream, err := grpc.NewClient(identity,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // loopback
		grpc.WithUnaryInterceptor(interceptors.ForwardUnary()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, downstream.Close()) }()

	srv := grpc.NewServer(guard.ServerOptions()...)
	workersv1.RegisterOrganizationServiceServer(srv, service{identity: workersv1.NewIdentityServiceClient(downstream)})
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
