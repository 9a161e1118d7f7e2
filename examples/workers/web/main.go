// Command web is a net/http worker that greets signed-in users.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/interceptors"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7004", "address to serve on")
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
		interceptors.Public("/healthz"), // all else needs a session
		interceptors.WithObserver(logCalls(logger)))
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /me", me(logger))
	srv := &http.Server{Handler: guard.Handler(mux), ReadHeaderTimeout: 5 * time.Second}

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		if err := srv.Close(); err != nil {
			logger.Error("not closed", "error", err)
		}
	})
	logger.Info("serving", "address", l.Addr().String())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// me answers who asks. The guard ran before it, so there is always a session.
func me(logger *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := client.FromContext(r.Context())
		if !ok {
			http.Error(w, "no session", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		err := json.NewEncoder(w).Encode(map[string]string{"user_id": s.UserID, "email": s.User.Email})
		if err != nil {
			logger.WarnContext(r.Context(), "answer not sent", "error", err)
		}
	}
}

// logCalls logs what the guard decided. It is never given the credential.
func logCalls(logger *slog.Logger) client.Observer {
	return func(ctx context.Context, o client.Observation) {
		logger.InfoContext(ctx, "call", "method", o.Method, "outcome", o.Outcome, "reason", o.Reason, "duration", o.Duration)
	}
}
