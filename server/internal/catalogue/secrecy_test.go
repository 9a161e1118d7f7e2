package catalogue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// outputs is how many explanations are read; make secrecy reads a million.
func outputs(t *testing.T) int {
	text := os.Getenv("SESSIOND_TEST_OUTPUTS")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// piece is how many bytes of a token, a signature or a secret are too many.
const piece = 6

// TestNoPieceIsTold bends what browsers send in every way it can think of, pieces of
// tokens and secrets in the place of names included, and looks for any six bytes of a
// token, a signature or a secret in what explain says.
func TestNoPieceIsTold(t *testing.T) {
	w := newWorld(t)
	verdicts := map[string]int{}
	for range outputs(t) {
		a, c := w.authorities[w.IntN(len(w.authorities))], w.credential()
		e, err := a.Explain(t.Context(), w.now, w, c)
		if err != nil && e.Verdict != authority.VerdictUndecided {
			t.Fatal(err)
		}
		verdicts[outcome(e)]++
		texts := []authority.Explanation{e}
		if answer, err := a.Validate(t.Context(), authority.Call{Now: w.now}, c); err == nil {
			texts = append(texts, a.Trace(w.now, w.Describe(), c, &answer))
		}
		// Not JSON, which would spell some characters of a secret otherwise.
		text := fmt.Appendf(nil, "%+v", texts)
		if at := w.told(text); at >= 0 {
			t.Fatalf("told after %q\nof the headers %q and %q, the value %q (the test's own)", text[:at+piece], c.Cookie, c.Authorization, c.Value)
		}
	}
	t.Log(verdicts)
	for _, reason := range authority.Reasons() {
		if verdicts[reason.String()] == 0 && reason != authority.ReasonUserDeleted {
			t.Errorf("no explanation of %s among them", reason)
		}
	}
	if verdicts[good] == 0 || verdicts[undecided] == 0 {
		t.Error("no good or no undecided one among them")
	}
}

// world holds sessions of known tokens, and what must not be told of them.
type world struct {
	*rand.Rand
	now         time.Time
	tokens      []string
	signers     []string
	records     map[string]*store.Record
	authorities []*authority.Authority
	material    []string // pieces that headers are bent with
	windows     map[uint64]bool
	likely      []uint64 // a filter before windows
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		Rand: rand.New(rand.NewPCG(20261128, 1)), now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
		records: map[string]*store.Record{}, windows: map[uint64]bool{}, likely: make([]uint64, 1<<14),
	}
	text := func(n int, alphabet string) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[w.IntN(len(alphabet))]
		}
		return string(b)
	}
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	w.signers = []string{text(43, alnum+"+/") + "=", text(40, alnum+"!#$%&*-_."), text(32, alnum), text(64, "0123456789abcdef")}
	for i := range 64 {
		token := text(32, alnum)
		w.tokens = append(w.tokens, token)
		w.protect(token)
		w.protect(strings.ToLower(token))
		for _, secret := range w.signers {
			_, signature, _ := strings.Cut(sessioncookie.Sign(token, secret), ".")
			w.protect(signature)
			w.protect(sessioncookie.Encode(signature))
		}
		for _, form := range []authority.TokenForm{authority.TokenPlain, authority.TokenSHA256Hex} {
			w.records[form.Stored(token)] = record(i, w.now, token)
		}
	}
	for _, secret := range w.signers[:2] { // the others are configured nowhere
		w.protect(secret)
	}
	w.material = slices.Concat(w.tokens, w.signers, []string{
		"; ", "=", ".", ";", "%", "%25", `"`, " ", ",", "Cookie: ", "Bearer ", cookieName, secureName, dataName, "_multi-", ".0", "session", "true", "\x01", "\xff", "é", "eyJhbGciOiJIUzI1NiJ9.e30.x",
	})
	for _, v := range []sessioncookie.Version{sessioncookie.V1_2, sessioncookie.V1_4, sessioncookie.V1_6, sessioncookie.V1_7} {
		for variant := range 6 {
			cfg := authority.Config{
				Cookies: sessioncookie.Config{
					Names: []string{cookieName}, Secrets: w.signers[:1], Retired: w.signers[1:2], Version: v,
					Bearer: variant > 0, BearerRequireSignature: variant == 2, AllowBareToken: variant == 3,
				},
				AcceptRetired: variant == 4,
				Companions: []authority.Companion{{Session: cookieName, SessionData: &sessiondata.Config{
					Name: dataName, Strategy: []string{sessiondata.Compact, sessiondata.JWT, sessiondata.JWE}[variant%3], Version: v, Secrets: w.signers[:1],
				}}},
				Policy: authority.Policy{ExpiresIn: 168 * time.Hour, UpdateAge: 24 * time.Hour},
			}
			switch variant {
			case 1:
				cfg.Cookies.Names = []string{secureName, cookieName}
				cfg.Policy.MaxLifetime = 100 * time.Hour
			case 2:
				cfg.Policy.RefuseBanned, cfg.Policy.MaxIdle = true, 100*time.Hour
			case 3:
				cfg.TokenForm = authority.TokenSHA256Hex
			case 5:
				cfg.Cookies.Names = []string{"codex-session"}
			}
			a, err := authority.New(cfg, w)
			if err != nil {
				t.Fatal(err)
			}
			w.authorities = append(w.authorities, a)
		}
	}
	return w
}

