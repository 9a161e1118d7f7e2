package clienttest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
)

// Subject is an authority under test. It is configured to read one signed session
// cookie, and a cookie that Add returns is of the form name=token.signature.
type Subject interface {
	// Client returns a Client of the authority, closed when the test ends.
	Client(opts ...client.Option) *client.Client
	// Add stores a session, with its user, and returns the Cookie header that
	// names it. Attributes are left out where the store has no such columns.
	Add(client.Session) (cookie string)
	// Revoke ends the session of a Cookie header that Add returned.
	Revoke(cookie string)
	// Break has the authority lose its store.
	Break()
}

var _ Subject = (*Authority)(nil)

// RunContract checks what a Client may expect of every authority. Each subtest
// takes a Subject of its own.
func RunContract(t *testing.T, start func(testing.TB) Subject) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"accepts", testAccepts},
		{"refuses", testRefuses},
		{"batch", testBatch},
		{"revoked is refused", testRevoked},
		{"undecided is not refused", testUndecided},
		{"memory forgets what is revoked", testMemoryForgets},
		{"a revision is enough", testRevision},
		{"what follows a session ends with it", testFollow},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, start(t)) })
	}
}

func sample() client.Session {
	signedIn := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	return client.Session{
		ID: "session-1", UserID: "user-1",
		CreatedAt: signedIn, UpdatedAt: signedIn.Add(time.Minute), ExpiresAt: signedIn.Add(lifetime),
		IPAddress: "192.0.2.7", UserAgent: "contract/1.0",
		User: client.User{
			ID: "user-1", Name: "Ann", Email: "ann@example.com", EmailVerified: true,
			CreatedAt: signedIn.Add(-time.Hour), UpdatedAt: signedIn.Add(-time.Hour),
		},
	}
}

func testAccepts(t *testing.T, subject Subject) {
	want := sample()
	cookie := subject.Add(want)
	sessions := subject.Client()
	_, value, _ := strings.Cut(cookie, "=")
	for _, c := range []struct {
		name       string
		credential client.Credential
		opts       []client.CallOption
	}{
		{"cookie header", client.FromHeaders(cookie, ""), nil},
		{"among other cookies", client.FromHeaders("a=1; "+cookie+"; b=2", ""), nil},
		{"duplicate, the first counts", client.FromHeaders(cookie+"; "+cookie+"x", ""), nil},
		{"cookie value", client.CookieValue(value), nil},
		{"strict", client.FromHeaders(cookie, ""), []client.CallOption{client.Strict()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := sessions.Validate(t.Context(), c.credential, c.opts...)
			if err != nil {
				t.Fatalf("Validate: %v", err)
			}
			ignore := cmpopts.IgnoreFields(client.Session{}, "NeedsRefresh")
			if diff := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(client.Session{}), ignore); diff != "" {
				t.Errorf("session (-want +got):\n%s", diff)
			}
			if got.Fresh(time.Hour) || !got.Fresh(2*time.Hour) {
				t.Error("the session is not an hour old")
			}
		})
	}
}

func testRefuses(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	late := sample()
	late.ID, late.ExpiresAt = "session-2", time.Now().Add(-time.Minute)
	expired := subject.Add(late)
	sessions := subject.Client()
	name, value, _ := strings.Cut(cookie, "=")
	dot := strings.LastIndexByte(value, '.')
	for _, c := range []struct {
		name       string
		credential client.Credential
		reason     client.Reason
		sentinel   error
	}{
		{"nothing", client.Credential{}, client.ReasonNoCredential, client.ErrNoCredential},
		{"other cookies only", client.FromHeaders("theme=dark; "+name+"x=1", ""), client.ReasonNoCredential, client.ErrNoCredential},
		{"no signature", client.FromHeaders(cookie[:strings.LastIndexByte(cookie, '.')], ""), client.ReasonMalformed, client.ErrMalformed},
		{"control byte in another cookie", client.FromHeaders("a=\x01; "+cookie, ""), client.ReasonMalformed, client.ErrMalformed},
		{"another token", client.FromHeaders(name+"=x"+value, ""), client.ReasonBadSignature, client.ErrMalformed},
		{"bare token", client.Token(value[:dot]), client.ReasonUnsignedNotAllowed, client.ErrMalformed},
		{"bad one first", client.FromHeaders(name+"=x"+value+"; "+cookie, ""), client.ReasonBadSignature, client.ErrMalformed},
		{"expired", client.FromHeaders(expired, ""), client.ReasonExpired, client.ErrExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			session, err := sessions.Validate(t.Context(), c.credential)
			if session != nil || client.ReasonOf(err) != c.reason {
				t.Errorf("Validate = %v, %v; want the reason %s", session, err, c.reason)
			}
			if !errors.Is(err, c.sentinel) {
				t.Errorf("error %v does not match %v", err, c.sentinel)
			}
		})
	}
}

