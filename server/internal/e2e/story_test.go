package e2e_test

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/sessioncookie"
)

// The answers, apart from the one that names a user.
var (
	noCredential = answer{Code: codes.Unauthenticated, Reason: "NO_CREDENTIAL", Logged: "NO_CREDENTIAL"}
	badSignature = answer{Code: codes.Unauthenticated, Reason: "MALFORMED", Logged: "BAD_SIGNATURE"}
	notFound     = answer{Code: codes.Unauthenticated, Reason: "INVALID", Logged: "NOT_FOUND"}
	expired      = answer{Code: codes.Unauthenticated, Reason: "EXPIRED", Logged: "EXPIRED"}
	notFresh     = answer{Code: codes.PermissionDenied, Reason: "NOT_FRESH", Logged: "NOT_FRESH"}
	unavailable  = answer{Code: codes.Unavailable, Reason: "AUTHORITY_UNAVAILABLE"}
)

// accepted is the answer that names the user, as often as workers were asked.
func accepted(d *door, u user) answer {
	a := answer{Code: codes.OK, Users: []user{u}}
	if d.behind != nil {
		a.Users = append(a.Users, u)
	}
	return a
}

// TestStory drives Better Auth, sessiond on PostgreSQL, three gRPC workers and a
// net/http worker through a session's life, and through the loss of the database
// and of the authority. All of them are processes of their own. The parts build
// on each other.
func TestStory(t *testing.T) {
	f := newFleet(t)
	ada := newBrowser(t, f.issuer)
	adaUser := ada.signUp(t)
	credentials := map[string]string{"good": ada.credential(t)}
	good := ada.cookie(t)

	if !t.Run("before the authority runs", func(t *testing.T) {
		f.everyDoor(t, "no cookie", "", noCredential)
		f.everyDoor(t, "good cookie", good, unavailable)
	}) {
		return
	}

	f.startAuthority(t)
	if !t.Run("once it runs, the user is let in", func(t *testing.T) {
		f.eventuallyAccepted(t, good, adaUser)
	}) {
		return
	}

	unknown := sessioncookie.Sign(sessioncookie.NewToken(), f.secret)
	credentials["unknown"] = unknown
	foreign := sessioncookie.Sign(sessioncookie.NewToken(), rand.Text()+rand.Text())
	credentials["foreign"] = foreign
	tampered := tamper(ada.credential(t))
	credentials["tampered"] = tampered
	t.Run("credentials that nobody was given", func(t *testing.T) {
		f.everyDoor(t, "no cookie", "", noCredential)
		f.everyDoor(t, "other cookies", "theme=dark; _ga=GA1.1.1794.1763", noCredential)
		f.everyDoor(t, "tampered signature", cookieOf(tampered), badSignature)
		f.everyDoor(t, "secret of another deployment", cookieOf(foreign), badSignature)
		f.everyDoor(t, "unknown token", cookieOf(unknown), notFound)
	})

	t.Run("signed out", func(t *testing.T) {
		b := newBrowser(t, f.issuer)
		u := b.signUp(t)
		cookie := b.cookie(t)
		credentials["signed-out"] = b.credential(t)
		f.everyDoorAccepts(t, cookie, u)
		b.signOut(t)
		f.settle(t)
		f.everyDoor(t, "signed out", cookie, notFound)
	})

	t.Run("expired", func(t *testing.T) {
		b := newBrowser(t, f.issuer)
		u := b.signUp(t)
		cookie := b.cookie(t)
		credentials["expired"] = b.credential(t)
		f.everyDoorAccepts(t, cookie, u)
		f.exec(t, `UPDATE session SET "expiresAt" = now() - interval '1 second' WHERE "userId" = $1`, u.ID)
		f.settle(t)
		f.everyDoor(t, "expired", cookie, expired)
	})

	t.Run("recent sign-in", func(t *testing.T) {
		b := newBrowser(t, f.issuer)
		u := b.signUp(t)
		cookie := b.cookie(t)
		credentials["old"] = b.credential(t)
		check(t, f.recent, "at once", cookie, accepted(f.recent, u))
		f.exec(t, `UPDATE session SET "createdAt" = now() - interval '1 hour' WHERE "userId" = $1`, u.ID)
		f.settle(t)
		check(t, f.recent, "an hour later", cookie, notFresh)
		f.everyDoorAccepts(t, cookie, u)
	})

	t.Run("a cookie of our making", func(t *testing.T) {
		token := sessioncookie.NewToken()
		f.exec(t, `INSERT INTO session (id, token, "userId", "expiresAt", "createdAt", "updatedAt")
			VALUES ($1, $2, $3, now() + interval '1 hour', now(), now())`, sessioncookie.NewToken(), token, adaUser.ID)
		credentials["minted"] = sessioncookie.Sign(token, f.secret)
		minted, err := http.ParseSetCookie(sessioncookie.SetCookie(sessionCookie, token, f.secret, sessioncookie.Attributes{Path: "/", HTTPOnly: true}))
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(t, f.issuer)
		if got := b.session(t); got != nil {
			t.Fatalf("the issuer takes a browser without a session for %+v", got)
		}
		b.client.Jar.SetCookies(f.issuer.base, []*http.Cookie{minted})
		if diff := cmp.Diff(&adaUser, b.session(t)); diff != "" {
			t.Errorf("the issuer takes our cookie for another's (-want +got):\n%s", diff)
		}
		f.everyDoorAccepts(t, b.cookie(t), adaUser)
	})

	// Sessions that workers have seen are answered from memory for a while; this
	// one they have not.
	unseen := newBrowser(t, f.issuer)
	unseenUser := unseen.signUp(t)
	credentials["unseen"] = unseen.credential(t)
	t.Run("the database is lost and comes back", func(t *testing.T) {
		f.cluster.Stop(t, pgtest.Fast)
		f.everyDoor(t, "good cookie", unseen.cookie(t), unavailable)
		f.everyDoor(t, "unknown token", cookieOf(unknown), unavailable)
		// These need no database to be refused.
		f.everyDoor(t, "tampered signature", cookieOf(tampered), badSignature)
		f.everyDoor(t, "no cookie", "", noCredential)
		f.cluster.Start(t)
		f.eventuallyAccepted(t, good, adaUser)
	})

	t.Run("the authority is killed and comes back", func(t *testing.T) {
		f.sessiond.kill(t)
		f.everyDoor(t, "good cookie", unseen.cookie(t), unavailable)
		f.everyDoor(t, "unknown token", cookieOf(unknown), unavailable)
		f.everyDoor(t, "tampered signature", cookieOf(tampered), unavailable) // workers hold no secret
		f.everyDoor(t, "no cookie", "", noCredential)
	})
	f.startAuthority(t)
	t.Run("the authority is back", func(t *testing.T) {
		f.eventuallyAccepted(t, good, adaUser)
		f.eventuallyAccepted(t, unseen.cookie(t), unseenUser)
		f.everyDoor(t, "tampered signature", cookieOf(tampered), badSignature)
	})

	t.Run("nobody printed a secret", func(t *testing.T) {
		for what, secret := range f.secrets(t, credentials) {
			for _, p := range f.processes {
				if strings.Contains(p.journal.text(), secret) {
					t.Errorf("%s printed %s", p.name, what)
				}
			}
		}
	})
}

