package authority_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	secret  = "a-secret-of-at-least-thirty-two-bytes"
	retired = "the-secret-before-the-last-rotation-x"
	name    = "better-auth.session_token"
)

// counting counts what reaches the store.
type counting struct {
	store.Store
	calls, tokens int
}

func (c *counting) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	c.calls++
	c.tokens += len(tokens)
	return c.Store.Lookup(ctx, era, tokens)
}

func open(t *testing.T, token string) *counting {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sqlite")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	err = sqlite.Seed(t.Context(), path,
		store.User{ID: "u1", Name: "Alice", Email: "alice@example.com", CreatedAt: noon, UpdatedAt: noon},
		store.Session{ID: "s1", UserID: "u1", CreatedAt: noon.Add(-24 * time.Hour), UpdatedAt: noon.Add(-24 * time.Hour), ExpiresAt: noon.Add(144 * time.Hour)}, token)
	if err != nil {
		t.Fatal(err)
	}
	return &counting{Store: st}
}

func newAuthority(t *testing.T, st store.Store, change func(*authority.Config)) *authority.Authority {
	t.Helper()
	cfg := authority.Config{
		Cookies:      sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}, Retired: []string{retired}},
		Companions:   []authority.Companion{{Session: name, DontRemember: "better-auth.dont_remember"}},
		Policy:       authority.Policy{ExpiresIn: 168 * time.Hour, UpdateAge: 24 * time.Hour},
		MaxBatchSize: 8,
	}
	if change != nil {
		change(&cfg)
	}
	a, err := authority.New(cfg, authority.Direct(st))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func cookie(value, key string) string {
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(value, key))
}

// atNoon is a call that arrives now, while the wall clock says noon.
func atNoon() authority.Call { return authority.Call{Now: noon, Arrived: clock.Now()} }

func headers(c string) authority.Credential { return authority.Credential{Cookie: c} }

// TestUnverifiedNeverReachesTheStore is P8's: unsigned and mis-signed
// credentials cost no store read, and one batch costs one.
func TestUnverifiedNeverReachesTheStore(t *testing.T) {
	token := sessioncookie.NewToken()
	st := open(t, token)
	a := newAuthority(t, st, nil)
	bad := []authority.Credential{
		headers(""), headers("a=b"), headers(name + "=" + token), headers(cookie(token, "another-secret-of-at-least-32-bytes")), headers(cookie(token, retired)),
		{Form: authority.FormToken, Value: token}, {Form: authority.FormCookieValue, Value: token},
	}
	for i, c := range bad {
		answer, err := a.Validate(t.Context(), atNoon(), c)
		if err != nil || answer.Verdict.Good() {
			t.Errorf("%d: %+v, %v", i, answer.Verdict, err)
		}
	}
	if _, err := a.ValidateBatch(t.Context(), atNoon(), bad); err != nil {
		t.Error(err)
	}
	if st.calls != 0 {
		t.Errorf("%d lookups for credentials that do not verify", st.calls)
	}
	answers, err := a.ValidateBatch(t.Context(), atNoon(), []authority.Credential{headers("a=b"), headers(cookie(token, secret)), headers(cookie("unknown", secret))})
	if err != nil || answers[0].Verdict.Good() || !answers[1].Verdict.Good() || answers[2].Verdict.Reason != authority.ReasonNotFound {
		t.Errorf("got %+v, %v", answers, err)
	}
	if st.calls != 1 || st.tokens != 2 {
		t.Errorf("a batch of two verified tokens: %d lookups of %d tokens", st.calls, st.tokens)
	}
}

