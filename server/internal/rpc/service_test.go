package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/replica"
	"github.com/sessiond/sessiond/server/internal/rpc"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	secret = "a-secret-of-at-least-thirty-two-bytes"
	name   = "better-auth.session_token"

	operators = "the-operators-secret"
)

type counts struct {
	verdicts  map[authority.Reason]int
	undecided int
}

func (c *counts) Verdict(r authority.Reason) { c.verdicts[r]++ }
func (c *counts) Undecided(n int)            { c.undecided += n }

type fixture struct {
	client sessiondv1.SessionServiceClient
	admin  sessiondv1.SessionAdminServiceClient
	counts *counts
	store  store.Store
	cookie string
	token  string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sqlite")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	now := time.Now().UTC().Truncate(time.Millisecond)
	token := sessioncookie.NewToken()
	ip := "203.0.113.7"
	err = sqlite.Seed(t.Context(), path,
		store.User{ID: "u1", Name: "Alice", Email: "alice@example.com", EmailVerified: true, CreatedAt: now.Add(-48 * time.Hour), UpdatedAt: now},
		store.Session{ID: "s1", UserID: "u1", CreatedAt: now.Add(-2 * time.Hour), UpdatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(24 * time.Hour), IPAddress: &ip}, token)
	if err != nil {
		t.Fatal(err)
	}
	records := replica.New(replica.Config{
		Bound: clock.DefaultBound, Store: st, CacheBytes: 1 << 20, MaxBatch: 16, MaxReads: 2, ReadTimeout: time.Second, QueueLimit: 16, Log: slog.Default(),
	})
	t.Cleanup(records.Close)
	a, err := authority.New(authority.Config{
		Cookies:        sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}},
		Policy:         authority.Policy{ExpiresIn: 168 * time.Hour, UpdateAge: 24 * time.Hour},
		StalenessBound: 5 * time.Second,
		MaxBatchSize:   4,
	}, records)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{counts: &counts{verdicts: make(map[authority.Reason]int)}, store: st, token: token}
	f.cookie = name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, secret))

	listener := bufconn.Listen(1 << 20)
	srv, traces := grpc.NewServer(), rpc.NewTraces(st.Describe())
	sessiondv1.RegisterSessionServiceServer(srv, rpc.New(a, records, f.counts, traces))
	sessiondv1.RegisterSessionAdminServiceServer(srv, rpc.NewAdmin(a, records, nil, st, traces, operators))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	f.client, f.admin = sessiondv1.NewSessionServiceClient(conn), sessiondv1.NewSessionAdminServiceClient(conn)
	return f
}

func cookieCredential(header string) *sessiondv1.Credential {
	return &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(header)}}}
}

func TestValidate(t *testing.T) {
	f := newFixture(t)
	resp, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential("theme=dark; " + f.cookie)})
	if err != nil {
		t.Fatal(err)
	}
	s := resp.GetSession()
	if s.GetId() != "s1" || s.GetUserId() != "u1" || s.GetUser().GetEmail() != "alice@example.com" || s.GetIpAddress() != "203.0.113.7" {
		t.Errorf("got %v", s)
	}
	if age := s.GetAge().AsDuration(); age < 2*time.Hour || age > 2*time.Hour+time.Minute {
		t.Errorf("age %s, want about 2h", age)
	}
	if left := resp.GetRemainingLifetime().AsDuration(); left > 24*time.Hour || left < 24*time.Hour-time.Minute {
		t.Errorf("remaining %s, want about 24h", left)
	}
	if !resp.GetNeedsRefresh() {
		t.Error("a day before the end of seven, refreshed daily: a refresh is due")
	}
	if resp.GetAge().AsDuration() != 0 || resp.GetInstance() == "" {
		t.Errorf("age %s, instance %q", resp.GetAge(), resp.GetInstance())
	}
	if f.counts.verdicts[authority.ReasonNone] != 1 {
		t.Errorf("counted %v", f.counts.verdicts)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	signed := func(token string) string {
		return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, secret))
	}
	tests := []struct {
		name string
		c    *sessiondv1.Credential
		want sessiondv1.Reason
	}{
		{"empty headers", &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{}}}, sessiondv1.Reason_REASON_NO_CREDENTIAL},
		{"no cookie of ours", cookieCredential("theme=dark"), sessiondv1.Reason_REASON_NO_CREDENTIAL},
		{"bare token in the cookie", cookieCredential(name + "=" + f.token), sessiondv1.Reason_REASON_MALFORMED},
		{"tampered", cookieCredential(strings.Replace(f.cookie, "=", "=x", 1)), sessiondv1.Reason_REASON_BAD_SIGNATURE},
		{"unknown token", cookieCredential(signed(sessioncookie.NewToken())), sessiondv1.Reason_REASON_NOT_FOUND},
		{"NUL in a signed token", cookieCredential(signed("a\x00b")), sessiondv1.Reason_REASON_NOT_FOUND},
		{"bare token", &sessiondv1.Credential{Kind: &sessiondv1.Credential_Token{Token: []byte(f.token)}}, sessiondv1.Reason_REASON_UNSIGNED_NOT_ALLOWED},
		{"header over 64 KiB", cookieCredential(f.cookie + "; x=" + strings.Repeat("x", 64<<10)), sessiondv1.Reason_REASON_MALFORMED},
		{"token of 1 MiB", cookieCredential(signed(strings.Repeat("t", 1<<20))), sessiondv1.Reason_REASON_MALFORMED},
		{"NUL byte", cookieCredential("a=\x00; " + f.cookie), sessiondv1.Reason_REASON_MALFORMED},
		{"empty value", cookieCredential(name + "="), sessiondv1.Reason_REASON_NO_CREDENTIAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: tt.c})
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.GetRefusal().GetReason(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("the server is still up", func(t *testing.T) {
		resp, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential(f.cookie)})
		if err != nil || resp.GetSession() == nil {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

func TestManyCookies(t *testing.T) {
	f := newFixture(t)
	var header bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&header, "c%d=%d; ", i, i)
	}
	header.WriteString(f.cookie)
	resp, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: &sessiondv1.Credential{
		Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: header.Bytes()}},
	}})
	// Within the limit the last of thousands is found; over it the header is malformed.
	if err != nil || (header.Len() <= 64<<10) != (resp.GetSession() != nil) {
		t.Errorf("%d bytes: got %v, %v", header.Len(), resp, err)
	}
}