// cookieOf returns the Cookie header for a credential, encoded as browsers send it.
func cookieOf(credential string) string {
	return "theme=dark; " + sessionCookie + "=" + sessioncookie.Encode(credential)
}

// tamper changes the first character of a credential's signature.
func tamper(credential string) string {
	token, signature, _ := strings.Cut(credential, ".")
	first := "A"
	if strings.HasPrefix(signature, first) {
		first = "B"
	}
	return token + "." + first + signature[1:]
}

// check asks at one door and compares the answer.
func check(t *testing.T, d *door, what, cookie string, want answer) {
	t.Helper()
	if diff := cmp.Diff(want, d.put(t, cookie)); diff != "" {
		t.Errorf("%s: %s (-want +got):\n%s", d.name, what, diff)
	}
}

// everyDoor wants the same answer at every door.
func (f *fleet) everyDoor(t *testing.T, what, cookie string, want answer) {
	t.Helper()
	for _, d := range f.doors {
		check(t, d, what, cookie, want)
	}
}

// everyDoorAccepts wants every door to name the user.
func (f *fleet) everyDoorAccepts(t *testing.T, cookie string, u user) {
	t.Helper()
	for _, d := range f.doors {
		check(t, d, "good cookie", cookie, accepted(d, u))
	}
}

// eventuallyAccepted asks at every door until it names the user. Until then the
// door may say that it could not find out, and nothing else.
func (f *fleet) eventuallyAccepted(t *testing.T, cookie string, u user) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, d := range f.doors {
		for {
			got := d.put(t, cookie)
			if cmp.Equal(accepted(d, u), got) {
				break
			}
			if diff := cmp.Diff(unavailable, got); diff != "" {
				t.Fatalf("%s: neither accepted nor unavailable (-unavailable +got):\n%s", d.name, diff)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: still unavailable after %s", d.name, patience)
			}
			<-tick.C
		}
	}
}
