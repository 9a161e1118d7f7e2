package bench_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

const rows = 10_000

// BenchmarkValidate is the whole RPC over loopback TCP, each call another token
// and so a read of the store, beside an echo: the same messages from a bare
// grpc-go server that decides nothing. BenchmarkBatchValidate64 is per batch.
func BenchmarkValidate(b *testing.B) {
	for _, target := range targets(b) {
		b.Run(target.name, func(b *testing.B) {
			b.Run("serial", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					target.validate(b, i)
				}
			})
			b.Run("64-in-flight", func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(32) // times GOMAXPROCS
				var next atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						target.validate(b, int(next.Add(1)))
					}
				})
			})
		})
	}
}

func BenchmarkBatchValidate64(b *testing.B) {
	for _, target := range targets(b) {
		b.Run(target.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				req := &sessiondv1.BatchValidateRequest{Credentials: make([]*sessiondv1.Credential, 64)}
				for n := range req.Credentials {
					req.Credentials[n] = target.credentials[(i*64+n)%rows]
				}
				resp, err := target.client.BatchValidate(b.Context(), req)
				if err != nil || len(resp.GetVerdicts()) != 64 {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkClientMisses is 256 calls at a time of a client that remembers nothing,
// to an authority that remembers everything: they gather in batches.
func BenchmarkClientMisses(b *testing.B) {
	tokens := make([]string, rows)
	credentials := make([]client.Credential, rows)
	for i := range tokens {
		tokens[i] = sessioncookie.NewToken()
		credentials[i] = client.FromHeaders("theme=dark; "+cookie+"="+sessioncookie.Encode(sessioncookie.Sign(tokens[i], secret)), "")
	}
	sessions, err := client.New(serve(b, sqliteStore(b, tokens), 256<<20), client.WithoutCache())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := sessions.Close(); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.SetParallelism(128) // times GOMAXPROCS
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := sessions.Validate(b.Context(), credentials[next.Add(1)%rows]); err != nil {
				b.Error(err)
			}
		}
	})
}

type target struct {
	name        string
	client      sessiondv1.SessionServiceClient
	credentials []*sessiondv1.Credential
}

func (t *target) validate(b *testing.B, i int) {
	resp, err := t.client.Validate(b.Context(), &sessiondv1.ValidateRequest{Credential: t.credentials[i%rows]})
	if err != nil || resp.GetSession() == nil {
		b.Errorf("%v, %v", resp, err)
	}
}

func targets(b *testing.B) []*target {
	b.Helper()
	tokens := make([]string, rows)
	credentials := make([]*sessiondv1.Credential, rows)
	for i := range tokens {
		tokens[i] = sessioncookie.NewToken()
		header := "theme=dark; " + cookie + "=" + sessioncookie.Encode(sessioncookie.Sign(tokens[i], secret))
		credentials[i] = &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(header)}}}
	}
	out := []*target{
		{"sqlite", dial(b, serve(b, sqliteStore(b, tokens), 0)), credentials},
		{"postgres", dial(b, serve(b, postgresStore(b, tokens), 0)), credentials},
	}
	resp, err := out[0].client.Validate(b.Context(), &sessiondv1.ValidateRequest{Credential: credentials[0]})
	if err != nil {
		b.Fatal(err)
	}
	return append(out, &target{"echo", echo(b, resp), credentials})
}

// serve runs the real server.
func serve(b *testing.B, cfg server.StoreConfig, cacheBytes int64) string {
	b.Helper()
	srv, err := server.New(b.Context(), server.Config{
		Listen: "127.0.0.1:0", DrainTimeout: time.Second, Store: cfg,
		Authority: authority.Config{
			Cookies:      sessioncookie.Config{Names: []string{cookie}, Secrets: []string{secret}},
			MaxBatchSize: 256, StalenessBound: 5 * time.Second,
		},
		CacheBytes: cacheBytes,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return srv.Addr().String()
}

// echoService answers every call with the same message.
type echoService struct {
	sessiondv1.UnimplementedSessionServiceServer
	response *sessiondv1.ValidateResponse
}

func (e *echoService) Validate(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
	return e.response, nil
}

func (e *echoService) BatchValidate(_ context.Context, req *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
	resp := &sessiondv1.BatchValidateResponse{}
	for range req.GetCredentials() {
		resp.Verdicts = append(resp.Verdicts, e.response)
	}
	return resp, nil
}

func echo(b *testing.B, response *sessiondv1.ValidateResponse) sessiondv1.SessionServiceClient {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer()
	sessiondv1.RegisterSessionServiceServer(srv, &echoService{response: response})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	b.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return dial(b, listener.Addr().String())
}

func dial(b *testing.B, address string) sessiondv1.SessionServiceClient {
	b.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := conn.Close(); err != nil {
			b.Error(err)
		}
	})
	return sessiondv1.NewSessionServiceClient(conn)
}

func sqliteStore(b *testing.B, tokens []string) server.StoreConfig {
	b.Helper()
	path := filepath.Join(b.TempDir(), "s.sqlite")
	created, err := sqlite.Open(b.Context(), sqlite.Config{Path: path, Create: true})
	if err != nil {
		b.Fatal(err)
	}
	if err := created.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		b.Fatal(err)
	}
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	const date = "2006-01-02T15:04:05.000Z"
	at, until := time.Now().UTC().Format(date), time.Now().UTC().Add(168*time.Hour).Format(date)
	for i, token := range tokens {
		id := fmt.Sprint(i)
		_, userErr := tx.ExecContext(b.Context(), `INSERT INTO "user" (id, name, email, "emailVerified", "createdAt", "updatedAt") VALUES (?, 'User', ?, 1, ?, ?)`, id, id+"@example.com", at, at)
		_, sessionErr := tx.ExecContext(b.Context(), `INSERT INTO session (id, "expiresAt", token, "createdAt", "updatedAt", "userId") VALUES (?, ?, ?, ?, ?, ?)`, id, until, token, at, at, id)
		if err := errors.Join(userErr, sessionErr); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		b.Fatal(err)
	}
	return server.StoreConfig{Driver: server.DriverSQLite, Path: path}
}

func postgresStore(b *testing.B, tokens []string) server.StoreConfig {
	b.Helper()
	dsn := pgtest.Start(b).NewDatabase(b)
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	seed(b, conn, tokens)
	return server.StoreConfig{Driver: server.DriverPostgres, DSN: dsn, MaxConns: 16}
}