// record is one of the ways in which a session is stored.
func record(i int, now time.Time, token string) *store.Record {
	at := now.Add(-time.Duration(i) * 12 * time.Hour)
	r := &store.Record{Found: true, User: &store.User{ID: userID, Name: "Ann", Email: "ann@example.com"}, Session: store.Session{
		ID: sessionID, UserID: userID, CreatedAt: at, UpdatedAt: at, ExpiresAt: now.Add(72 * time.Hour),
	}}
	switch i % 9 {
	case 0:
		// A table without ids, whose tokens are read as such.
		r.Session.ID, r.Session.UserID = token, "user-"+token[:12]
	case 7:
		r.User.Name, r.User.Email = token, token+"@example.com"
		r.Session.Attributes = []store.Attribute{{Name: "device", Kind: store.KindString, Text: token}}
	case 1:
		r.Session.ExpiresAt = now.Add(-time.Hour)
	case 2:
		r.User = nil
	case 3:
		r.User.Banned = true
	case 4:
		r.Revoked = true
	case 5:
		return &store.Record{Found: true, Unreadable: "column expiresAt has an unexpected form"}
	case 6:
		return &store.Record{}
	}
	return r
}

// protect notes every piece of a text.
func (w *world) protect(text string) {
	for i := 0; i+piece <= len(text); i++ {
		k := pack([]byte(text[i : i+piece]))
		w.windows[k] = true
		w.likely[slot(k)/64] |= 1 << (slot(k) % 64)
	}
}

func pack(b []byte) (k uint64) {
	for _, c := range b[:piece] {
		k = k<<8 | uint64(c)
	}
	return k
}

func slot(k uint64) uint64 { return k * 0x9E3779B97F4A7C15 >> 44 }

// told returns where a piece of something protected stands, -1: nowhere.
func (w *world) told(text []byte) int {
	for i := 0; i+piece <= len(text); i++ {
		k := pack(text[i:])
		if w.likely[slot(k)/64]&(1<<(slot(k)%64)) != 0 && w.windows[k] {
			return i
		}
	}
	return -1
}

