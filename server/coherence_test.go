package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/sessioncookie"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const fleetSecret = "a-secret-of-at-least-thirty-two-bytes"

// fleet is authorities over one Postgres database, and the issuer's hands in it.
type fleet struct {
	t      *testing.T
	dsn    string
	issuer *pgx.Conn
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, dsn: pgtest.Start(t).NewDatabase(t)}
	var err error
	if f.issuer, err = pgx.Connect(t.Context(), f.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.issuer.Close(context.Background()) })
	f.sql(`create table "user" (id text primary key, name text not null, email text not null unique, "emailVerified" boolean not null, image text,
		"createdAt" timestamptz default now() not null, "updatedAt" timestamptz default now() not null)`)
	f.sql(`create table session (id text primary key, "expiresAt" timestamptz not null, token text not null unique, "createdAt" timestamptz default now() not null,
		"updatedAt" timestamptz not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" (id) on delete cascade)`)
	f.sql(`insert into "user" (id, name, email, "emailVerified") select 'u' || i, 'User ' || i, 'u' || i || '@example.com', true from generate_series(0, 9) i`)
	return f
}

func (f *fleet) sql(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.issuer.Exec(f.t.Context(), statement, args...); err != nil {
		f.t.Fatalf("%s: %v", statement, err)
	}
}

func (f *fleet) store() server.StoreConfig {
	return server.StoreConfig{Driver: server.DriverPostgres, DSN: f.dsn}
}

func (f *fleet) install(o server.FeedInstall) {
	f.t.Helper()
	plan, err := server.PlanFeedInstall(f.t.Context(), f.store(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := server.ApplyFeedPlan(f.t.Context(), f.store(), plan.Statements); err != nil {
		f.t.Fatal(err)
	}
}

// signIn returns the session's id and its credential.
func (f *fleet) signIn(n int) (string, *sessiondv1.Credential) {
	f.t.Helper()
	token := sessioncookie.NewToken()
	id := fmt.Sprintf("s-%d-%s", n, token[:6])
	f.sql(`insert into session (id, "expiresAt", token, "updatedAt", "userId") values ($1, now() + interval '7 days', $2, now(), $3)`, id, token, fmt.Sprintf("u%d", n%10))
	return id, &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{
		Cookie: []byte("sid=" + sessioncookie.Encode(sessioncookie.Sign(token, fleetSecret))),
	}}}
}

func (f *fleet) authority(bound time.Duration) (sessiondv1.SessionServiceClient, sessiondv1.SessionAdminServiceClient) {
	f.t.Helper()
	cfg := configuration(f.t)
	cfg.AdminListen, cfg.Store, cfg.Feed.Mode = "", f.store(), server.FeedRequired
	cfg.Authority.StalenessBound = bound
	conn := dial(f.t, run(f.t, cfg), insecure.NewCredentials())
	return sessiondv1.NewSessionServiceClient(conn), sessiondv1.NewSessionAdminServiceClient(conn)
}

// rawWatch is a watcher that renews and acknowledges, and remembers.
type rawWatch struct {
	mu      sync.Mutex
	events  []*sessiondv1.Event
	grants  int
	changed chan struct{}
}

func watch(t *testing.T, c sessiondv1.SessionServiceClient) *rawWatch {
	t.Helper()
	w := &rawWatch{changed: make(chan struct{}, 1)}
	var stream sessiondv1.SessionService_WatchClient
	// Until the replica has its place in the registry it opens no Watch.
	eventually(t, "the Watch opens", func() bool {
		var err error
		if stream, err = c.Watch(t.Context()); err != nil {
			return false
		}
		if err := stream.Send(&sessiondv1.WatchRequest{Protocol: 1, Client: "test"}); err != nil {
			return false
		}
		hello, err := stream.Recv()
		return err == nil && hello.GetHello().GetIntake() != nil
	})
	go func() {
		renew := uint64(1)
		ack := uint64(1)
		for {
			if stream.Send(&sessiondv1.WatchRequest{Renew: renew, Ack: ack}) != nil {
				return
			}
			m, err := stream.Recv()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.events = append(w.events, m.GetEvents()...)
			if m.GetGrant() != nil {
				w.grants++
				renew++
			}
			w.mu.Unlock()
			ack = m.GetNumber()
			select {
			case w.changed <- struct{}{}:
			default:
			}
			if m.GetGrant() == nil {
				continue
			}
			// The renewals are no busy loop.
			select {
			case <-t.Context().Done():
				return
			case <-w.changed:
			}
		}
	}()
	return w
}