func TestWrongRequests(t *testing.T) {
	f := newFixture(t)
	batch := func(n int) *sessiondv1.BatchValidateRequest {
		req := &sessiondv1.BatchValidateRequest{}
		for range n {
			req.Credentials = append(req.Credentials, cookieCredential(f.cookie))
		}
		return req
	}
	calls := map[string]func() error{
		"no credential": func() error { _, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{}); return err },
		"empty credential": func() error {
			_, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: &sessiondv1.Credential{}})
			return err
		},
		"negative max_age": func() error {
			_, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential(f.cookie), MaxAge: durationpb.New(-1)})
			return err
		},
		"batch over its limit": func() error { _, err := f.client.BatchValidate(t.Context(), batch(5)); return err },
		"batch with a hole": func() error {
			req := batch(2)
			req.Credentials[1] = &sessiondv1.Credential{}
			_, err := f.client.BatchValidate(t.Context(), req)
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			if err := call(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v, want INVALID_ARGUMENT", err)
			}
		})
	}
}

func TestBatchValidate(t *testing.T) {
	f := newFixture(t)
	resp, err := f.client.BatchValidate(t.Context(), &sessiondv1.BatchValidateRequest{Credentials: []*sessiondv1.Credential{
		cookieCredential("theme=dark"),
		cookieCredential(f.cookie),
		cookieCredential(name + "=" + sessioncookie.Encode(sessioncookie.Sign("unknown", secret))),
		cookieCredential(f.cookie),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range resp.GetVerdicts() {
		got = append(got, v.GetSession().GetId()+v.GetRefusal().GetReason().String())
	}
	want := []string{"REASON_NO_CREDENTIAL", "s1REASON_UNSPECIFIED", "REASON_NOT_FOUND", "s1REASON_UNSPECIFIED"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	empty, err := f.client.BatchValidate(t.Context(), &sessiondv1.BatchValidateRequest{})
	if err != nil || len(empty.GetVerdicts()) != 0 {
		t.Errorf("empty batch: %v, %v", empty, err)
	}
}

// TestStoreAway: undecided is not refused, and what needs no store is still decided.
func TestStoreAway(t *testing.T) {
	f := newFixture(t)
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential(f.cookie)})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
	_, err = f.client.BatchValidate(t.Context(), &sessiondv1.BatchValidateRequest{Credentials: []*sessiondv1.Credential{cookieCredential(f.cookie), cookieCredential("a=b")}})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
	if f.counts.undecided != 3 {
		t.Errorf("counted %d undecided, want 3", f.counts.undecided)
	}
	resp, err := f.client.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential(name + "=tampered." + strings.Repeat("A", 43) + "=")})
	if err != nil || resp.GetRefusal().GetReason() != sessiondv1.Reason_REASON_BAD_SIGNATURE {
		t.Errorf("got %v, %v: a wrong signature needs no store", resp, err)
	}
}

func TestGetIntake(t *testing.T) {
	f := newFixture(t)
	in, err := f.client.GetIntake(t.Context(), &sessiondv1.GetIntakeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.GetCookies()) != 1 || in.GetCookies()[0].GetName() != name || in.GetAuthorization() || in.GetMaxBatchSize() != 4 ||
		in.GetMaxCredentialBytes() != 64<<10 || in.GetStalenessBound().AsDuration() != 5*time.Second || len(in.GetConfigDigest()) != 32 || in.GetInstance() == "" {
		t.Errorf("got %v", in)
	}
	if bytes.Contains(in.GetConfigDigest(), []byte(secret)) {
		t.Error("the digest holds the secret")
	}
}