// credential is what a browser might send, bent.
func (w *world) credential() authority.Credential {
	token, secret := w.tokens[w.IntN(len(w.tokens))], w.signers[min(w.IntN(8), 3)]
	if w.IntN(4) != 0 {
		secret = w.signers[0]
	}
	value := sessioncookie.Sign(token, secret)
	switch w.IntN(6) {
	case 0:
	case 1:
		value = sessioncookie.Encode(sessioncookie.Encode(value))
	case 2:
		value = token
	default:
		value = sessioncookie.Encode(value)
	}
	name := []string{cookieName, cookieName, cookieName, secureName, "codex-session", "shop.session_token", cookieName + "_multi-" + strings.ToLower(token), token[:4+w.IntN(20)]}[w.IntN(8)]
	c := authority.Credential{Cookie: name + "=" + value}
	if w.IntN(3) == 0 {
		c.Cookie = "theme=dark; " + c.Cookie + "; " + dataName + "=" + token
	}
	if w.IntN(4) == 0 {
		id := []string{sessionID, token, ""}[w.IntN(3)]
		c.Cookie += "; " + dataName + "=" + cacheCookie(w.now, id, token, w.signers[w.IntN(2)], time.Duration(w.IntN(20)-2)*time.Minute)
	}
	if w.IntN(4) == 0 {
		c.Authorization = []string{"Bearer ", "bearer ", "Basic ", ""}[w.IntN(4)] + value
		if w.IntN(2) == 0 {
			c.Cookie = ""
		}
	}
	switch w.IntN(12) {
	case 0:
		c = authority.Credential{Form: authority.FormToken, Value: token}
	case 1:
		c = authority.Credential{Form: authority.FormCookieValue, Value: value}
	}
	for range w.IntN(5) {
		for _, text := range []*string{&c.Cookie, &c.Authorization, &c.Value} {
			if *text != "" && w.IntN(2) == 0 {
				*text = w.bend(*text)
			}
		}
	}
	return c
}

// bend cuts, doubles, moves or mixes.
func (w *world) bend(s string) string {
	i := w.IntN(len(s) + 1)
	j := i + w.IntN(len(s)-i+1)
	switch w.IntN(6) {
	case 0:
		return s[:i] + s[j:]
	case 1:
		return s[:j] + s[i:]
	case 2:
		return s[j:] + "; " + s[:j]
	case 3:
		m := w.material[w.IntN(len(w.material))]
		from := w.IntN(len(m))
		return s[:i] + m[from:from+w.IntN(len(m)-from)+1] + s[i:]
	case 4:
		return s[:i] + w.material[len(w.material)-1-w.IntN(20)] + s[i:]
	default:
		return s[:i] + s[i:j] + "=" + s[j:]
	}
}

// Get implements [authority.Records]; now and then the store is away.
func (w *world) Get(_ context.Context, q cache.Question) (cache.Answer, error) {
	if w.IntN(200) == 0 {
		// As of a proxy that repeats what it does not know.
		return cache.Answer{}, fmt.Errorf("%w: unknown command MGET %q", store.ErrUnavailable, q.Token)
	}
	r := w.records[q.Token]
	if r == nil {
		r = &store.Record{}
	}
	return cache.Answer{Record: r, AsOf: q.Arrived}, nil
}

// GetBatch implements [authority.Records].
func (w *world) GetBatch(context.Context, []cache.Question, []cache.Answer) error {
	return store.ErrUnavailable
}

// NeedsRead implements [authority.Records].
func (w *world) NeedsRead(feed.Revision) (bool, error) { return true, nil }

// Describe implements [authority.Source].
func (w *world) Describe() store.Description {
	return store.Description{Driver: "postgres", Location: "db/app", Session: store.TableDescription{Name: "session"}, User: store.TableDescription{Name: "user"}, Zone: []string{"", "UTC"}[w.IntN(2)]}
}

// Clues implements [authority.Source].
func (w *world) Clues(_ context.Context, token string) (store.Clues, error) {
	if w.IntN(100) == 0 {
		return store.Clues{}, fmt.Errorf("%w: unknown command EXISTS %q", store.ErrUnavailable, token)
	}
	if r := w.records[token]; r != nil && w.IntN(8) == 0 {
		place := store.Place{Description: w.Describe(), Record: *r}
		return store.Clues{Places: []store.Place{place, {Description: place.Description}}}, nil
	}
	other := "session:"
	return []store.Clues{{}, {Empty: true}, {SessionID: true}, {Prefix: &other}}[w.IntN(4)], nil
}