func testBatch(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	good := client.FromHeaders(cookie, "")
	credentials := []client.Credential{good, {}, client.FromHeaders(cookie+"x", ""), good}
	results, err := subject.Client().ValidateBatch(t.Context(), credentials)
	if err != nil {
		t.Fatalf("ValidateBatch: %v", err)
	}
	var got []client.Reason
	for _, result := range results {
		if (result.Session == nil) == (result.Err == nil) {
			t.Errorf("result holds %v and %v: want one of them", result.Session, result.Err)
		}
		got = append(got, client.ReasonOf(result.Err))
	}
	want := []client.Reason{"", client.ReasonNoCredential, client.ReasonMalformed, ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func testRevoked(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	sessions := subject.Client()
	if _, err := sessions.Validate(t.Context(), client.FromHeaders(cookie, "")); err != nil {
		t.Fatalf("before Revoke: %v", err)
	}
	subject.Revoke(cookie)
	_, err := sessions.Validate(t.Context(), client.FromHeaders(cookie, ""), client.Strict())
	if !errors.Is(err, client.ErrInvalid) {
		t.Errorf("after Revoke: %v; want ErrInvalid", err)
	}
}

func testUndecided(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	sessions := subject.Client()
	if _, err := sessions.Validate(t.Context(), client.FromHeaders(cookie, "")); err != nil {
		t.Fatalf("before Break: %v", err)
	}
	subject.Break()
	session, err := sessions.Validate(t.Context(), client.FromHeaders(cookie, ""), client.Strict())
	if session != nil || !errors.Is(err, client.ErrUnavailable) || client.ReasonOf(err) != "" {
		t.Errorf("Validate = %v, %v; want ErrUnavailable and nothing else", session, err)
	}
}

// contractPatience is longer than any promise of the contract takes to come true:
// a stream ends at most two bounds after the commit.
const contractPatience = 3 * staleness

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	late := time.NewTimer(contractPatience)
	defer late.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-again.C:
		case <-late.C:
			t.Fatalf("%s: not within %v", what, contractPatience)
		}
	}
}

// remembered returns a Client that answers a credential from memory.
func remembered(t *testing.T, subject Subject, credential client.Credential) *client.Client {
	t.Helper()
	sessions := subject.Client()
	eventually(t, "the session is remembered", func() bool {
		if _, err := sessions.Validate(t.Context(), credential); err != nil {
			t.Fatalf("before Revoke: %v", err)
		}
		return sessions.Stats().Hits > 0
	})
	return sessions
}

func testMemoryForgets(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	credential := client.FromHeaders(cookie, "")
	sessions := remembered(t, subject, credential)
	subject.Revoke(cookie)
	if _, err := sessions.Validate(t.Context(), credential, client.Strict()); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("strict after Revoke: %v; want ErrInvalid", err)
	}
	// What a client has read of the end itself it does not forget.
	for range 3 {
		if _, err := sessions.Validate(t.Context(), credential); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("after a strict refusal: %v; want ErrInvalid", err)
		}
	}
	// Another client learns of it by itself.
	cookie = subject.Add(other())
	credential = client.FromHeaders(cookie, "")
	sessions = remembered(t, subject, credential)
	subject.Revoke(cookie)
	eventually(t, "the session is refused", func() bool {
		_, err := sessions.Validate(t.Context(), credential)
		if err != nil && !errors.Is(err, client.ErrInvalid) {
			t.Fatalf("after Revoke: %v; want ErrInvalid", err)
		}
		return err != nil
	})
	if _, err := sessions.Validate(t.Context(), credential); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("after a refusal: %v; want ErrInvalid", err)
	}
}

func other() client.Session {
	s := sample()
	s.ID = "session-3"
	s.UserID, s.User.ID, s.User.Email = "user-3", "user-3", "cem@example.com"
	return s
}

func testRevision(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	credential := client.FromHeaders(cookie, "")
	sessions := remembered(t, subject, credential)
	subject.Revoke(cookie)
	revision, err := sessions.Revision(t.Context())
	if unavailable, ok := errors.AsType[*client.UnavailableError](err); ok && status.Code(unavailable.Cause) == codes.FailedPrecondition {
		return // this store has no revisions
	}
	if err != nil {
		t.Fatalf("Revision: %v", err)
	}
	if _, err := sessions.Validate(t.Context(), credential, client.AtLeast(revision)); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("at least the revision after Revoke: %v; want ErrInvalid", err)
	}
}

func testFollow(t *testing.T, subject Subject) {
	cookie := subject.Add(sample())
	credential := client.FromHeaders(cookie, "")
	sessions := remembered(t, subject, credential)
	session, followed, err := sessions.Follow(t.Context(), credential, nil)
	if err != nil || session.ID != "session-1" {
		t.Fatalf("Follow = %v, %v", session, err)
	}
	if err := followed.Err(); err != nil {
		t.Fatalf("the context ended at once: %v", context.Cause(followed))
	}
	subject.Revoke(cookie)
	late := time.NewTimer(contractPatience)
	defer late.Stop()
	select {
	case <-followed.Done():
	case <-late.C:
		t.Fatalf("the context has not ended %v after Revoke", contractPatience)
	}
	if err := context.Cause(followed); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("it ended for %v; want ErrInvalid", err)
	}
}
