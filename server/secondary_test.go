package server_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
)

// TestCreateInRedisAlone: a session in secondary storage holds its user, whom a
// database knows, if one is configured. It may have no table of sessions.
func TestCreateInRedisAlone(t *testing.T) {
	redis := redistest.Start(t)
	i := redistest.NewIssuer(t, redis, "")
	empty, full := filepath.Join(t.TempDir(), "empty.sqlite"), filepath.Join(t.TempDir(), "full.sqlite")
	exec(t, empty, `CREATE TABLE other (id TEXT PRIMARY KEY)`)
	exec(t, full, `CREATE TABLE user (id TEXT PRIMARY KEY, name TEXT, email TEXT, emailVerified INTEGER, image TEXT, createdAt DATE, updatedAt DATE, "plan" TEXT, secretNote TEXT);
INSERT INTO user VALUES ('ann', 'Ann', 'ann@example.com', 1, NULL, '2024-01-02T03:04:05.060Z', 1704164645006, 'pro', 'hidden')`)
	const ann = `"user":{"name":"Ann","email":"ann@example.com","emailVerified":true,"image":null,"createdAt":"2024-01-02T03:04:05.060Z","updatedAt":"2024-01-02T03:04:05.006Z","plan":"pro","id":"ann"}}`
	for _, tt := range []struct {
		name, path, user string
		code             codes.Code
		says             string
	}{
		{"no database", "", "ann", codes.FailedPrecondition, "store.driver"},
		{"a database without users", empty, "ann", codes.FailedPrecondition, "store.user_table"},
		{"no database there", filepath.Join(t.TempDir(), "none.sqlite"), "ann", codes.Unavailable, ""},
		{"nobody", full, "bob", codes.NotFound, "no user"},
		{"somebody", full, "ann", codes.OK, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configuration(t)
			cfg.Authority.Policy.ExpiresIn = 7 * 24 * time.Hour
			cfg.Store = server.StoreConfig{
				Driver: server.DriverSQLite, Path: tt.path, Schema: store.Schema{User: store.Table{Hide: []string{"secretNote"}}},
				Secondary: &server.SecondaryConfig{URL: redis.URL(), ExpiresIn: 7 * 24 * time.Hour},
			}
			admin := sessiondv1.NewSessionAdminServiceClient(dial(t, run(t, cfg), insecure.NewCredentials()))
			made, err := admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: tt.user})
			if status.Code(err) != tt.code || !strings.Contains(status.Convert(err).Message(), tt.says) {
				t.Fatal(err)
			}
			list, listErr := admin.ListSessions(t.Context(), &sessiondv1.ListSessionsRequest{UserId: tt.user})
			if listErr != nil || len(list.GetSessions()) > 0 != (err == nil) {
				t.Errorf("listed %v, %v", list, listErr)
			}
			if err != nil {
				return
			}
			token, _, _ := strings.Cut(made.GetCookieValue(), ".")
			if text := i.Text(token); !strings.HasSuffix(text, ann) {
				t.Errorf("the value is %s", text)
			}
		})
	}
}

// TestCreateInBoth: where there is a row, the value is made of it.
func TestCreateInBoth(t *testing.T) {
	redis := redistest.Start(t)
	i := redistest.NewIssuer(t, redis, "")
	cfg := configuration(t)
	cfg.Authority.Policy.ExpiresIn = 7 * 24 * time.Hour
	cfg.Store.Secondary = &server.SecondaryConfig{URL: redis.URL(), InDatabase: true, ExpiresIn: 7 * 24 * time.Hour}
	admin := sessiondv1.NewSessionAdminServiceClient(dial(t, run(t, cfg), insecure.NewCredentials()))
	exec(t, cfg.Store.Path, `INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt) VALUES ('ann', 'Ann', 'ann@example.com', 1, '2024-01-02T03:04:05.060Z', '2024-01-02T03:04:05.060Z')`)
	made, err := admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: "ann", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := strings.Cut(made.GetCookieValue(), ".")
	iso := func(at *timestamppb.Timestamp) string { return at.AsTime().Format("2006-01-02T15:04:05.000Z") }
	s := made.GetSession()
	want := fmt.Sprintf(`{"session":{"expiresAt":%q,"token":%q,"createdAt":%[3]q,"updatedAt":%[3]q,"ipAddress":"","userAgent":"test","userId":"ann",`, iso(s.GetExpiresAt()), token, iso(s.GetCreatedAt()))
	text := i.Text(token)
	if !strings.HasPrefix(text, want) || !strings.Contains(text, fmt.Sprintf(`"id":%q},"user":{"name":"Ann",`, s.GetId())) {
		t.Errorf("the value is\n%s, want\n%s…", text, want)
	}
	got, err := admin.GetSession(t.Context(), &sessiondv1.GetSessionRequest{Session: &sessiondv1.GetSessionRequest_Ref{Ref: &sessiondv1.SessionRef{UserId: "ann", SessionId: s.GetId()}}})
	if err != nil || got.GetSession().GetSession().GetId() != s.GetId() {
		t.Errorf("by ids: %v", err)
	}
}

// exec runs statements on a file of their own.
func exec(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statements)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestNoFeedInRedis: where Redis is no change feed, what is said of it is what mends it
// there, and not how a database gets one.
func TestNoFeedInRedis(t *testing.T) {
	redis := redistest.Start(t)
	cfg := configuration(t)
	cfg.Store = server.StoreConfig{
		Driver:    server.DriverSQLite,
		Secondary: &server.SecondaryConfig{URL: redis.URL() + "?protocol=2", ExpiresIn: 7 * 24 * time.Hour},
	}
	var said bytes.Buffer
	srv, err := server.New(t.Context(), cfg, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := srv.Run(over); err != nil {
		t.Error(err)
	}
	if text := said.String(); !strings.Contains(text, "no change feed") || !strings.Contains(text, "RESP3") || strings.Contains(text, "feed install") {
		t.Errorf("it says %s", text)
	}
}