// TestReasonOfEverySentinel has a credential for each sentinel of sessioncookie.
func TestReasonOfEverySentinel(t *testing.T) {
	token := sessioncookie.NewToken()
	a := newAuthority(t, open(t, token), nil)
	tests := map[authority.Reason]authority.Credential{
		authority.ReasonNone:               headers(cookie(token, secret)),
		authority.ReasonNoCredential:       headers("a=b"),
		authority.ReasonMalformed:          headers(name + "=" + token),
		authority.ReasonBadSignature:       headers(cookie(token, "another-secret-of-at-least-32-bytes")),
		authority.ReasonRetiredSecret:      headers(cookie(token, retired)),
		authority.ReasonUnsignedNotAllowed: {Form: authority.FormToken, Value: token},
		authority.ReasonNotFound:           headers(cookie("unknown", secret)),
	}
	for want, c := range tests {
		answer, err := a.Validate(t.Context(), atNoon(), c)
		if err != nil || answer.Verdict.Reason != want {
			t.Errorf("got %s, %v; want %s", answer.Verdict.Reason, err, want)
		}
	}
	large, err := a.Validate(t.Context(), atNoon(), headers(cookie(token, secret)+"; x="+strings.Repeat("x", sessioncookie.DefaultMaxBytes)))
	if err != nil || large.Verdict.Reason != authority.ReasonMalformed {
		t.Errorf("over the limit: %s, %v", large.Verdict.Reason, err)
	}
}

func TestAcceptRetired(t *testing.T) {
	token := sessioncookie.NewToken()
	a := newAuthority(t, open(t, token), func(c *authority.Config) { c.AcceptRetired = true })
	answer, err := a.Validate(t.Context(), atNoon(), headers(cookie(token, retired)))
	if err != nil || !answer.Verdict.Good() || answer.Secret != 1 {
		t.Errorf("got %+v by secret %d, %v", answer.Verdict, answer.Secret, err)
	}
}

// TestDontRemember: the issuer never refreshes a session whose dont_remember
// cookie it signed.
func TestDontRemember(t *testing.T) {
	token := sessioncookie.NewToken()
	a := newAuthority(t, open(t, token), nil)
	mark := "; better-auth.dont_remember=" + sessioncookie.Encode(sessioncookie.Sign("true", secret))
	forged := "; better-auth.dont_remember=true"
	for extra, want := range map[string]bool{"": true, mark: false, forged: true} {
		answer, err := a.Validate(t.Context(), atNoon(), headers(cookie(token, secret)+extra))
		if err != nil || !answer.Verdict.Good() || answer.Verdict.NeedsRefresh != want {
			t.Errorf("%q: %+v, %v; want needs_refresh %t", extra, answer.Verdict, err, want)
		}
	}
}

// TestCompanions: where two names are read, the cookies that count are those beside
// the one that decided.
func TestCompanions(t *testing.T) {
	token := sessioncookie.NewToken()
	a := newAuthority(t, open(t, token), func(c *authority.Config) {
		c.Cookies.Names = []string{"__Secure-" + name, name}
		c.Companions = []authority.Companion{
			{Session: "__Secure-" + name, DontRemember: "__Secure-better-auth.dont_remember"},
			{Session: name, DontRemember: "better-auth.dont_remember"},
		}
	})
	good, mark := cookie(token, secret), "better-auth.dont_remember="+sessioncookie.Encode(sessioncookie.Sign("true", secret))
	for header, want := range map[string]bool{
		good: true, good + "; " + mark: false, good + "; __Secure-" + mark: true,
		"__Secure-" + good + "; " + mark: true, "__Secure-" + good + "; __Secure-" + mark: false,
	} {
		answer, err := a.Validate(t.Context(), atNoon(), headers(header))
		if err != nil || !answer.Verdict.Good() || answer.Verdict.NeedsRefresh != want {
			t.Errorf("%d bytes: %+v, %v; want needs_refresh %t", len(header), answer.Verdict, err, want)
		}
	}
}

