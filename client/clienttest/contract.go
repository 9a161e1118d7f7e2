package clienttest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
