package clienttest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// CookieName is the name of the session cookie the Authority reads.
const CookieName = "better-auth.session_token"

const (
	secret       = "clienttest: not a secret"
	configDigest = "clienttest"

	maxBytes  = 64 << 10
	maxBatch  = 100
	staleness = 5 * time.Second
	lifetime  = 7 * 24 * time.Hour
)

// Authority is an authority in memory. It is safe for concurrent use.
type Authority struct {
	sessiondv1.UnimplementedSessionServiceServer
	tb       testing.TB
	instance string
	listener *bufconn.Listener

	mu       sync.Mutex
	sessions map[string]client.Session // by token
	refused  map[string]client.Reason  // by token
	failure  error
	watchers map[*watcher]struct{}
	revision uint64
	progress chan struct{} // closed when a Watch has acknowledged something, or ended
}

var _ sessiondv1.SessionServiceServer = (*Authority)(nil)

// New starts an Authority. It stops when the test ends.
func New(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{
		tb:       tb,
		instance: rand.Text(),
		listener: bufconn.Listen(1 << 20),
		sessions: map[string]client.Session{},
		refused:  map[string]client.Reason{},
		watchers: map[*watcher]struct{}{},
		progress: make(chan struct{}),
	}
	server := grpc.NewServer()
	sessiondv1.RegisterSessionServiceServer(server, a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(a.listener) }()
	tb.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			tb.Errorf("clienttest: serve: %v", err)
		}
	})
	return a
}

// Client returns a Client of the Authority. It is closed when the test ends.
func (a *Authority) Client(opts ...client.Option) *client.Client {
	a.tb.Helper()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return a.listener.DialContext(ctx) }
	own := []client.Option{client.WithInsecure(), client.WithDialOptions(grpc.WithContextDialer(dial))}
	c, err := client.New("passthrough:///clienttest", append(own, opts...)...)
	if err != nil {
		a.tb.Fatalf("clienttest: %v", err)
	}
	a.tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			a.tb.Errorf("clienttest: %v", err)
		}
	})
	return c
}

// Add stores a session and returns the Cookie header that names it. What the
// session leaves empty is filled in: the ids, sign-in now, a week of life.
func (a *Authority) Add(session client.Session) (cookie string) {
	now := time.Now().Truncate(time.Millisecond)
	fill(&session.ID, rand.Text())
	fill(&session.User.ID, session.UserID)
	fill(&session.User.ID, rand.Text())
	fill(&session.UserID, session.User.ID)
	fill(&session.CreatedAt, now)
	fill(&session.UpdatedAt, session.CreatedAt)
	fill(&session.ExpiresAt, session.UpdatedAt.Add(lifetime))
	token := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions[token] = session
	return cookieOf(token)
}

// AddRefused returns a Cookie header that the Authority refuses for a reason.
func (a *Authority) AddRefused(reason client.Reason) (cookie string) {
	token := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused[token] = reason
	return cookieOf(token)
}

// Revoke ends the session that a Cookie header made by Add names. When it returns,
// no Client of the Authority accepts the session any more.
func (a *Authority) Revoke(cookie string) {
	a.tb.Helper()
	token, reason := tokenOf(strings.TrimPrefix(cookie, CookieName+"="))
	a.mu.Lock()
	_, found := a.sessions[token]
	a.mu.Unlock()
	if !found || reason != sessiondv1.Reason_REASON_UNSPECIFIED {
		a.tb.Fatal("clienttest: Revoke: the cookie names no session: pass what Add returned")
	}
	key := sha256.Sum256([]byte(token))
	event := &sessiondv1.Event{Scope: &sessiondv1.Event_SessionKey{SessionKey: key[:]}}
	a.tell(event, func() { delete(a.sessions, token) })
}

// Fail has every call fail with an error, a gRPC status as a rule. nil ends it.
//
// Its Clients forget what they hold in memory, so that it shows at once. Those of
// a real authority go on from memory for up to the staleness bound.
func (a *Authority) Fail(err error) { a.tell(&sessiondv1.Event{}, func() { a.failure = err }) }

// Break has every call fail as if the store were down.
func (a *Authority) Break() { a.Fail(status.Error(codes.Unavailable, "store unavailable")) }

// GetIntake implements SessionService.
func (a *Authority) GetIntake(context.Context, *sessiondv1.GetIntakeRequest) (*sessiondv1.GetIntakeResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return nil, a.failure
	}
	return a.intake(), nil
}

// GetRevision implements SessionService.
func (a *Authority) GetRevision(context.Context, *sessiondv1.GetRevisionRequest) (*sessiondv1.GetRevisionResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return nil, a.failure
	}
	return &sessiondv1.GetRevisionResponse{Revision: a.presentRevision()}, nil
}