func (w *rawWatch) has(wanted func(*sessiondv1.Event) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if wanted(e) {
			return true
		}
	}
	return false
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		if condition() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func validate(t *testing.T, c sessiondv1.SessionServiceClient, credential *sessiondv1.Credential) *sessiondv1.ValidateResponse {
	t.Helper()
	resp, err := c.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestIssuersChangeIsPushed: an entry is answered from memory until the issuer's
// own statement ends the session; then every watcher is told and nobody accepts it.
func TestIssuersChangeIsPushed(t *testing.T) {
	f := newFleet(t)
	f.install(server.FeedInstall{Bound: 5 * time.Second})
	sessions, _ := f.authority(5 * time.Second)
	w := watch(t, sessions)
	_, credential := f.signIn(1)
	var first *sessiondv1.ValidateResponse
	eventually(t, "an answer comes from memory", func() bool {
		first = validate(t, sessions, credential)
		return first.GetAge().AsDuration() > 0
	})
	if first.GetUntracked() || len(first.GetSessionKey()) != 32 {
		t.Errorf("answer %v", first)
	}
	f.sql(`delete from session where "userId" = 'u1'`)
	eventually(t, "the event is pushed", func() bool {
		return w.has(func(e *sessiondv1.Event) bool { return string(e.GetSessionKey()) == string(first.GetSessionKey()) })
	})
	if resp := validate(t, sessions, credential); resp.GetRefusal().GetReason() != sessiondv1.Reason_REASON_NOT_FOUND {
		t.Errorf("after the event: %v", resp)
	}
}

// TestRevokeReachesEveryReplica: when it returns, no replica accepts the session.
func TestRevokeReachesEveryReplica(t *testing.T) {
	f := newFleet(t)
	const bound = time.Second
	f.install(server.FeedInstall{Bound: bound})
	one, admin := f.authority(bound)
	two, _ := f.authority(bound)
	w := watch(t, two)
	for i := range 20 {
		id, credential := f.signIn(i)
		eventually(t, "both answer from memory", func() bool {
			a, b := validate(t, one, credential), validate(t, two, credential)
			return a.GetAge().AsDuration() > 0 && b.GetAge().AsDuration() > 0
		})
		request := &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: &sessiondv1.SessionRef{UserId: fmt.Sprintf("u%d", i%10), SessionId: id}}}
		if i%2 == 0 {
			request.Session = &sessiondv1.RevokeSessionRequest_Credential{Credential: credential}
		}
		start := time.Now()
		revoked, err := admin.RevokeSession(t.Context(), request)
		if err != nil || !revoked.GetDeleted() || revoked.GetRevision() == "" {
			t.Fatalf("%v, %v", revoked, err)
		}
		t.Logf("revoke took %v", time.Since(start))
		for name, c := range map[string]sessiondv1.SessionServiceClient{"one": one, "two": two} {
			if resp := validate(t, c, credential); resp.GetSession() != nil {
				t.Errorf("%d: replica %s accepts it: %v", i, name, resp)
			}
			resp, err := c.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential, AtLeast: revoked.GetRevision()})
			if err != nil || resp.GetSession() != nil {
				t.Errorf("at least that revision: %v, %v", resp, err)
			}
		}
		if !w.has(func(e *sessiondv1.Event) bool { return len(e.GetSessionKey()) > 0 || e.GetUserId() != "" }) {
			t.Error("the watcher was not told")
		}
	}
}

// TestRevisionOfTheIssuersChange: whoever carries it needs not wait for the feed.
func TestRevisionOfTheIssuersChange(t *testing.T) {
	f := newFleet(t)
	f.install(server.FeedInstall{Bound: 5 * time.Second})
	sessions, _ := f.authority(5 * time.Second)
	_, credential := f.signIn(3)
	eventually(t, "the replica has its place", func() bool { return validate(t, sessions, credential).GetAge().AsDuration() > 0 })
	for range 50 {
		_, credential = f.signIn(3)
		validate(t, sessions, credential)
		f.sql(`delete from session where "userId" = 'u3'`)
		revision, err := sessions.GetRevision(t.Context(), &sessiondv1.GetRevisionRequest{})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := sessions.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential, AtLeast: revision.GetRevision()})
		if err != nil || resp.GetSession() != nil {
			t.Fatalf("at the revision after its end: %v, %v", resp, err)
		}
	}
	if _, err := sessions.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential, AtLeast: "nonsense"}); err == nil {
		t.Error("nonsense is taken for a revision")
	}
	strict, err := sessions.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: credential, MaxAge: durationpb.New(0)})
	if err != nil || strict.GetAge().AsDuration() != 0 {
		t.Errorf("strict: %v, %v", strict, err)
	}
}

// TestBoundsMustAgree is G5.
func TestBoundsMustAgree(t *testing.T) {
	f := newFleet(t)
	f.install(server.FeedInstall{Bound: time.Second})
	cfg := configuration(t)
	cfg.Store, cfg.Feed.Mode = f.store(), server.FeedRequired
	srv, err := server.New(t.Context(), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !errors.Is(err, context.Canceled) && err.Error() == "" {
		t.Errorf("ran with another bound: %v", err)
	} else {
		t.Log(err)
	}
}