func TestBatchTooLarge(t *testing.T) {
	a := newAuthority(t, open(t, "t"), nil)
	if _, err := a.ValidateBatch(t.Context(), atNoon(), make([]authority.Credential, 9)); !errors.Is(err, authority.ErrBatchTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestConfigDigest(t *testing.T) {
	st := open(t, "t")
	first, second := newAuthority(t, st, nil).Intake(), newAuthority(t, st, nil).Intake()
	if !bytes.Equal(first.ConfigDigest, second.ConfigDigest) {
		t.Error("equal configurations have different digests")
	}
	if first.Instance == second.Instance {
		t.Error("two processes have one instance")
	}
	for what, change := range map[string]func(*authority.Config){
		"names":  func(c *authority.Config) { c.Cookies.Names = []string{"sid"} },
		"secret": func(c *authority.Config) { c.Cookies.Secrets = []string{secret + "x"} },
		"policy": func(c *authority.Config) { c.Policy.RefuseBanned = true },
		"bearer": func(c *authority.Config) { c.Cookies.Bearer = true },
	} {
		if bytes.Equal(first.ConfigDigest, newAuthority(t, st, change).Intake().ConfigDigest) {
			t.Errorf("another %s, and the digest is the same", what)
		}
	}
}

func TestUndecided(t *testing.T) {
	token := sessioncookie.NewToken()
	st := open(t, token)
	a := newAuthority(t, st, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Validate(ctx, authority.Call{Now: noon, Arrived: clock.Now()}, headers(cookie(token, secret))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Validate(t.Context(), atNoon(), headers(cookie(token, secret))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
	e, err := a.Explain(t.Context(), noon, st.Describe(), headers(cookie(token, secret)))
	if !errors.Is(err, store.ErrUnavailable) || e.Verdict != authority.VerdictUndecided {
		t.Errorf("explain: %s, %v", e.Verdict, err)
	}
}

// remembering answers from memory what the issuer has changed since without an event.
type remembering struct {
	memory, stored store.Record
	reads          int
}

func (r *remembering) Get(ctx context.Context, q cache.Question) (cache.Answer, error) {
	var out [1]cache.Answer
	err := r.GetBatch(ctx, []cache.Question{q}, out[:])
	return out[0], err
}

func (r *remembering) GetBatch(_ context.Context, qs []cache.Question, out []cache.Answer) error {
	for i, q := range qs {
		if q.MaxAge > 0 {
			out[i] = cache.Answer{Record: &r.memory, AsOf: q.Arrived, FromCache: true}
			continue
		}
		r.reads++
		out[i] = cache.Answer{Record: &r.stored, AsOf: q.Arrived}
	}
	return nil
}

func (r *remembering) Findings(context.Context, string) []store.Finding { return nil }
func (r *remembering) NeedsRead(feed.Revision) (bool, error)            { return false, errors.New("none") }

// TestTimesInMemoryRefuseNobody is A8: the issuer extends a session without an
// event, so a time in a remembered record neither refuses nor asks for a refresh.
func TestTimesInMemoryRefuseNobody(t *testing.T) {
	old := store.Record{Found: true, Session: store.Session{ID: "s1", UserID: "u1", CreatedAt: noon.Add(-200 * time.Hour), UpdatedAt: noon.Add(-169 * time.Hour)}, User: &store.User{ID: "u1"}}
	extended := old
	extended.Session.ExpiresAt = noon.Add(168 * time.Hour)
	for name, expires := range map[string]time.Time{"expired": noon.Add(-time.Hour), "due": noon.Add(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			old.Session.ExpiresAt = expires
			records := &remembering{memory: old, stored: extended}
			cfg := authority.Config{
				Cookies: sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}}, MaxBatchSize: 8,
				Policy: authority.Policy{ExpiresIn: 168 * time.Hour, UpdateAge: 24 * time.Hour},
			}
			a, err := authority.New(cfg, records)
			if err != nil {
				t.Fatal(err)
			}
			call := atNoon()
			call.MaxAge = 5 * time.Second
			c := headers(name + "=" + sessioncookie.Encode(sessioncookie.Sign("token", secret)))
			one, err := a.Validate(t.Context(), call, c)
			if err != nil || !one.Verdict.Good() || one.Verdict.NeedsRefresh || records.reads != 1 {
				t.Errorf("%+v, %v after %d reads", one.Verdict, err, records.reads)
			}
			many, err := a.ValidateBatch(t.Context(), call, []authority.Credential{c, c})
			if err != nil || !many[0].Verdict.Good() || many[1].Verdict.NeedsRefresh || records.reads != 3 {
				t.Errorf("%+v, %v after %d reads", many, err, records.reads)
			}
		})
	}
}