func (a *Authority) intake() *sessiondv1.GetIntakeResponse {
	return &sessiondv1.GetIntakeResponse{
		Cookies:            []*sessiondv1.CookieRule{{Name: CookieName}},
		Authorization:      true,
		MaxCredentialBytes: maxBytes,
		MaxBatchSize:       maxBatch,
		ConfigDigest:       []byte(configDigest),
		StalenessBound:     durationpb.New(staleness),
		Instance:           a.instance,
	}
}

// Validate implements SessionService.
func (a *Authority) Validate(_ context.Context, request *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return nil, a.failure
	}
	if err := a.covers(request.GetAtLeast()); err != nil {
		return nil, err
	}
	return a.decide(request.GetCredential(), time.Now()), nil
}

// BatchValidate implements SessionService.
func (a *Authority) BatchValidate(_ context.Context, request *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return nil, a.failure
	}
	if n := len(request.GetCredentials()); n > maxBatch {
		return nil, status.Errorf(codes.InvalidArgument, "%d credentials, at most %d", n, maxBatch)
	}
	if err := a.covers(request.GetAtLeast()); err != nil {
		return nil, err
	}
	answer := &sessiondv1.BatchValidateResponse{}
	for _, credential := range request.GetCredentials() {
		answer.Verdicts = append(answer.Verdicts, a.decide(credential, time.Now()))
	}
	return answer, nil
}

func (a *Authority) decide(credential *sessiondv1.Credential, now time.Time) *sessiondv1.ValidateResponse {
	answer := &sessiondv1.ValidateResponse{Instance: a.instance, ConfigDigest: []byte(configDigest)}
	token, reason := read(credential)
	if reason == sessiondv1.Reason_REASON_UNSPECIFIED {
		key := sha256.Sum256([]byte(token))
		answer.SessionKey = key[:]
	}
	session, found := a.sessions[token]
	wanted := a.refused[token]
	switch {
	case reason != sessiondv1.Reason_REASON_UNSPECIFIED:
	case wanted != "":
		reason = sessiondv1.Reason(sessiondv1.Reason_value["REASON_"+string(wanted)])
	case !found:
		reason = sessiondv1.Reason_REASON_NOT_FOUND
	case session.ExpiresAt.Before(now):
		reason = sessiondv1.Reason_REASON_EXPIRED
	default:
		answer.Verdict = &sessiondv1.ValidateResponse_Session{Session: sessionToProto(session, now)}
		answer.RemainingLifetime = durationpb.New(session.ExpiresAt.Sub(now))
		answer.NeedsRefresh = session.NeedsRefresh
		return answer
	}
	answer.Verdict = &sessiondv1.ValidateResponse_Refusal{Refusal: &sessiondv1.Refusal{Reason: reason}}
	return answer
}

// read finds and verifies the token of a credential.
func read(credential *sessiondv1.Credential) (string, sessiondv1.Reason) {
	switch kind := credential.GetKind().(type) {
	case *sessiondv1.Credential_CookieValue:
		return tokenOf(string(kind.CookieValue))
	case *sessiondv1.Credential_Token:
		return "", sessiondv1.Reason_REASON_UNSIGNED_NOT_ALLOWED
	}
	headers := credential.GetHeaders()
	for part := range strings.SplitSeq(string(headers.GetCookie()), ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), CookieName+"="); ok {
			return tokenOf(value)
		}
	}
	if value, ok := strings.CutPrefix(string(headers.GetAuthorization()), "Bearer "); ok {
		return tokenOf(value)
	}
	return "", sessiondv1.Reason_REASON_NO_CREDENTIAL
}

// tokenOf splits and verifies token.signature; 0 means that it is well signed.
func tokenOf(value string) (string, sessiondv1.Reason) {
	dot := strings.LastIndexByte(value, '.')
	if dot < 1 || len(value)-dot-1 != base64.StdEncoding.EncodedLen(sha256.Size) {
		return "", sessiondv1.Reason_REASON_MALFORMED
	}
	token := value[:dot]
	if !hmac.Equal([]byte(value[dot+1:]), []byte(signature(token))) {
		return "", sessiondv1.Reason_REASON_BAD_SIGNATURE
	}
	return token, sessiondv1.Reason_REASON_UNSPECIFIED
}

func cookieOf(token string) string { return CookieName + "=" + token + "." + signature(token) }

func signature(token string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func fill[T comparable](field *T, value T) {
	var empty T
	if *field == empty {
		*field = value
	}
}
